"""Fleets (MODEL.md, rule 8): an event loop over nodes, with training between events in closed form.

Each turn takes the earliest of the nodes' next events (`engine.fleet_nodes`) and the end of the current phase.
Phases of the run, and the part of the makespan that their time is:

    WAITING    for the first start, or rigid (waiting)       SHORT      elastic: below the minimum (waiting)
    STARTUP    all members start up together (startup)       TRAINING   `engine.segment`, final checkpoint included
    IDLE       rigid: between notice and reclaim (idle)      EMERGENCY  elastic: the save after a notice (idle)
    DETECT, RENDEZVOUS  (outage)                             JOIN       a newcomer's checkpoint (checkpoint)
    ENDING     a notice came in the final checkpoint (checkpoint)
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine import layout
from simulator.engine.compiled import kernel
from simulator.engine.copies import add_copies, add_copy, place
from simulator.engine.fates import lifetime_hours, price_integral
from simulator.engine.fleet_nodes import (
    ARRIVAL,
    AT_ONCE,
    LEAVING,
    MEMBER,
    NOTICED,
    READINESS,
    READY,
    REQUESTED,
    STARTING,
    UP,
    announced_for,
    arrives,
    become_ready,
    blocks_of_hits,
    earliest,
    fill_draws,
    fill_hits,
    latest,
    leave,
    next_kind,
    present,
    start_together,
    struck_below,
    take_in,
    taken_together,
)  # fmt: skip
from simulator.engine.layout import TOLERANCE
from simulator.engine.outcome import write_run
from simulator.engine.philox import CORRUPTION, one_unit
from simulator.engine.segment import locate, reach, schedule, whole
from simulator.lifetimes.kernels import PROVISION_CONSTANT, TRACE

WAITING, STARTUP, TRAINING, IDLE, EMERGENCY, DETECT, RENDEZVOUS, JOIN, SHORT, ENDING = range(10)


@kernel("the fleet engine")
def fleet_runs(
    parameters, lifetime, provision, hazard_scales, offsets, price_starts, price_values, price_sums, price_cells,
    key0, key1, first_run, begin, end, out,
):  # fmt: skip
    """Fill columns begin … end − 1 of `out`; arguments as in `simulator.engine.node.node_runs`."""
    work, interval = parameters[layout.WORK], parameters[layout.INTERVAL]
    stall, persist, slow = parameters[layout.STALL], parameters[layout.PERSIST], parameters[layout.PERSIST_SLOWDOWN]
    emergency, notice = parameters[layout.EMERGENCY], parameters[layout.NOTICE]
    notice_success, startup = parameters[layout.NOTICE_SUCCESS], parameters[layout.STARTUP_TIME]
    corruption, keep = parameters[layout.CORRUPTION_RATE], np.int64(parameters[layout.KEEP_LAST])
    refund, horizon, most = (
        parameters[layout.REFUND] > 0.0,
        parameters[layout.HORIZON],
        parameters[layout.MOST_INTERRUPTIONS],
    )
    detect, rendezvous, bulk = parameters[layout.DETECT], parameters[layout.RENDEZVOUS], parameters[layout.BULK_RATE]
    nodes, least = np.int64(parameters[layout.NODES]), np.int64(parameters[layout.MIN_NODES])
    lifetime_kind = np.int64(parameters[layout.LIFETIME_KIND])
    provision_kind = np.int64(parameters[layout.PROVISION_KIND])
    cells_per_hour = parameters[layout.CELLS_PER_HOUR]
    elastic = least < nodes
    tracked = corruption > 0.0
    # Where arrivals often fall on the moment of another event (in a trace), or are one with the end of a startup, their
    # order matters, and each has its own turn.
    ahead = lifetime_kind != TRACE and startup > TOLERANCE
    ring, good = np.empty(keep if tracked else 1), np.empty(keep if tracked else 1, np.bool_)
    shelf = (ring, good, tracked, keep)
    state = np.empty(nodes, np.int64)
    when, ready_at, notice_at = np.empty(nodes), np.empty(nodes), np.empty(nodes)
    reclaim_at, arrived_at, spent = np.empty(nodes), np.empty(nodes), np.empty(nodes)
    acquisitions = np.empty(nodes, np.uint64)
    doomed, taken = np.empty(nodes, np.bool_), np.empty(nodes, np.bool_)
    left_for = np.empty(nodes, np.int64)
    hits, below = np.empty(blocks_of_hits(nodes), np.uint64), struck_below(bulk)
    struck, going = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    hazards, notices = np.empty(nodes * AT_ONCE), np.empty(nodes * AT_ONCE)
    at_once = hazards.size // nodes
    waits = np.empty(0 if provision_kind == PROVISION_CONSTANT else nodes * AT_ONCE)
    rates = np.empty(nodes + 1)
    for k in range(nodes + 1):
        rates[k] = (k / nodes) ** parameters[layout.SCALING]
    one = np.uint64(1)
    for i in range(begin, end):
        run = np.uint64(first_run + i)
        scale = hazard_scales[i] if hazard_scales.size > 1 else hazard_scales[0]
        offset = offsets[i] if offsets.size > 1 else offsets[0]
        progress = newest = lost = saving = starting = waiting = idle = slowed = reduced = outage = 0.0
        billed = cost = copy_hours = 0.0
        # Not literals: numba would compile the helpers that take them a second time, for the literal 0.
        interruptions = reclaimed = puts = gets = start = count = members = ready = noticed = np.int64(0)
        verdicts = np.uint64(0)
        flying, restoring, joining, in_stall, known = False, False, False, False, False
        saved_at, has_trained = 0.0, False
        coming, coming_at, coming_progress = False, 0.0, 0.0
        upload_end = upload_progress = 0.0
        begun_at = rate = slow_rate = pending = first = first_time = cycle = cycle_time = remaining = 0.0
        limit = done_at = clear_at = join_at = 0.0
        for j in range(nodes):
            fill_draws(
                j, np.uint64(0), at_once, run, scale, key0, key1, provision_kind, provision, hazards, notices, waits
            )
            state[j] = REQUESTED
            acquisitions[j] = 0
            doomed[j], left_for[j] = False, -1
            ready_at[j] = notice_at[j] = reclaim_at[j] = math.inf
            when[j] = arrives(0.0, j * AT_ONCE, waits, provision, lifetime_kind, lifetime, offset)
        phase, since, phase_end, now = WAITING, 0.0, math.inf, 0.0
        finished, last_reclaim, saved_progress = False, -1.0, 0.0
        stale, soonest, next_node, announced = True, math.inf, -1, 0
        filled_node, filled_acquisition, strikes = -1, np.uint64(0), 0
        while True:
            if stale:
                soonest, next_node = earliest(when)
                stale = False
            # At one moment: the job's own events, startups' ends, notices, reclaims, arrivals.  But the end of a wait
            # counts all who are ready.
            own_event = phase_end <= soonest + TOLERANCE
            if own_event and phase == SHORT and soonest <= phase_end + TOLERANCE:
                for m in range(nodes):
                    if when[m] <= soonest + TOLERANCE:
                        kind = next_kind(state[m], ready_at[m], notice_at[m], reclaim_at[m])
                        own_event = own_event and kind != READINESS
            elif own_event and phase == WAITING and has_trained and ahead and soonest <= phase_end + TOLERANCE:
                # At one moment, a reclaim comes before the last arrival that ends the wait.
                for m in range(nodes):
                    if when[m] <= soonest + TOLERANCE and arrived_at[m] < phase_end - TOLERANCE:
                        own_event = False
            if own_event:
                now = phase_end
                if phase == WAITING:
                    up = 0
                    for m in range(nodes):
                        if state[m] == UP:
                            up += 1
                    phase_end = math.inf
                    if up >= least:
                        waiting += now - since
                        members = start_together(state, ready_at, now + startup)
                        phase, since, phase_end = STARTUP, now, now + startup
                    continue
                if phase == STARTUP or (phase == RENDEZVOUS and restoring):
                    # Restore, and start up once more for a bad copy.
                    if phase == STARTUP:
                        starting += now - since
                    else:
                        outage += now - since
                    restoring = False
                    if coming:
                        # A save of a moment ago: if it was not durable yet, it is now.
                        coming = False
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, coming_progress, min(coming_at, now)
                        )
                    if count > 0:
                        gets += 1
                        if tracked and not good[place(start, count - 1, keep)]:
                            bad = one_unit(verdicts, np.uint64(0), run, CORRUPTION, key0, key1) < corruption
                            verdicts += one
                            if bad:
                                count -= 1
                                copy_hours += now
                                fallback = ring[place(start, count - 1, keep)] if count > 0 else 0.0
                                lost += newest - fallback
                                newest = fallback
                                phase, since, phase_end = STARTUP, now, now + startup
                                progress = newest
                                continue
                            good[place(start, count - 1, keep)] = True
                    progress = saved_progress = newest
                elif phase == RENDEZVOUS:
                    outage += now - since
                elif phase == DETECT:
                    outage += now - since
                    if members + ready < least:
                        # The newcomer that would have made them enough went meanwhile.
                        phase, since, phase_end = SHORT, now, math.inf
                        continue
                    phase, since, phase_end = RENDEZVOUS, now, now + rendezvous
                    members += take_in(state)
                    ready = 0
                    continue
                elif phase == EMERGENCY:
                    idle += now - since
                    if coming:
                        # Durable now, but an upload in flight may have been before it.
                        if flying and upload_end <= coming_at:
                            flying = False
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                        coming = False
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, coming_progress, coming_at
                        )
                    if members > 0 and members + ready >= least:
                        phase, since, phase_end = RENDEZVOUS, now, now + rendezvous
                        members += take_in(state)
                        ready = 0
                        continue
                    if members == 0:
                        # Nobody holds the state any more.
                        if flying and upload_end <= now + TOLERANCE:
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                        restoring, flying = True, False
                        progress = newest
                    phase, since, phase_end = SHORT, now, now if members + ready >= least else math.inf
                    continue
                elif phase == SHORT:
                    waiting += now - since
                    phase, since, phase_end = RENDEZVOUS, now, now + rendezvous
                    members += take_in(state)
                    ready = 0
                    continue
                elif phase == JOIN:
                    saving += now - since
                    flying, upload_end, upload_progress = True, now + persist, progress
                    if ready > 0:
                        phase, since, phase_end = RENDEZVOUS, now, now + rendezvous
                        members += take_in(state)
                        ready = 0
                        continue
                elif phase == ENDING:
                    saving += now - since
                    finished = True
                    break
                elif phase == TRAINING:
                    x = now - begun_at
                    if not known and x + TOLERANCE >= remaining / rate:
                        known = True
                        limit, done_at, clear_at = reach(
                            remaining, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time
                        )
                    if joining and not (known and join_at - begun_at + TOLERANCE >= done_at):
                        if now < join_at:
                            phase_end = join_at
                            continue
                        joining = False
                        # Cut for the newcomers' checkpoint (no upload is in flight), or after a stall that serves them.
                        checkpoints, within, made, stalled, upload = locate(
                            x, limit, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time
                        )
                        saving += stalled
                        reduced += (1.0 - rate) * (x - stalled)
                        slowed += rate * slow * upload
                        if pending > 0.0:
                            flying = False
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                        if in_stall:
                            flying, upload_end = True, now + persist
                            upload_progress = progress + made
                            checkpoints -= 1.0
                        elif checkpoints > 0.0 and within + TOLERANCE < stall + persist:
                            # The next periodic one was due at this very moment: this one replaces it.
                            checkpoints -= 1.0
                            saving -= within
                            reduced += (1.0 - rate) * within
                        copy_hours, puts, start, count, newest = add_copies(
                            shelf, copy_hours, puts, start, count, newest, checkpoints,
                            progress + first, cycle, begun_at + first_time + stall + persist, cycle_time,
                        )  # fmt: skip
                        progress += made
                        if in_stall:
                            phase, since, phase_end = RENDEZVOUS, now, now + rendezvous
                            members += take_in(state)
                            ready = 0
                        else:
                            phase, since, phase_end = JOIN, now, now + stall
                        continue
                    joining = False
                    finish = begun_at + max(done_at, clear_at) + stall + persist
                    if now + TOLERANCE < finish:
                        phase_end = finish
                        continue
                    # Done: account for the whole segment.
                    now = finish
                    stalled, trained, uploading = whole(limit, done_at, clear_at, stall, persist, pending)
                    saving += stalled + finish - begun_at - done_at
                    reduced += (1.0 - rate) * trained
                    slowed += rate * slow * uploading
                    if pending > 0.0:
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                        )
                    copy_hours, puts, start, count, newest = add_copies(
                        shelf, copy_hours, puts, start, count, newest, limit,
                        progress + first, cycle, begun_at + first_time + stall + persist, cycle_time,
                    )  # fmt: skip
                    puts += 1
                    finished = True
                    break
                # Into training, if there are enough who can.
                if elastic and members < least:
                    if members == 0:
                        if flying and upload_end <= now + TOLERANCE:
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                        lost += progress - newest
                        progress = newest
                        restoring, flying = True, False
                    phase, since, phase_end = SHORT, now, now if members + ready >= least else math.inf
                    continue
                if not elastic and noticed > 0:
                    phase, since, phase_end = IDLE, now, math.inf
                    continue
                phase, since, begun_at, has_trained = TRAINING, now, now, True
                if flying and upload_end <= now + TOLERANCE:
                    flying = False
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                    )
                pending = upload_end - now if flying else 0.0
                rate = rates[members]
                slow_rate = rate * (1.0 - slow)
                remaining = work - progress
                first, first_time, cycle, cycle_time = schedule(interval, stall, persist, rate, slow_rate, pending)
                known, limit = False, math.inf
                phase_end = now + remaining / rate
                joining = ready > 0
                in_stall = False
                if joining:
                    join_at = now + pending
                    phase_end = min(phase_end, join_at)
                continue

            j, alone = next_node, next_node >= 0
            if not alone:
                for m in range(nodes):
                    j = m if when[m] <= soonest + TOLERANCE else j
            kind = next_kind(state[j], ready_at[j], notice_at[j], reclaim_at[j])
            if not alone:
                for m in range(nodes):
                    if when[m] <= soonest + TOLERANCE:
                        other = next_kind(state[m], ready_at[m], notice_at[m], reclaim_at[m])
                        if other < kind:
                            j, kind = m, other
            stale = True
            now = max(now, when[j])
            if kind == ARRIVAL:
                # Arrivals: each node's fate is drawn.
                moment = now
                from_node, to_node = (j, j + 1) if alone else (0, nodes)
                for j in range(from_node, to_node):
                    if state[j] != REQUESTED or when[j] > moment + TOLERANCE:
                        continue
                    now = max(moment, when[j])
                    drawn = j * AT_ONCE + np.int64(acquisitions[j] % np.uint64(AT_ONCE))
                    life = lifetime_hours(lifetime_kind, lifetime, hazards[drawn], now + offset)
                    window = min(notice, life)
                    arrived_at[j], reclaim_at[j] = now, now + life
                    acted = notices[drawn] < notice_success and emergency <= window
                    notice_at[j] = now + (life - window) if acted else math.inf
                    doomed[j] = False
                    left_for[j] = -1
                    ready_at[j] = now + startup
                    spent[j] = price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
                    when[j] = min(notice_at[j], reclaim_at[j])
                    if announced > 0 and bulk > 0.0:
                        # Whom an announced event will take is under its notice from the arrival on.
                        left_for[j] = announced_for(j, -1, run, below, key0, key1, state, acquisitions, left_for)
                    if left_for[j] >= 0:
                        state[j] = LEAVING
                    elif phase == WAITING:
                        state[j] = UP
                        phase_end = now
                    else:
                        state[j] = STARTING
                        when[j] = min(when[j], ready_at[j])
                continue
            if kind == READINESS:
                from_node, to_node = (j, j + 1) if alone else (0, nodes)
                ready += become_ready(from_node, to_node, now, state, when, ready_at, notice_at, reclaim_at)
                if phase == RENDEZVOUS:
                    outage += now - since
                    since, phase_end = now, now + rendezvous
                    members += take_in(state)
                    ready = 0
                elif phase == SHORT and members + ready >= least:
                    phase_end = now
                elif phase == TRAINING and not joining:
                    x = now - begun_at
                    checkpoints, within, made, stalled, upload = locate(
                        x, limit, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time
                    )
                    in_stall = checkpoints > 0.0 and within + TOLERANCE < stall
                    if in_stall:
                        join_at = now + stall - within
                    elif checkpoints > 0.0:
                        join_at = now + max(stall + persist - within, 0.0)
                    else:
                        join_at = max(now, begun_at + pending)
                    if not (known and join_at - begun_at + TOLERANCE >= done_at):
                        joining = True
                        phase_end = min(phase_end, join_at)
                continue

            is_notice = kind == NOTICED
            gone_members = gone_ready = 0
            if is_notice:
                notice_at[j] = math.inf
                when[j] = reclaim_at[j]
                if not elastic:
                    doomed[j] = True
                    noticed += 1
                    if state[j] != MEMBER or phase != TRAINING:
                        continue
                    gone_members = 1
                else:
                    left_for[j] = j
                    announced += 1
                    if filled_node != j or filled_acquisition != acquisitions[j]:
                        strikes = fill_hits(acquisitions[j], j, nodes, run, below, key0, key1, hits, struck)
                        filled_node, filled_acquisition = j, acquisitions[j]
                    gone_members, gone_ready = leave(
                        now, j, struck, strikes, state, when, arrived_at, notice_at, reclaim_at, left_for
                    )
                    members -= gone_members
                    ready -= gone_ready
            else:
                if now > last_reclaim + TOLERANCE:
                    interruptions += 1
                last_reclaim = now
                if alone:
                    if filled_node != j or filled_acquisition != acquisitions[j]:
                        strikes = fill_hits(acquisitions[j], j, nodes, run, below, key0, key1, hits, struck)
                        filled_node, filled_acquisition = j, acquisitions[j]
                    gone = present(now, j, struck, strikes, going, state, arrived_at)
                else:
                    gone = taken_together(
                        now,
                        run,
                        below,
                        key0,
                        key1,
                        hits,
                        struck,
                        taken,
                        going,
                        state,
                        arrived_at,
                        reclaim_at,
                        acquisitions,
                    )
                    filled_node = -1
                paid = price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
                vanished = False
                for index in range(gone):
                    m = going[index]
                    reclaimed += 1
                    if state[m] == MEMBER:
                        gone_members += 1
                    elif state[m] == READY:
                        gone_ready += 1
                    if doomed[m]:
                        noticed -= 1
                        doomed[m] = False
                    age = now - arrived_at[m]
                    if not (refund and age < 1.0 - TOLERANCE):
                        billed += age
                        cost += paid - spent[m]
                    if left_for[m] == m:
                        announced -= 1
                        left_for[m] = -1
                        vanished = m != j or vanished
                # What a node that is not there yet will do is known, and concerns the others when it is there: unless
                # it may be what the first start waits for, or arrive under the notice of another's event.
                foreseen = ahead and has_trained and announced == 0
                for index in range(gone):
                    m = going[index]
                    acquisitions[m] += one
                    drawn = m * AT_ONCE + np.int64(acquisitions[m] % np.uint64(AT_ONCE))
                    if drawn == m * AT_ONCE:
                        fill_draws(
                            m, acquisitions[m], at_once, run, scale, key0, key1, provision_kind, provision, hazards,
                            notices, waits,
                        )  # fmt: skip
                    arrival = arrives(now, drawn, waits, provision, lifetime_kind, lifetime, offset)
                    state[m], when[m] = REQUESTED, arrival
                    if foreseen:
                        life = lifetime_hours(lifetime_kind, lifetime, hazards[drawn], arrival + offset)
                        window = min(notice, life)
                        arrived_at[m], reclaim_at[m] = arrival, arrival + life
                        acted = notices[drawn] < notice_success and emergency <= window
                        notice_at[m] = arrival + (life - window) if acted else math.inf
                        ready_at[m] = arrival + startup
                        spent[m] = price_integral(
                            arrival, price_starts, price_values, price_sums, price_cells, cells_per_hour
                        )
                        state[m] = STARTING if elastic else UP
                        goes_at = min(notice_at[m], reclaim_at[m])
                        when[m] = min(goes_at, ready_at[m]) if elastic else goes_at
                if vanished:
                    taken[:] = False
                    for index in range(gone):
                        taken[going[index]] = True
                    # Announced events that do not happen, because their node went with another: who left for one of
                    # them comes back, with no second startup.
                    for m in range(nodes):
                        if state[m] == LEAVING and left_for[m] != m and taken[left_for[m]]:
                            # Unless another announced event will take it.
                            left_for[m] = -1
                            left_for[m] = announced_for(m, -1, run, below, key0, key1, state, acquisitions, left_for)
                            if left_for[m] >= 0:
                                continue
                            if phase == WAITING:
                                state[m] = UP
                                phase_end = now
                            else:
                                state[m] = STARTING
                                when[m] = min(when[m], ready_at[m])
                members -= gone_members
                ready -= gone_ready
                if now > horizon or interruptions > most:
                    break
            if joining and ready == 0:
                joining = False
                phase_end = begun_at + (max(done_at, clear_at) + stall + persist if known else remaining / rate)
            if gone_members == 0:
                if phase == SHORT and members + ready < least:
                    phase_end = math.inf
                elif phase == WAITING and has_trained and ahead:
                    phase_end = latest(arrived_at)
                continue
            if phase in (WAITING, ENDING):
                continue
            if phase == SHORT and is_notice:
                # Nothing was trained since the state was saved, if it is in memory at all.
                if members == 0 and not restoring:
                    if flying and upload_end <= now + TOLERANCE:
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                        )
                    restoring, flying, progress = True, False, newest
                continue

            # A loss of members: close the phase that it ends.
            in_memory = True
            if phase == TRAINING:
                joining = False
                x = now - begun_at
                if not known and x + TOLERANCE >= remaining / rate:
                    known = True
                    limit, done_at, clear_at = reach(
                        remaining, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time
                    )
                final = known and x + TOLERANCE >= done_at
                checkpoints, within, made, stalled, upload = locate(
                    min(x, done_at) if final else x,
                    limit, stall, persist, rate, slow_rate, pending, first, first_time, cycle, cycle_time,
                )  # fmt: skip
                trained = (done_at if final else x) - stalled
                if final:
                    made = remaining
                    within += x - done_at
                    saving += x - done_at
                saving += stalled
                reduced += (1.0 - rate) * trained
                slowed += rate * slow * upload
                if pending > 0.0 and x >= pending - TOLERANCE:
                    flying = False
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                    )
                durable = checkpoints
                if checkpoints > 0.0 and within < stall + persist - TOLERANCE:
                    durable -= 1.0
                    flying = within >= stall
                    upload_end = now - within + stall + persist
                    upload_progress = progress + first + durable * cycle
                if durable > 0.0:
                    copy_hours, puts, start, count, newest = add_copies(
                        shelf, copy_hours, puts, start, count, newest, durable,
                        progress + first, cycle, begun_at + first_time + stall + persist, cycle_time,
                    )  # fmt: skip
                progress += made
                if is_notice and final:
                    finish = begun_at + max(done_at, clear_at) + stall + persist
                    phase, since, phase_end = ENDING, now, min(now + emergency, finish)
                    if flying and upload_end <= phase_end + TOLERANCE:
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                        )
                    puts += 1
                    continue
            elif phase == STARTUP:
                if (is_notice and (has_trained or not elastic)) or (elastic and members >= least and not has_trained):
                    continue
                starting += now - since
                in_memory, is_notice = False, False
            elif phase in (IDLE, EMERGENCY):
                idle += now - since
                # The save is certain, but an upload in flight may become durable before it.
                if flying and upload_end <= now + TOLERANCE and not (coming and upload_end > coming_at):
                    flying = False
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                    )
                if coming and coming_at <= now:
                    coming = False
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, coming_progress, coming_at
                    )
            elif phase in (DETECT, RENDEZVOUS):
                outage += now - since
                in_memory = not restoring
            elif phase == JOIN:
                saving += now - since
            elif phase == SHORT:
                waiting += now - since
            since = now

            if is_notice:
                if not in_memory:
                    # What is in memory is not worth saving: the outage goes on, a rendezvous starts over.
                    if members + ready < least:
                        phase, phase_end = SHORT, math.inf
                    elif phase == RENDEZVOUS:
                        phase_end = now + rendezvous
                    continue
                # Nothing is saved that was restored, or that another notice has just saved.
                saved_at = now + emergency
                if progress > saved_progress + TOLERANCE:
                    saved_progress = progress
                    coming, coming_at, coming_progress, newest = True, saved_at, progress, max(newest, progress)
                if flying and elastic and members == 0:
                    # Nobody holds the rest of the upload.
                    if upload_end <= now + TOLERANCE:
                        copy_hours, puts, start, count, newest = add_copy(
                            shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                        )
                    flying = False
                if elastic:
                    phase, phase_end = EMERGENCY, saved_at
                else:
                    phase, phase_end = IDLE, math.inf
                continue
            if in_memory or flying:
                if flying and upload_end <= now + TOLERANCE:
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                    )
                flying = False
            lost += progress - newest
            progress = newest
            flying = False
            if elastic and has_trained:
                restoring = True
                if members + ready < least or phase == SHORT:
                    phase, phase_end = SHORT, now if members + ready >= least else math.inf
                else:
                    phase, phase_end = DETECT, now + detect
                continue
            for m in range(nodes):
                if state[m] == STARTING or state[m] == READY or state[m] == MEMBER:
                    state[m] = UP
                    when[m] = min(notice_at[m], reclaim_at[m])
            members = ready = 0
            phase, phase_end = WAITING, latest(arrived_at) if has_trained and ahead else now
        paid = price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
        for m in range(nodes):
            if state[m] != REQUESTED and arrived_at[m] < now:
                billed += now - arrived_at[m]
                cost += paid - spent[m]
        write_run(
            out, i, parameters, finished, now, cost, billed, copy_hours + count * now, puts, gets, interruptions,
            reclaimed, lost, saving, starting, waiting, idle, slowed, reduced, outage, 0.0,
        )  # fmt: skip
