"""One node under every rule but the fleet's (MODEL.md 1-7): one loop turn per interruption.

Words used below, all for one life of the node (from arrival to reclaim):

    trained    hours from the start of training to the reclaim, or to the notice when it is acted on
    progress   durable progress that training starts from;  remaining = work − progress
    cycle      progress between two checkpoint starts: the interval, or what is made during an upload if that is more
    cycle_time its duration: stall + upload + whatever is left of the interval at full speed
    count      periodic checkpoints that start below `work`; checkpoint j starts at progress + interval + j·cycle,
               interval + j·cycle_time after training does, and is durable stall + persist later
    reached    when progress equals work (same clock as `trained`);  wait = rest of the upload in flight then

The newest `keep_last` durable copies lie in a ring ordered by progress.  Their storage is the sum of (deletion −
durability): durability is subtracted when a copy is added, deletion added when it goes, the run's end for the rest.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine import layout
from simulator.engine.compiled import inlined, kernel
from simulator.engine.fates import lifetime_hours, price_integral, wait_hours
from simulator.engine.outcome import write_run
from simulator.engine.philox import CORRUPTION, PROVISION, fill_acquisitions, fill_units
from simulator.lifetimes.kernels import PROVISION_CONSTANT

_BLOCK = 8  # draws are made this many at a time, as vector instructions
_LARGEST_BLOCK = 64


@inlined
def _push(ring, good, start, count, keep, progress):
    """A new newest copy; the oldest goes when the ring is full.  Returns the ring's start and count."""
    if count == keep:
        start = start + 1 if start + 1 < keep else 0
        count -= 1
    at = start + count
    at = at - keep if at >= keep else at
    ring[at], good[at] = progress, False
    return start, count + 1


