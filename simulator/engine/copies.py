"""The durable copies of a run, newest last: a ring ordered by progress that forgets the oldest (rule 6)."""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

from simulator.engine.compiled import inlined


@inlined
def place(start, index, keep):
    """Where the `index`-th oldest copy lies."""
    at = start + index
    return at - keep if at >= keep else at


@inlined
def push(ring, good, start, count, keep, progress):
    """A copy becomes durable; its verdict is open.  Returns the ring's start and count.

    As a rule it is the newest; an upload that an emergency save overtook goes below it.  When the ring is full the
    oldest goes, be it the new one itself.
    """
    if count == keep:
        if progress < ring[start]:
            return start, count
        start = start + 1 if start + 1 < keep else 0
        count -= 1
    at = place(start, count, keep)
    below = count - 1
    while below >= 0:
        other = place(start, below, keep)
        if ring[other] <= progress:
            break
        ring[at], good[at] = ring[other], good[other]
        at = other
        below -= 1
    ring[at], good[at] = progress, False
    return start, count + 1


@inlined
def add_copies(
    shelf, copy_hours, puts, start, count, newest, added, progress, cycle, durable_at, cycle_time
):  # fmt: skip
    """`added` copies become durable: copy j at durable_at + j·cycle_time, of progress + j·cycle.

    `shelf` is (ring, good, tracked, keep): the ring is kept only where verdicts can be bad (`tracked`).  Returns
    (copy_hours, puts, start, count, newest).
    """
    if added <= 0.0:
        return copy_hours, puts, start, count, newest
    ring, good, tracked, keep = shelf
    copy_hours -= added * durable_at + cycle_time * (0.5 * added * (added - 1.0))
    free = float(keep - count)
    if added > free:
        gone = added - free
        copy_hours += gone * durable_at + cycle_time * (gone * free + 0.5 * gone * (gone - 1.0))
    if tracked:
        j = max(added - keep, 0.0)
        while j < added:
            start, count = push(ring, good, start, count, keep, progress + j * cycle)
            j += 1.0
    else:
        count = min(keep, count + int(added))
    return copy_hours, puts + int(added), start, count, max(newest, progress + (added - 1.0) * cycle)


@inlined
def add_copy(shelf, copy_hours, puts, start, count, newest, progress, durable_at):
    """`add_copies` for one."""
    return add_copies(shelf, copy_hours, puts, start, count, newest, 1.0, progress, 0.0, durable_at, 0.0)
