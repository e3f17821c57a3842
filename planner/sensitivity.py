"""Other statements about interruptions: what each would recommend, in whatever type and place, and the regret.

A source speaks about some types only.  "If SOURCE is right" means: every type that it knows has its rate, every other
type keeps the one that was planned with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.catalogue import Offer
from planner.completion import Knowledge
from planner.evaluate import Candidate, Effort, broad_effort, costs_of, evaluate, with_lifetime
from planner.hazards import HazardSource
from planner.layers import Layered
from planner.places import Place
from planner.ranking import COST, Objective, best_of, ranked
from simulator.simulate import simulate
from simulator.sweep import sweep

RUNS = 2_000

_LOOKED_AT_AGAIN = 3
"""Of many places, so many are simulated more closely."""
_FEW_PLACES = 60
"""Up to so many are simulated closely at once."""


@dataclass(frozen=True, slots=True)
class OtherHazard:
    """What another statement about interruptions would recommend, and what this plan costs if that one is true."""

    name: str
    rate_per_hour: float
    """Of the recommended type where the source knows it, else of the type that it would recommend."""
    source: str
    as_of: str
    note: str
    flags: tuple[str, ...]
    instance: str
    region: str
    zone: str | None
    nodes: int
    interval_hours: float
    best_cost_usd: float
    """Expected cost of what would be recommended then."""
    best_makespan_hours: float
    plan_cost_usd: float
    """Expected cost of this plan (its place and its interval) if the other statement is true."""
    plan_makespan_hours: float
    minimise: str = "cost"
    knows_plan: bool = True
    """Whether it says something about the recommended type."""

    @property
    def regret_fraction(self) -> float:
        """What this plan costs (or takes, where time is minimised) more than the best, if that is true."""
        if self.minimise == "time":
            return self.plan_makespan_hours / self.best_makespan_hours - 1.0
        return self.plan_cost_usd / self.best_cost_usd - 1.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """One candidate under one statement: expected values, for comparison."""

    candidate: Candidate
    interval_hours: float
    cost_usd: float
    makespan_hours: float


def other_hazards(
    layered: Layered,
    knowledge: Knowledge,
    places: Sequence[Place],
    best: Candidate,
    candidates: Sequence[Candidate],
    *,
    objective: Objective = COST,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[OtherHazard, ...]:
    """The ends of the used source's range, then every other source that knows a type among `places`.

    `candidates` are the places as planned: they stand in for themselves where a source does not know their type.
    Only sources that change something are listed; empty where the user gave the rate.
    """
    hazard = best.completed.hazard
    if hazard is None:
        return ()
    ends = (_range_end(best, hazard, end, candidates, objective) for end in ("low", "high"))
    rows = [row for row in ends if row is not None]
    known = _by_source(knowledge, places)
    for done, (name, there) in enumerate(known.items()):
        if progress is not None:
            progress(done, len(known))
        row = _other_source(layered, knowledge, there, best, candidates, name, objective)
        if row is not None:
            rows.append(row)
    return tuple(rows)


def _by_source(knowledge: Knowledge, places: Sequence[Place]) -> dict[str, list[tuple[Place, HazardSource]]]:
    """The places that each source knows, sources in the order in which they are met."""
    found: dict[str, list[tuple[Place, HazardSource]]] = {}
    for place in places:
        for source in knowledge.hazard_sources(place.instance, place.offer.region):
            found.setdefault(source.name, []).append((place, source))
    return found


def _range_end(
    best: Candidate, hazard: HazardSource, end: str, candidates: Sequence[Candidate], objective: Objective
) -> OtherHazard | None:
    """An end of the used source's range, for the recommended type alone."""
    rate = hazard.rate_low_per_hour if end == "low" else hazard.rate_high_per_hour
    if rate is None or rate <= 0.0 or rate == hazard.rate_per_hour:
        return None
    changed = with_lifetime(best.spec, hazard.lifetime_at(rate))
    seed = best.completed.seed
    try:
        mine = simulate(changed, runs=RUNS, seed=seed)
        optimum = sweep(changed, runs=RUNS, seed=seed).optimum
        there = simulate(changed.with_interval(optimum.interval_hours), runs=RUNS, seed=seed)
    except InvalidInputError:  # the plan cannot finish under this rate: nothing to compare
        return None
    plan = _Answer(
        best, best.interval.hours, float(costs_of(best.completed, mine).mean()), float(mine.makespan_hours.mean())
    )
    anew = _Answer(
        best, optimum.interval_hours, float(costs_of(best.completed, there).mean()), float(there.makespan_hours.mean())
    )
    others = [c for c in candidates if c.offer.instance != best.offer.instance]
    return _row(
        dataclasses.replace(hazard, name=f"{hazard.name} ({end})", rate_per_hour=rate),
        [plan, anew, *_as_planned(best_of(others, objective))],
        objective,
    )