@kernel("the single-node engine")
def node_runs(
    parameters, lifetime, provision, hazard_scales, offsets, price_starts, price_values, price_sums,
    price_cells, key0, key1, first_run, begin, end, out,
):  # fmt: skip
    """Fill columns begin … end − 1 of `out` (rows × runs); column i is run first_run + i; a run that
    passes the horizon is given up, its makespan negative.

    `lifetime` and `provision` are packed parameters; `hazard_scales` multiplies the unit exponential of every
    lifetime of a run, `offsets` is the hour of the trace at which it begins (one entry per run, or one for all).
    """
    work, interval = parameters[layout.WORK], parameters[layout.INTERVAL]
    stall, persist, slow = parameters[layout.STALL], parameters[layout.PERSIST], parameters[layout.PERSIST_SLOWDOWN]
    emergency, notice, notice_success = (
        parameters[layout.EMERGENCY],
        parameters[layout.NOTICE],
        parameters[layout.NOTICE_SUCCESS],
    )
    startup, corruption, keep = (
        parameters[layout.STARTUP_TIME],
        parameters[layout.CORRUPTION_RATE],
        np.int64(parameters[layout.KEEP_LAST]),
    )
    refund, horizon = parameters[layout.REFUND] > 0.0, parameters[layout.HORIZON]
    most = parameters[layout.MOST_INTERRUPTIONS]
    lifetime_kind, provision_kind = (
        np.int64(parameters[layout.LIFETIME_KIND]),
        np.int64(parameters[layout.PROVISION_KIND]),
    )
    full = 1.0 - slow
    uploaded = full * persist  # progress during one whole upload
    cycle = max(interval, uploaded)
    final = stall + persist
    cycle_time = final + max(interval - uploaded, 0.0)
    per_cycle, per_cycle_time = 1.0 / cycle, 1.0 / cycle_time
    ring, good = np.empty(keep), np.empty(keep, np.bool_)
    cells_per_hour = parameters[layout.CELLS_PER_HOUR]
    node = np.uint64(0)
    hazards, notices, waits = np.empty(_LARGEST_BLOCK), np.empty(_LARGEST_BLOCK), np.zeros(_LARGEST_BLOCK)
    verdict_units = np.empty(_BLOCK)
    usual = 0.0  # acquisitions per run so far, a running mean: how many to draw at once (changes no result)
    for i in range(begin, end):
        run = np.uint64(first_run + i)
        scale = hazard_scales[i] if hazard_scales.size > 1 else hazard_scales[0]
        offset = offsets[i] if offsets.size > 1 else offsets[0]
        drawn = np.int64(0)
        verdicts = drawn_verdicts = np.int64(0)
        size = min(_BLOCK * np.int64(1.0 + usual / _BLOCK), _LARGEST_BLOCK)
        at = size
        progress = clock = lost = saving = starting = waiting = idle = slowed = billed = cost = copy_hours = 0.0
        interruptions = puts = gets = start = count = 0
        while True:
            # Rule 1: acquire.
            if at == size:
                if drawn > 0:
                    size = _BLOCK
                fill_acquisitions(np.uint64(drawn), size, node, run, scale, key0, key1, hazards, notices)
                if provision_kind != PROVISION_CONSTANT:
                    fill_units(np.uint64(drawn), size, node, run, PROVISION, key0, key1, waits)
                drawn += size
                at = 0
            wait = wait_hours(provision_kind, provision, waits[at], lifetime_kind, lifetime, clock + offset)
            waiting += wait
            clock += wait
            arrival = clock
            spent = price_integral(arrival, price_starts, price_values, price_sums, price_cells, cells_per_hour)
            life = lifetime_hours(lifetime_kind, lifetime, hazards[at], arrival + offset)
            u_notice = notices[at]
            at += 1
            window = min(notice, life)
            acted = u_notice < notice_success and emergency <= window
            noticed = life - window

            # Rules 2 and 6: start up, restore, and once more for every bad copy.
            age = 0.0
            alive = True
            while True:
                if age + startup > life + layout.TOLERANCE:
                    starting += life - age
                    alive = False
                    break
                age += startup
                starting += startup
                if count == 0:
                    break
                gets += 1
                if corruption <= 0.0:
                    break
                newest = start + count - 1
                newest = newest - keep if newest >= keep else newest
                if good[newest]:
                    break
                if verdicts == drawn_verdicts:
                    fill_units(np.uint64(verdicts), _BLOCK, node, run, CORRUPTION, key0, key1, verdict_units)
                    drawn_verdicts += _BLOCK
                bad = verdict_units[verdicts % _BLOCK] < corruption
                verdicts += 1
                if not bad:
                    good[newest] = True
                    break
                count -= 1
                copy_hours += arrival + age
                before = newest - 1 if newest > 0 else keep - 1
                fallback = ring[before] if count > 0 else 0.0
                lost += progress - fallback
                progress = fallback

            done = False
            if alive and acted and noticed <= age + layout.TOLERANCE:
                idle += life - age
            elif alive:
                trained = max((noticed if acted else life) - age, 0.0)
                begun = arrival + age
                remaining = work - progress
                started, added, in_flight = 0.0, 0.0, False  # checkpoints begun, durable ones, one still going up
                within = 0.0
                reached = math.inf
                if trained + layout.TOLERANCE >= remaining:
                    # Rule 5: may reach the end.  How many checkpoints start below `work`, and when is all durable?
                    limit = np.ceil((remaining - layout.TOLERANCE - interval) * per_cycle)
                    reached, upload = remaining, 0.0
                    if limit >= 1.0:
                        rest = remaining - interval - (limit - 1.0) * cycle
                        reached = interval + (limit - 1.0) * cycle_time + stall
                        if rest <= uploaded:
                            upload = rest / full
                            reached += upload
                        else:
                            upload = persist
                            reached += persist + rest - uploaded
                    else:
                        limit = 0.0
                    if trained + layout.TOLERANCE >= reached:
                        last_durable = interval + (limit - 1.0) * cycle_time + final
                        finish = (max(reached, last_durable) if limit >= 1.0 else reached) + final
                        ended = trained
                        if trained >= finish - layout.TOLERANCE:
                            ended, done = finish, True
                        elif acted:
                            ended, done = min(trained + emergency, finish), True
                        saving += limit * stall + ended - reached
                        if limit >= 1.0:
                            slowed += slow * ((limit - 1.0) * persist + upload)
                            added = limit if ended >= last_durable - layout.TOLERANCE else limit - 1.0
                        if done:
                            clock = begun + ended
                            puts += 1
                        else:
                            kept = progress + interval + (added - 1.0) * cycle if added >= 1.0 else progress
                            lost += work - kept
                    started = limit
                if trained + layout.TOLERANCE < reached:
                    # Rules 3 and 4: cut in training or in a stall.
                    if trained + layout.TOLERANCE < interval:
                        here = progress + trained
                    else:
                        index = np.floor((trained - interval + layout.TOLERANCE) * per_cycle_time)
                        if reached < math.inf:
                            index = min(index, started - 1.0)
                        within = max(trained - interval - index * cycle_time, 0.0)
                        upload = min(max(within - stall, 0.0), persist)
                        here = progress + interval + index * cycle + full * upload + max(within - final, 0.0)
                        saving += index * stall + min(within, stall)
                        slowed += slow * (index * persist + upload)
                        added = index
                        if within >= final - layout.TOLERANCE:
                            added += 1.0
                        else:
                            in_flight = within >= stall
                    kept = progress + interval + (added - 1.0) * cycle if added >= 1.0 else progress
                    if acted:
                        idle += life - trained - age
                    else:
                        lost += here - kept
                if added >= 1.0:
                    # The copies of this life, in bulk: the j-th durable at first + j·cycle_time.
                    first = begun + interval + final
                    copy_hours -= added * first + cycle_time * (0.5 * added * (added - 1.0))
                    kept_from = float(keep - count)
                    if added > kept_from:
                        gone = added - kept_from
                        copy_hours += gone * first + cycle_time * (gone * kept_from + 0.5 * gone * (gone - 1.0))
                    puts += np.int64(added)
                    if corruption > 0.0:
                        j = max(added - keep, 0.0)
                        while j < added:
                            start, count = _push(ring, good, start, count, keep, progress + interval + j * cycle)
                            j += 1.0
                    else:
                        count = min(keep, count + np.int64(added))
                if done:
                    break
                newest_periodic = progress + interval + (added - 1.0) * cycle if added >= 1.0 else progress
                if acted and trained + layout.TOLERANCE < reached:
                    # The emergency copy, and the upload in flight if it is durable before the reclaim: whichever is
                    # durable first, the emergency copy is the newer one.
                    copies = 1
                    saved = begun + trained + emergency
                    copy_hours += (saved if count == keep else 0.0) - saved
                    if in_flight and trained - within + final <= life - age + layout.TOLERANCE:
                        copies = 2
                        durable = begun + trained - within + final
                        copy_hours -= durable
                        if count == keep:
                            copy_hours += durable
                        elif count + 1 == keep:
                            copy_hours += max(saved, durable)
                    puts += copies
                    if corruption > 0.0:
                        if copies == 2:
                            start, count = _push(ring, good, start, count, keep, progress + interval + added * cycle)
                        start, count = _push(ring, good, start, count, keep, here)
                    else:
                        count = min(keep, count + copies)
                    progress = here
                else:
                    progress = newest_periodic
            # Rule 7: the bill of a life that the provider ended.
            interruptions += 1
            clock = arrival + life
            if not (refund and life < 1.0 - layout.TOLERANCE):
                paid = price_integral(clock, price_starts, price_values, price_sums, price_cells, cells_per_hour)
                billed += life
                cost += paid - spent
            if clock > horizon or interruptions > most:
                break
        if done:
            paid = price_integral(clock, price_starts, price_values, price_sums, price_cells, cells_per_hour)
            billed += clock - arrival
            cost += paid - spent
        usual += 0.05 * (drawn - size + at - usual)
        write_run(
            out, i, parameters, done, clock, cost, billed, copy_hours + count * clock, puts, gets, interruptions,
            interruptions, lost, saving, starting, waiting, idle, slowed, 0.0, 0.0, 0.0,
        )  # fmt: skip
