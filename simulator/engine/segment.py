"""Training between two events of a fleet, in closed form: where the schedule of checkpoints stands after `x` hours.

A segment begins with `pending` hours of an upload still to do (0: none in flight) and a whole interval ahead: whatever
ends a segment (a restore, an emergency save, a newcomer's checkpoint) resets the interval.  With k of n nodes training
runs at `rate` = (k/n)^scaling, during an upload at rate·(1 − slowdown).  Everything is relative to the segment's start.

    first      progress made when the first checkpoint starts;  first_time  hours until then
    cycle      progress between two starts after that;          cycle_time  its duration
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import numpy as np

from simulator.engine.compiled import inlined
from simulator.engine.layout import TOLERANCE


@inlined
def schedule(interval, stall, persist, rate, slow_rate, pending):
    """(first, first_time, cycle, cycle_time)."""
    made = slow_rate * pending
    first = max(interval, made)
    first_time = pending + (first - made) / rate
    uploaded = slow_rate * persist
    cycle = max(interval, uploaded)
    return first, first_time, cycle, stall + persist + (cycle - uploaded) / rate


@inlined
def reach(remaining, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time):
    """(checkpoints that start before `remaining` is done, when it is done, when no upload is in flight any more)."""
    count = np.ceil((remaining - TOLERANCE - first) / cycle)
    if count >= 1.0:
        rest = remaining - first - (count - 1.0) * cycle
        begun = first_time + (count - 1.0) * cycle_time + stall
        pending = persist
    else:
        count, rest, begun = 0.0, remaining, 0.0
    made = slow_rate * pending
    uploading = rest <= made and pending > 0.0
    hours = rest / slow_rate if uploading else pending + (rest - made) / rate
    return count, begun + hours, begun + pending


@inlined
def locate(x, limit, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time):
    """After `x` hours: (checkpoints begun, hours into the latest one's cycle, progress, hours stalled, hours of upload
    while training); at most `limit` checkpoints begin.
    """
    if x + TOLERANCE < first_time or limit < 1.0:
        upload = min(x, pending)
        return 0.0, x, slow_rate * upload + rate * (x - upload), 0.0, upload
    index = min(np.floor((x - first_time + TOLERANCE) / cycle_time), limit - 1.0)
    within = max(x - first_time - index * cycle_time, 0.0)
    upload = min(max(within - stall, 0.0), persist)
    progress = first + index * cycle + slow_rate * upload + rate * max(within - stall - persist, 0.0)
    return index + 1.0, within, progress, index * stall + min(within, stall), pending + index * persist + upload


@inlined
def whole(limit, done_at, clear_at, stall, persist, pending):
    """A segment to the work's end: (hours stalled, hours of training, hours of upload while training)."""
    if limit < 1.0:
        return 0.0, done_at, min(pending, done_at)
    last = clear_at - persist
    return limit * stall, done_at - limit * stall, pending + (limit - 1.0) * persist + min(done_at - last, persist)
