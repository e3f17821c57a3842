"""The plain case: one node, exponential lifetimes, nothing acted on, one price.  One loop turn per interruption.

Rules 1-5 and 7 where they need no state beyond the newest durable progress.  Between two interruptions the schedule
of checkpoints is known in closed form: the first starts `interval` after training does, with no upload in flight;
each next one a cycle later, a cycle being the larger of the interval and the progress made during an upload.
`simulator.engine.node` gives the same numbers for the same draws; this one exists for its speed.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine import layout
from simulator.engine.compiled import kernel
from simulator.engine.philox import ACQUISITION, one_unit


@kernel("the plain engine")
def plain_runs(parameters, rate, provision, price, key0, key1, first_run, begin, end, out):
    """Fill columns begin … end − 1 of `out` (rows × runs); column i is run first_run + i; a run that
    passes the horizon is given up, its makespan negative.

    Draws: acquisition n of run r takes the first uniform of block (n, 0, r, ACQUISITION).
    """
    work, interval = parameters[layout.WORK], parameters[layout.INTERVAL]
    stall, persist = parameters[layout.STALL], parameters[layout.PERSIST]
    startup, horizon = parameters[layout.STARTUP_TIME], parameters[layout.HORIZON]
    most = parameters[layout.MOST_INTERRUPTIONS]
    cycle = max(interval, persist)
    cycle_time = stall + persist + max(interval - persist, 0.0)
    per_cycle, per_cycle_time, mean = 1.0 / cycle, 1.0 / cycle_time, 1.0 / rate
    final = stall + persist
    node = np.uint64(0)
    one = np.uint64(1)
    for i in range(begin, end):
        run = np.uint64(first_run + i)
        acquisition = np.uint64(0)
        progress = clock = lost = saving = starting = waiting = billed = 0.0
        interruptions = 0
        while True:
            life = -math.log(one_unit(acquisition, node, run, ACQUISITION, key0, key1)) * mean
            acquisition += one
            waiting += provision
            clock += provision
            if life + layout.TOLERANCE < startup:
                starting += life
            else:
                starting += startup
                trained = max(life - startup, 0.0)
                remaining = work - progress
                if trained + layout.TOLERANCE >= remaining:
                    # May reach the end: how many checkpoints start below `work`, and when is it all durable?
                    count = np.ceil((remaining - layout.TOLERANCE - interval) * per_cycle)
                    reached, wait = remaining, 0.0
                    if count >= 1.0:
                        rest = remaining - interval - (count - 1.0) * cycle
                        in_flight = min(rest, persist)
                        reached = interval + (count - 1.0) * cycle_time + stall + rest
                        wait = persist - in_flight
                    else:
                        count = 0.0
                    finish = reached + wait + final
                    if trained >= finish - layout.TOLERANCE:
                        saving += count * stall + wait + final
                        billed += startup + finish
                        clock += startup + finish
                        break
                    if trained + layout.TOLERANCE >= reached:
                        # Reclaimed in the final checkpoint.
                        saving += count * stall + trained - reached
                        kept = progress
                        if count >= 1.0:
                            durable = count
                            if trained < interval + (count - 1.0) * cycle_time + final - layout.TOLERANCE:
                                durable -= 1.0
                            if durable >= 1.0:
                                kept = progress + interval + (durable - 1.0) * cycle
                        lost += work - kept
                        progress = kept
                        interruptions += 1
                        billed += life
                        clock += life
                        continue
                    limit = count - 1.0
                else:
                    limit = math.inf
                if trained + layout.TOLERANCE < interval:
                    lost += trained
                else:
                    index = min(np.floor((trained - interval + layout.TOLERANCE) * per_cycle_time), limit)
                    within = max(trained - interval - index * cycle_time, 0.0)
                    kept = progress
                    durable = index + 1.0 if within >= final - layout.TOLERANCE else index
                    if durable >= 1.0:
                        kept = progress + interval + (durable - 1.0) * cycle
                    saving += index * stall + min(within, stall)
                    lost += progress + interval + index * cycle + max(within - stall, 0.0) - kept
                    progress = kept
            interruptions += 1
            billed += life
            clock += life
            if clock > horizon or interruptions > most:
                clock = -clock
                break
        out[layout.MAKESPAN, i] = clock
        out[layout.COST, i] = billed * price
        out[layout.INTERRUPTIONS, i] = interruptions
        out[layout.LOST, i] = lost
        out[layout.CHECKPOINT, i] = saving
        out[layout.STARTUP, i] = starting
        out[layout.WAITING, i] = waiting
        out[layout.NOTICE_IDLE, i] = 0.0
        out[layout.SLOWDOWN, i] = 0.0
        out[layout.REDUCED, i] = 0.0
        out[layout.OUTAGE, i] = 0.0
        out[layout.RECLAIMED, i] = interruptions
        out[layout.STORAGE, i] = 0.0
        out[layout.BILLED, i] = billed
        out[layout.ON_DEMAND_HOURS, i] = 0.0
