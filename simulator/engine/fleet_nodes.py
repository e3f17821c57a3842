"""The nodes of a fleet: their draws, whose event is next, who goes with whom (MODEL.md, rules 1, 4 and 8).

States of a node, and what it does next:

    REQUESTED  arrives                        UP        waits for the fleet to start (again)
    STARTING   own startup, then READY        READY     waits to be taken in by the next rendezvous
    MEMBER     trains                         LEAVING   was noticed and left; idles until its reclaim (elastic)

A node whose arrival changes nothing for the others is counted as STARTING (rigid: UP) from its request on, so that its
arrival needs no turn of the loop; it is there once `arrived_at` has come.

Arrays over nodes: `state`; `when` its next event is; `arrived_at`; `ready_at` the end of its own startup; `notice_at`
and `reclaim_at`, infinite when they are not to come; `left_for` the node whose announced event takes it, or -1.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine.compiled import helper, inlined, vectorized
from simulator.engine.fates import empirical_wait, trace_wait
from simulator.engine.layout import TOLERANCE
from simulator.engine.philox import ACQUISITION, BULK, PROVISION, one_unit, philox, two_units, unit_exponential
from simulator.lifetimes.kernels import PROVISION_EXPONENTIAL, TRACE

READINESS, NOTICED, RECLAIM, ARRIVAL = range(4)
REQUESTED, UP, STARTING, READY, MEMBER, LEAVING = range(6)

AT_ONCE = 8
"""Acquisitions of a node that are drawn together."""

ONE_FOUND = 1 << 32

_NONE = np.uint64(0)
_BIT = (np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(8))


@inlined
def blocks_of_hits(nodes):
    """Length of `hits` in `fill_hits`."""
    blocks = (nodes + 3) // 4
    return blocks if blocks < 3 else (blocks + 7) // 8 * 8


@inlined
def struck_below(bulk):
    """The words below which a node is struck, of 2³²: (w + ½)·2⁻³² < bulk, in integers."""
    return np.uint64(max(np.ceil(bulk * 4294967296.0 - 0.5), 0.0))


@helper
def fill_hits(acquisition, node, nodes, run, below, key0, key1, hits, struck):
    """`struck`: the node itself and those that its reclaim takes along, in order; returns how many.

    Without branches: the draws become vector instructions, and who is struck cannot be predicted.  `hits` has a bit for
    each of the four nodes of a block; it is longer than need be, because eight blocks take less time than four that
    are not vectors.
    """
    if below == _NONE:
        struck[0] = node
        return 1
    for block in range(hits.size):
        w0, w1, w2, w3 = philox(acquisition, np.uint64(node), run, BULK | np.uint64(block), key0, key1)
        first = (_BIT[0] if w0 < below else _NONE) | (_BIT[1] if w1 < below else _NONE)
        hits[block] = first | (_BIT[2] if w2 < below else _NONE) | (_BIT[3] if w3 < below else _NONE)
    count = 0
    for other in range(nodes):
        struck[count] = other
        is_struck = (hits[other >> 2] >> np.uint64(other & 3)) & _BIT[0] != _NONE
        count += 1 if is_struck | (other == node) else 0
    return count


@inlined
def strikes(acquisition, node, other, run, below, key0, key1):
    """Whether the reclaim of the node's acquisition takes `other` along."""
    words = philox(acquisition, np.uint64(node), run, BULK | np.uint64(other >> 2), key0, key1)
    lower = words[0] if other & 1 == 0 else words[1]
    upper = words[2] if other & 1 == 0 else words[3]
    return (lower if other & 2 == 0 else upper) < below


@helper
def fill_draws(node, first, size, run, scale, key0, key1, provision_kind, provision, hazards, notices, waits):
    """`size` acquisitions of a node at once, as vector instructions: as fast as two one by one without them.

    `waits` is empty where they are constant.  `size` is an argument so that the loops stay loops: unrolled, they would
    not become vectors.
    """
    at = node * AT_ONCE
    for j in range(size):
        u, v = two_units(first + np.uint64(j), np.uint64(node), run, ACQUISITION, key0, key1)
        hazards[at + j] = unit_exponential(u) * scale
        notices[at + j] = v
    if waits.size == 0:
        return
    if provision_kind == PROVISION_EXPONENTIAL:
        for j in range(size):
            u = one_unit(first + np.uint64(j), np.uint64(node), run, PROVISION, key0, key1)
            waits[at + j] = unit_exponential(u) * provision[0]
        return
    for j in range(size):
        u = one_unit(first + np.uint64(j), np.uint64(node), run, PROVISION, key0, key1)
        waits[at + j] = empirical_wait(u, provision)


@inlined
def arrives(now, drawn, waits, provision, lifetime_kind, lifetime, offset):
    """When a node comes that is asked for now."""
    arrival = now + (waits[drawn] if waits.size > 0 else provision[0])
    if lifetime_kind == TRACE:
        arrival += trace_wait(arrival + offset, lifetime)
    return arrival


@vectorized
def latest(arrived_at):
    """When all nodes are there."""
    last = 0.0
    for node in range(arrived_at.size):
        last = max(last, arrived_at[node])
    return last


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
def leave(now, trigger, struck, count, state, when, arrived_at, notice_at, reclaim_at, left_for):
    """An acted-on notice: the nodes that its event will take leave; how many members and ready ones are among them."""
    members = ready = 0
    for index in range(count):
        node = struck[index]
        if node != trigger and arrived_at[node] >= now - TOLERANCE and state[node] == STARTING:
            # Still to come: whether the event takes it is seen when it is there.
            state[node], when[node] = REQUESTED, arrived_at[node]
        elif state[node] != LEAVING and state[node] != REQUESTED:
            if state[node] == MEMBER:
                members += 1
            elif state[node] == READY:
                ready += 1
            state[node], left_for[node] = LEAVING, trigger
            when[node] = min(notice_at[node], reclaim_at[node])
    return members, ready


@inlined
def announced_for(node, otherwise, run, below, key0, key1, state, acquisitions, left_for):
    """The node with an announced event that will take `node` along; `otherwise` where there is none."""
    found = otherwise
    for trigger in range(state.size):
        announced = left_for[trigger] == trigger and state[trigger] == LEAVING
        if announced and strikes(acquisitions[trigger], trigger, node, run, below, key0, key1):
            found = trigger
    return found


@inlined
def taken_together(
    now, run, below, key0, key1, hits, struck, taken, going, state, arrived_at, reclaim_at, acquisitions
):
    """`going`: all nodes that go where several reclaims fall on one moment; returns how many.

    A node that is taken along causes no event, even one that was due at this very moment.
    """
    taken[:] = False
    for trigger in range(state.size):
        if state[trigger] == REQUESTED or reclaim_at[trigger] > now + TOLERANCE or taken[trigger]:
            continue
        count = fill_hits(acquisitions[trigger], trigger, state.size, run, below, key0, key1, hits, struck)
        for index in range(count):
            other = struck[index]
            is_there = state[other] != REQUESTED and (arrived_at[other] < now - TOLERANCE or other == trigger)
            taken[other] = taken[other] or is_there
    gone = 0
    for node in range(state.size):
        going[gone] = node
        gone += 1 if taken[node] else 0
    return gone


@inlined
def present(now, trigger, struck, count, going, state, arrived_at):
    """`going`: those of the struck that are there, without branches; returns how many.

    At one moment reclaims come before arrivals.
    """
    gone = 0
    for index in range(count):
        node = struck[index]
        going[gone] = node
        gone += 1 if (state[node] != REQUESTED) & ((arrived_at[node] < now - TOLERANCE) | (node == trigger)) else 0
    return gone
