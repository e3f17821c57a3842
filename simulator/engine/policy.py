"""One node under a deadline policy (MODEL.md, rule 9): spot, on-demand or nothing, decided again and again.

Spot capacity is a history that goes on whether it is used or not: missing for a `provision` wait, there for a lifetime.
What runs passes through these phases, and the part of the makespan that their time is:

    WAITING   nothing runs (waiting)             STARTUP   of either kind (startup)
    TRAINING  on-demand, up to the work's end    HANDOVER  the save before an on-demand node is left (checkpoint)

A spot node that trains is kept until it goes or the work is done, so that its whole life is one turn of the loop, in
closed form (`engine.segment`).  Otherwise a turn is the next change of the market, the end of a phase, or a multiple of
`decision_hours`; multiples at which the policy cannot but keep what runs are jumped over (`quiet_until`).
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator import policies
from simulator.engine import layout
from simulator.engine.compiled import helper, inlined, kernel
from simulator.engine.copies import add_copies, add_copy, place
from simulator.engine.fates import lifetime_hours, price_integral, wait_hours
from simulator.engine.layout import TOLERANCE
from simulator.engine.outcome import write_run
from simulator.engine.philox import ACQUISITION, CORRUPTION, PROVISION, one_unit, two_units, unit_exponential
from simulator.engine.segment import locate, reach, schedule
from simulator.lifetimes.kernels import PROVISION_CONSTANT
from simulator.policies import GREEDY, NONE, ON_DEMAND, SPOT, UNIFORM_PROGRESS

WAITING, STARTUP, TRAINING, HANDOVER = range(4)
SECONDS = 3600.0

_decide = helper(policies.decide)


@inlined
def quiet_until(policy, now, progress, current, available, work, deadline, restart, step):
    """Up to when nothing but a change of the market can change the choice; `now` where that cannot be told.

    With nothing or an on-demand node running.  Two decision steps are kept in hand at every bound, so that neither
    rounding nor the tolerances of `policies.decide` can matter: what is left out are decisions with a known answer.
    """
    if policy != GREEDY and policy != UNIFORM_PROGRESS:
        return now
    share = work / deadline
    remaining = work - progress
    if current == NONE:
        if available:
            return now
        # Until progress falls behind the line, or the safety net commands an on-demand node.
        return min(progress / share, deadline - remaining - 2.0 * restart - 3.0 * step) - 2.0 * step
    if current == ON_DEMAND:
        if deadline - now - remaining < 2.0 * restart - 1e-6 * step:
            return math.inf  # the safety net holds: slack does not grow any more
        if policy == UNIFORM_PROGRESS and not available:
            return math.inf
        if share >= 1.0 or (policy == GREEDY and available):
            return now
        # Kept until progress, which gains at most 1 - share on the line, is ahead of it.
        ahead = 2.0 * restart * share if policy == UNIFORM_PROGRESS else 0.0
        return now + (now * share + ahead - progress) / (1.0 - share) - 2.0 * step
    return now


@kernel("the engine of deadline policies")
def policy_runs(
    parameters, lifetime, provision, hazard_scales, offsets, price_starts, price_values, price_sums, price_cells,
    key0, key1, first_run, begin, end, out,
):  # fmt: skip
    """Fill columns begin … end − 1 of `out`; arguments as in `simulator.engine.node.node_runs`."""
    work, interval = parameters[layout.WORK], parameters[layout.INTERVAL]
    stall, persist, slow = parameters[layout.STALL], parameters[layout.PERSIST], parameters[layout.PERSIST_SLOWDOWN]
    emergency, notice = parameters[layout.EMERGENCY], parameters[layout.NOTICE]
    notice_success, startup = parameters[layout.NOTICE_SUCCESS], parameters[layout.STARTUP_TIME]
    corruption, keep = parameters[layout.CORRUPTION_RATE], np.int64(parameters[layout.KEEP_LAST])
    refund, horizon = parameters[layout.REFUND] > 0.0, parameters[layout.HORIZON]
    most = parameters[layout.MOST_INTERRUPTIONS]
    lifetime_kind = np.int64(parameters[layout.LIFETIME_KIND])
    provision_kind = np.int64(parameters[layout.PROVISION_KIND])
    cells_per_hour = parameters[layout.CELLS_PER_HOUR]
    policy, step = np.int64(parameters[layout.POLICY]), parameters[layout.DECISION]
    on_demand_price = parameters[layout.ON_DEMAND_PRICE]
    final = stall + persist
    # The job is done when its result is durable.
    deadline = max(parameters[layout.DEADLINE] - final, step)
    full = 1.0 - slow
    first, first_time, cycle, cycle_time = schedule(interval, stall, persist, 1.0, full, 0.0)
    tracked = corruption > 0.0
    ring, good = np.empty(keep if tracked else 1), np.empty(keep if tracked else 1, np.bool_)
    shelf = (ring, good, tracked, keep)
    node, one = np.uint64(0), np.uint64(1)
    for i in range(begin, end):
        run = np.uint64(first_run + i)
        scale = hazard_scales[i] if hazard_scales.size > 1 else hazard_scales[0]
        offset = offsets[i] if offsets.size > 1 else offsets[0]
        progress = newest = now = lost = saving = starting = waiting = idle = slowed = 0.0
        billed = cost = copy_hours = on_demand_hours = hired_at = spent = 0.0
        interruptions = puts = gets = start = count = 0
        acquisition, verdicts, ticks = np.uint64(0), np.uint64(0), 0.0
        last_reclaim = -1.0
        phase, phase_end, current, finished = WAITING, math.inf, NONE, False
        up, announced = False, False
        notice_at, reclaim_at = math.inf, math.inf
        u = one_unit(acquisition, node, run, PROVISION, key0, key1) if provision_kind != PROVISION_CONSTANT else 0.5
        arrives_at = wait_hours(provision_kind, provision, u, lifetime_kind, lifetime, offset)
        while now <= horizon and interruptions <= most:
            market_at = min(notice_at, reclaim_at) if up else arrives_at
            may_change = phase != HANDOVER and (current != SPOT or phase == STARTUP)
            deciding, tick = False, 0.0
            if may_change:
                available = up and (current == SPOT or not announced)
                ticks = max(ticks, np.ceil((now - TOLERANCE) / step))
                quiet = quiet_until(policy, now, progress, current, available, work, deadline, startup, step)
                # A bound that is no number of steps, be it infinite, leaves no decision before the next event.
                tick = max(ticks, np.floor(quiet / step)) * step
                deciding = tick < min(phase_end, market_at) - TOLERANCE
            moment = max(tick, now) if deciding else min(phase_end, market_at)
            if phase == WAITING:
                waiting += moment - now
            elif phase == STARTUP:
                starting += moment - now
            elif phase == TRAINING:
                progress += moment - now
            else:
                saving += moment - now
            now = moment

            market_changes = not deciding and phase_end > market_at + TOLERANCE
            if not deciding and not market_changes:
                if phase == TRAINING:
                    # On-demand to the end: nothing can happen to the final checkpoint.
                    progress = work
                    saving += final
                    now += final
                    puts += 1
                    finished = True
                    break
                if phase == HANDOVER:
                    copy_hours, puts, start, count, newest = add_copy(
                        shelf, copy_hours, puts, start, count, newest, progress, now
                    )
                    phase, phase_end = TRAINING, now + (work - progress)
                    deciding = True
                else:
                    # Rule 6: the end of a startup, and one more for a bad copy.
                    if count > 0:
                        gets += 1
                        newest_at = place(start, count - 1, keep)
                        if tracked and not good[newest_at]:
                            bad = one_unit(verdicts, node, run, CORRUPTION, key0, key1) < corruption
                            verdicts += one
                            if bad:
                                count -= 1
                                copy_hours += now
                                fallback = ring[place(start, count - 1, keep)] if count > 0 else 0.0
                                lost += newest - fallback
                                progress = newest = fallback
                                phase_end = now + startup
                                continue
                            good[newest_at] = True
                    if current == ON_DEMAND:
                        phase, phase_end = TRAINING, now + (work - progress)
                        continue
                    # A spot node: to its end, or to the end of the work.
                    if announced:
                        idle += reclaim_at - now  # rule 2: nothing is trained
                    else:
                        acted = notice_at < math.inf
                        begun = now
                        x = max(min(notice_at, reclaim_at) - begun, 0.0)
                        remaining = work - progress
                        limit, done_at, clear_at = math.inf, math.inf, 0.0
                        if x + TOLERANCE >= remaining:
                            limit, done_at, clear_at = reach(
                                remaining, stall, persist, 1.0, full, 0.0, first, first_time, cycle, cycle_time
                            )
                        finish = max(done_at, clear_at) + final
                        finished = x >= finish - TOLERANCE
                        x = finish if finished else x
                        finishing = x + TOLERANCE >= done_at
                        checkpoints, within, made, stalled, upload = locate(
                            min(x, done_at), limit, stall, persist, 1.0, full, 0.0, first, first_time, cycle, cycle_time
                        )
                        if finishing:
                            made = remaining
                            within += x - done_at
                            saving += x - done_at
                        saving += stalled
                        slowed += slow * upload
                        now = begun + x
                        durable = checkpoints
                        flying = False
                        upload_end = 0.0
                        if checkpoints > 0.0 and within < final - TOLERANCE:
                            durable -= 1.0
                            flying = within >= stall
                            upload_end = now - within + final
                        upload_progress = progress + first + durable * cycle
                        copy_hours, puts, start, count, newest = add_copies(
                            shelf, copy_hours, puts, start, count, newest, durable,
                            progress + first, cycle, begun + first_time + final, cycle_time,
                        )  # fmt: skip
                        progress += made
                        last_moment = now if finished or not acted else reclaim_at
                        saved_at = min(now + emergency, reclaim_at)
                        if finishing and acted and not finished:
                            # Rule 5: the first durable copy of the final state ends the run.
                            finished = True
                            last_moment = min(saved_at, begun + finish)
                            saving += last_moment - now
                        arrives_later = flying and acted and upload_end <= last_moment + TOLERANCE
                        if arrives_later and (finished or upload_end <= saved_at):
                            arrives_later = False
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                        if finished:
                            now = last_moment
                            puts += 1
                            break
                        if acted:
                            idle += reclaim_at - now
                            if made > TOLERANCE:
                                copy_hours, puts, start, count, newest = add_copy(
                                    shelf, copy_hours, puts, start, count, newest, progress, saved_at
                                )
                        if arrives_later:
                            copy_hours, puts, start, count, newest = add_copy(
                                shelf, copy_hours, puts, start, count, newest, upload_progress, upload_end
                            )
                    now, notice_at = reclaim_at, math.inf
                    market_changes = True

            if market_changes:
                # The market changes: one notice, else the reclaim, else the arrival.
                if not up:
                    u_life, u_notice = two_units(acquisition, node, run, ACQUISITION, key0, key1)
                    life = lifetime_hours(
                        lifetime_kind, lifetime, unit_exponential(u_life) * scale, arrives_at + offset
                    )
                    window = min(notice, life)
                    up, announced = True, False
                    reclaim_at = arrives_at + life
                    acted = u_notice < notice_success and emergency <= window
                    notice_at = max(arrives_at, reclaim_at - window) if acted else math.inf
                elif notice_at <= now + TOLERANCE:
                    notice_at, announced = math.inf, True
                else:
                    if current == SPOT:
                        if now > last_reclaim + TOLERANCE:
                            interruptions += 1
                        last_reclaim = now
                        if not (refund and now - hired_at < 1.0 - TOLERANCE):
                            billed += now - hired_at
                            cost += (
                                price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
                                - spent
                            )
                        lost += progress - newest
                        progress, current = newest, NONE
                        phase, phase_end = WAITING, math.inf
                    acquisition += one
                    up, reclaim_at = False, math.inf
                    u = (
                        one_unit(acquisition, node, run, PROVISION, key0, key1)
                        if provision_kind != PROVISION_CONSTANT
                        else 0.5
                    )
                    arrives_at = now + wait_hours(provision_kind, provision, u, lifetime_kind, lifetime, now + offset)
                # What else changes at this moment comes before the decision.
                market_at = min(notice_at, reclaim_at) if up else arrives_at
                deciding = phase != HANDOVER and market_at > now + TOLERANCE
            if not deciding:
                continue

            ticks = np.floor((now + TOLERANCE) / step) + 1.0
            available = up and (current == SPOT or not announced)
            # What the policy would want once the save is done that leaving an on-demand node takes.
            unsaved = current == ON_DEMAND and progress > newest + TOLERANCE
            asked = now + final if unsaved else now
            choice = _decide(
                policy, asked * SECONDS, progress * SECONDS, (phase_end - now if phase == STARTUP else 0.0) * SECONDS,
                current, available, work * SECONDS, deadline * SECONDS, startup * SECONDS, step * SECONDS,
            )  # fmt: skip
            if choice == current:
                continue
            if unsaved:
                phase, phase_end = HANDOVER, now + final
                continue
            if current == ON_DEMAND:
                billed += now - hired_at
                on_demand_hours += now - hired_at
                cost += on_demand_price * (now - hired_at)
            paid = price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
            if current == SPOT:
                billed += now - hired_at
                cost += paid - spent
            lost += progress - newest
            progress = newest
            current, hired_at, spent = choice, now, paid
            phase = WAITING if choice == NONE else STARTUP
            phase_end = math.inf if choice == NONE else now + startup
        if current == SPOT:
            billed += now - hired_at
            paid = price_integral(now, price_starts, price_values, price_sums, price_cells, cells_per_hour)
            cost += paid - spent
        elif current == ON_DEMAND:
            billed += now - hired_at
            on_demand_hours += now - hired_at
            cost += on_demand_price * (now - hired_at)
        write_run(
            out, i, parameters, finished, now, cost, billed, copy_hours + count * now, puts, gets, interruptions,
            interruptions, lost, saving, starting, waiting, idle, slowed, 0.0, 0.0, on_demand_hours,
        )  # fmt: skip
