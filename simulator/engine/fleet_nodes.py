"""The nodes of a fleet: their draws, whose event is next, who goes with whom (MODEL.md, rules 1, 4 and 8).

States of a node, and what it does next:

    REQUESTED  arrives                        UP        waits for the fleet to start (again)
    STARTING   own startup, then READY        READY     waits to be taken in by the next rendezvous
    MEMBER     trains                         LEAVING   was noticed and left; idles until its reclaim (elastic)

Arrays over nodes: `state`; `when` its next event is; `ready_at` the end of its own startup; `notice_at` and
`reclaim_at`, infinite when they are not to come; `left_for` the node whose announced event takes it, or -1.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine.compiled import helper, inlined, vectorized
from simulator.engine.layout import TOLERANCE
from simulator.engine.philox import ACQUISITION, BULK, PROVISION, one_unit, two_units, unit_exponential

READINESS, NOTICED, RECLAIM, ARRIVAL = range(4)
REQUESTED, UP, STARTING, READY, MEMBER, LEAVING = range(6)

AT_ONCE = 8
"""Acquisitions of a node that are drawn together."""

ONE_FOUND = 1 << 32


@helper
def fill_hits(acquisition, node, run, bulk, key0, key1, units, struck):
    """`struck`: the node itself and those that its reclaim takes along, in order; returns how many.

    Without branches: the draws become vector instructions, and who is struck cannot be predicted.
    """
    if bulk <= 0.0:
        struck[0] = node
        return 1
    for other in range(units.size):
        units[other] = one_unit(acquisition, np.uint64(node), run, BULK | np.uint64(other), key0, key1)
    count = 0
    for other in range(units.size):
        struck[count] = other
        count += 1 if (units[other] < bulk) | (other == node) else 0
    return count


@helper
def fill_draws(node, first, size, run, scale, key0, key1, hazards, notices, waits):
    """`size` acquisitions of a node at once, as vector instructions: as fast as two one by one without them.

    `size` is an argument so that the loops stay loops: unrolled, they would not become vectors.
    """
    at = node * AT_ONCE
    for j in range(size):
        u, v = two_units(first + np.uint64(j), np.uint64(node), run, ACQUISITION, key0, key1)
        hazards[at + j] = unit_exponential(u) * scale
        notices[at + j] = v
    if waits.size > 0:
        for j in range(size):
            waits[at + j] = one_unit(first + np.uint64(j), np.uint64(node), run, PROVISION, key0, key1)


@vectorized
def earliest(when):
    """The earliest moment, and the node whose event it is; −1 where several fall on it (within 1 µs)."""
    soonest = math.inf
    for node in range(when.size):
        soonest = min(soonest, when[node])
    # Count and sum of indices in one integer, so that one pass of vector instructions gives both.
    found = 0
    for node in range(when.size):
        found += ONE_FOUND + node if when[node] <= soonest + TOLERANCE else 0
    return soonest, found - ONE_FOUND if found < 2 * ONE_FOUND else -1


@inlined
def next_kind(state, ready_at, notice_at, reclaim_at):
    """What a node's next event is."""
    if state == REQUESTED:
        return ARRIVAL
    if state == STARTING and ready_at <= min(notice_at, reclaim_at) + TOLERANCE:
        return READINESS
    return NOTICED if notice_at <= reclaim_at + TOLERANCE else RECLAIM


@helper
def take_in(state):
    """Newcomers that are ready become members as a rendezvous begins; how many."""
    taken = 0
    for node in range(state.size):
        is_ready = state[node] == READY
        state[node] = MEMBER if is_ready else state[node]
        taken += 1 if is_ready else 0
    return taken


@inlined
def start_together(state, ready_at, until):
    """All nodes that are up go through a startup that ends at `until`; how many."""
    started = 0
    for node in range(state.size):
        if state[node] == UP:
            state[node] = MEMBER
            ready_at[node] = until
            started += 1
    return started


@inlined
def become_ready(first, last, now, state, when, ready_at, notice_at, reclaim_at):
    """Of the nodes first … last - 1, those whose own startup ends now wait to be taken in; how many."""
    became = 0
    for node in range(first, last):
        goes_at = min(notice_at[node], reclaim_at[node])
        if state[node] == STARTING and ready_at[node] <= now + TOLERANCE and ready_at[node] <= goes_at + TOLERANCE:
            state[node] = READY
            when[node] = goes_at
            became += 1
    return became


@inlined
def leave(trigger, struck, strikes, state, when, notice_at, reclaim_at, left_for):
    """An acted-on notice: the nodes that its event will take leave; how many members and ready ones are among them."""
    members = ready = 0
    for index in range(strikes):
        node = struck[index]
        if state[node] != LEAVING and state[node] != REQUESTED:
            if state[node] == MEMBER:
                members += 1
            elif state[node] == READY:
                ready += 1
            state[node], left_for[node] = LEAVING, trigger
            when[node] = min(notice_at[node], reclaim_at[node])
    return members, ready


@inlined
def announced_for(node, otherwise, run, bulk, key0, key1, state, acquisitions, left_for):
    """The node with an announced event that will take `node` along; `otherwise` where there is none."""
    found = otherwise
    for trigger in range(state.size):
        if left_for[trigger] == trigger and state[trigger] == LEAVING:
            u = one_unit(acquisitions[trigger], np.uint64(trigger), run, BULK | np.uint64(node), key0, key1)
            if u < bulk:
                found = trigger
    return found


@inlined
def taken_together(now, run, bulk, key0, key1, hits, struck, taken, going, state, reclaim_at, acquisitions):
    """`going`: all nodes that go where several reclaims fall on one moment; returns how many.

    A node that is taken along causes no event, even one that was due at this very moment.
    """
    taken[:] = False
    for trigger in range(state.size):
        if state[trigger] == REQUESTED or reclaim_at[trigger] > now + TOLERANCE or taken[trigger]:
            continue
        strikes = fill_hits(acquisitions[trigger], trigger, run, bulk, key0, key1, hits, struck)
        for index in range(strikes):
            taken[struck[index]] = taken[struck[index]] or state[struck[index]] != REQUESTED
    gone = 0
    for node in range(state.size):
        going[gone] = node
        gone += 1 if taken[node] else 0
    return gone


@inlined
def present(struck, strikes, going, state):
    """`going`: those of the struck that are there, without branches; returns how many."""
    gone = 0
    for index in range(strikes):
        going[gone] = struck[index]
        gone += 1 if state[struck[index]] != REQUESTED else 0
    return gone