def _other_source(
    layered: Layered,
    knowledge: Knowledge,
    known: Sequence[tuple[Place, HazardSource]],
    best: Candidate,
    candidates: Sequence[Candidate],
    name: str,
    objective: Objective,
) -> OtherHazard | None:
    """Source `name` for every place that it knows, the others as planned."""
    as_planned = {(c.offer, c.nodes): c for c in candidates}
    changed = [(place, source) for place, source in known if _source_of(as_planned, place) != name]
    mine = next((pair for pair in changed if (pair[0].offer, pair[0].nodes) == (best.offer, best.nodes)), None)
    if not changed:
        return None
    under = dataclasses.replace(knowledge, hazard=name)
    found = _evaluated(layered, under, [place for place, _ in changed], objective)
    moved = {(place.offer, place.nodes) for place, _ in changed}
    still = [c for key, c in as_planned.items() if key not in moved]
    chosen = best_of(found, objective)
    if mine is None:
        plan = _as_planned(best)
    else:
        there = [c for c in _evaluated(layered, under, [mine[0]], objective) if c.nodes == best.nodes]
        if not there:
            return None
        try:
            spec = there[0].spec.with_interval(best.interval.hours)
            runs = simulate(spec, runs=RUNS, seed=best.completed.seed)
        except InvalidInputError:
            return None
        cost = float(costs_of(there[0].completed, runs).mean())
        plan = [_Answer(there[0], best.interval.hours, cost, float(runs.makespan_hours.mean()))]
    answers = [*plan, *_as_planned(chosen), *_as_planned(best_of(still, objective))]
    said = mine[1] if mine is not None else changed[0][1]
    return _row(said, answers, objective, knows_plan=mine is not None)


def _source_of(as_planned: Mapping[tuple[Offer, int], Candidate], place: Place) -> str:
    """The name of the source that a place was planned with; empty where it was not planned."""
    candidate = as_planned.get((place.offer, place.nodes))
    hazard = None if candidate is None else candidate.completed.hazard
    return "" if hazard is None else hazard.name


def _evaluated(
    layered: Layered, under: Knowledge, places: Sequence[Place], objective: Objective
) -> tuple[Candidate, ...]:
    """The places as candidates: closely where there are few, else broadly and the best few closely again."""
    minimise = "time" if objective.name == "time" else "cost"
    try:
        if len(places) <= _FEW_PLACES:
            return evaluate(layered, under, places, runs=RUNS, effort=Effort(minimise=minimise)).candidates
        order = ranked(evaluate(layered, under, places, effort=broad_effort(minimise)).candidates, objective)
        close = {(c.offer, c.nodes) for c in order[:_LOOKED_AT_AGAIN]}
        again = [place for place in places if (place.offer, place.nodes) in close]
        better = evaluate(layered, under, again, runs=RUNS, effort=Effort(minimise=minimise)).candidates
        return (*better, *(c for c in order if (c.offer, c.nodes) not in close))
    except InvalidInputError:  # no place where the job can be run then
        return ()


def _as_planned(candidate: Candidate | None) -> list[_Answer]:
    if candidate is None:
        return []
    return [_Answer(candidate, candidate.interval.hours, candidate.cost_usd.mean, candidate.makespan_hours.mean)]


def _row(
    hazard: HazardSource, answers: Sequence[_Answer], objective: Objective, *, knows_plan: bool = True
) -> OtherHazard:
    """The first answer is this plan's; the best of all is what would be recommended."""
    minimise = "time" if objective.name == "time" else "cost"
    plan = answers[0]
    chosen = min(answers, key=lambda row: row.makespan_hours if minimise == "time" else row.cost_usd)
    rate = hazard.rate_per_hour if knows_plan else chosen.candidate.completed["market.rate_per_hour"]
    return OtherHazard(
        name=hazard.name,
        rate_per_hour=rate,
        source=hazard.source,
        as_of=hazard.as_of,
        note=hazard.note,
        flags=hazard.flags,
        instance=chosen.candidate.offer.instance,
        region=chosen.candidate.offer.region,
        zone=chosen.candidate.offer.zone,
        nodes=chosen.candidate.nodes,
        interval_hours=chosen.interval_hours,
        best_cost_usd=chosen.cost_usd,
        best_makespan_hours=chosen.makespan_hours,
        plan_cost_usd=plan.cost_usd,
        plan_makespan_hours=plan.makespan_hours,
        minimise=minimise,
        knows_plan=knows_plan,
    )
