"""One scenario worked out for a screen: the recommended place, what it was compared with, its cost curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from planner import render
from planner.bill import Extras
from planner.cautions import far_below_other_regions, unmet_objective, warnings_about
from planner.evaluate import SWEEP_RUNS, Candidate, Effort, Tick, evaluate
from planner.places import Rejected
from planner.ranking import Objective, best_of, if_real, ranked, ties
from planner.selection import Wanted, select
from planner.views.link import Link
from simulator.spec import Spec
from simulator.sweep import Sweep, sweep

Say = Callable[[str, int, int], None]
"""Told (what, done, total) again and again; whoever wants to stop the work raises from here."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer for one link.  `candidates` are ranked by expected cost."""

    link: Link
    best: Candidate
    candidates: tuple[Candidate, ...]
    if_real: Candidate | None
    """Cheaper than `best` if its price, which looks wrong, is real."""
    ties: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    curve: Sweep
    """Cost against interval at the best place."""
    warnings: tuple[str, ...]


BUNDLED = ("bundled", 0)
"""What tells plans on the bundled prices from those on live ones."""


def plan_key(link: Link, prices: tuple[str, int] = BUNDLED) -> Hashable:
    """What a plan depends on: the same key, the same plan."""
    return ("plan", link.question, prices)


def make_plan(link: Link, say: Say | None = None) -> Plan:
    """Rank the places that the link allows and sweep the interval at the best one.

    Raises InvalidInputError in the user's words where no place can be used.
    """
    objective = link.objective
    selection = select(link.layered, link.knowledge, Wanted())
    found = evaluate(
        link.layered,
        link.knowledge,
        selection.places,
        step_seconds=link.step_seconds,
        effort=Effort(minimise=minimised(objective)),
        progress=_saying(say, "comparing places"),
        tick=_ticking(say, "comparing places"),
    )
    order = ranked(found.candidates, objective)
    best = best_of(order, objective)
    assert best is not None, "evaluate raises when nothing is left"
    curve = Extras.of(best.completed).with_transfer(_known_curve(best) or _new_curve(best, say))
    odd = if_real(order, best, objective)
    return Plan(
        link=link,
        best=best,
        candidates=order,
        if_real=odd,
        ties=ties(order, best, objective),
        rejected=(*selection.rejected, *found.rejected),
        curve=curve,
        warnings=(
            *warnings_about(best, odd),
            *unmet_objective(objective, best),
            *far_below_other_regions(best, order),
        ),
    )


def _known_curve(best: Candidate) -> Sweep | None:
    """The curve that the interval was read from, where that search looked at this place's own cost."""
    found = best.interval.search
    if found is None or found.objective != "cost_usd" or best.spec.policy != "spot-only":
        return None  # (without on-demand nodes their price, which the search leaves out, changes nothing)
    spec = billed(best)
    same = dataclasses.replace(
        found.spec, interval_hours=spec.interval_hours, on_demand_usd_per_hour=spec.on_demand_usd_per_hour
    )
    return found if same == spec and found.runs == _curve_runs(best) else None


def _new_curve(best: Candidate, say: Say | None) -> Sweep:
    spec = billed(best)
    return sweep(spec, runs=_curve_runs(best), seed=best.completed.seed, progress=_saying(say, "trying intervals"))


def _curve_runs(best: Candidate) -> int:
    return min(best.completed.runs, SWEEP_RUNS)


def minimised(objective: Objective) -> str:
    """What the interval is chosen for."""
    return "time" if objective.name == "time" else "cost"


def billed(candidate: Candidate) -> Spec:
    """What was simulated, with disks and the rendezvous host in the price of a node-hour, as the search has it."""
    return Extras.of(candidate.completed).in_node_hours(candidate.spec, candidate.spot_usd_per_hour)


def _saying(say: Say | None, what: str) -> Callable[[int, int], None] | None:
    return None if say is None else lambda done, total: say(what, done, total)


def _ticking(say: Say | None, what: str) -> Tick | None:
    return None if say is None else lambda: say(what, -1, -1)


def moment(start: datetime, hours: float) -> str:
    """When something that takes `hours` from `start` on is done: the weekday within a week, else the date too."""
    at = start + timedelta(hours=hours)
    if hours < 6.5 * 24.0:
        return f"{at:%A} {at:%H:%M}"
    year = "" if at.year == start.year else f" {at.year}"
    return f"{at.day} {at:%B}{year} {at:%H:%M}"


def answer(candidate: Candidate, start: datetime) -> str:
    """The plan in one sentence, as if it started at `start`."""
    best = candidate
    fleet = best.offer.instance if best.nodes == 1 else f"{best.nodes} × {best.offer.instance}"
    done = f"done {moment(start, best.makespan_hours.p50)} (P95 {moment(start, best.makespan_hours.p95)})"
    cost = f"{render.usd(best.cost_usd.p50)} (P95 {render.usd(best.cost_usd.p95)})"
    every = f"save every {render.duration(best.interval.hours * 3600.0)}"
    saved = best.savings_fraction
    if saved is None:
        return f"Rent {fleet} in {best.offer.place}, {every}: {cost}, {done}; no on-demand price is known there."
    if saved <= 0.0:
        on_demand = best.on_demand
        return (
            f"Rent {fleet} on demand, not spot: {render.usd(on_demand.cost_usd)}, "
            f"done {moment(start, on_demand.makespan_hours)}. Spot in {best.offer.place} would cost {cost}, {done}."
        )
    return f"Rent {fleet} in {best.offer.place}, {every}: {cost}, {done}, {render.percent(saved)} below on-demand."


@dataclass(frozen=True, slots=True)
class Number:
    """One of the numbers under the answer: its name, itself, and a line that says how sure or compared with what."""

    label: str
    value: str
    detail: str


def numbers(candidate: Candidate) -> tuple[Number, ...]:
    """The four numbers under the answer."""
    best = candidate
    cost, done, lost = best.cost_usd, best.makespan_hours, best.lost_work_hours
    saved = best.savings_fraction
    chance = best.deadline_probability
    if chance is not None:
        deadline = render.hours(best.completed["job.deadline_hours"])
        interval = f"{render.probability(chance.low)} to {render.probability(chance.high)} (95 % interval)"
        fourth = Number(f"Done within {deadline}", render.probability(chance.mean), interval)
    else:
        fourth = Number(
            "Interruptions", f"{best.interruptions.mean:,.1f}", f"lose {render.duration(lost.mean * 3600.0)} of work"
        )
    return (
        Number("Cost", render.usd(cost.p50), f"P95 {render.usd(cost.p95)}"),
        Number("Done after", render.hours(done.p50), f"P95 {render.hours(done.p95)}"),
        Number(
            "Saved",
            "unknown" if saved is None else render.percent(saved),
            "no on-demand price is known"
            if best.on_demand.cost_usd is None
            else f"on-demand: {render.usd(best.on_demand.cost_usd)}",
        ),
        fourth,
    )


def remarks(plan: Plan) -> tuple[str, ...]:
    """Sentences beside the answer: plateau, emergency save, odd prices, ties."""
    best = plan.best
    interval = best.interval
    lines: list[str] = []
    if interval.high_hours > interval.low_hours:
        low, high = (render.duration(hours * 3600.0) for hours in (interval.low_hours, interval.high_hours))
        lines.append(f"Any interval from {low} to {high} is as good: no difference of 0.1 % can be told.")
    if best.completed.derived is not None:
        needed, notice = best.completed["checkpoint.emergency_seconds"], best.completed["notice.seconds"]
        fits = "fits" if best.emergency_fits else "does not fit"
        lines.append(f"An emergency save takes {needed:.0f} s and {fits} the notice of {notice:.0f} s.")
    if plan.if_real is not None:
        odd = plan.if_real
        lines.append(
            f"If the price of {odd.offer.place} is real ({render.usd(odd.spot_usd_per_hour)}/h), it would cost "
            f"{render.usd(odd.cost_usd.p50)} there."
        )
    if plan.ties:
        lines.append(f"Cannot be told from it: {', '.join(row.offer.place for row in plan.ties[:5])}.")
    return tuple(lines)


def fine_print(plan: Plan) -> str:
    """How many runs, which seed, how well the mean is known."""
    best = plan.best
    return (
        f"{len(best.runs):,} simulated runs per place ({plan.curve.runs:,} per interval), seed {best.completed.seed}; "
        f"under these assumptions the mean cost is known to ± {render.usd(best.cost_usd.standard_error)}."
    )
