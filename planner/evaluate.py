"""Simulating candidates: each with its cheapest interval, those that differ only in price from the same runs.

With a constant price the cost of a run is price x billed node-hours + storage (rule 7 of MODEL.md): zones that share
everything else share their simulated fates, and a hundred prices cost as much as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from harness.telemetry.schema import Profile
from planner.assumptions import Assumption
from planner.candidate import (
    Candidate,
    Interval,
    OnDemand,
    costs_of,
    make_candidate,
    on_demand,
    priced,
    shared_summaries,
    with_lifetime,
)
from planner.catalogue import FAR_BELOW_SIBLINGS, Offer
from planner.completion import Completed, Knowledge, Value, complete
from planner.draft_market import UNKNOWN_RATE, UNKNOWN_SOURCE
from planner.interval_search import (
    ENOUGH_INTERRUPTIONS,
    FEWEST_RUNS,
    SWEEP_RUNS,
    Effort,
    Say,
    Tick,
    broad_effort,
    enough_runs,
    find_interval,
    trial_interruptions,
)
from planner.layers import Layered
from planner.places import Place, Rejected
from planner.profile import measured_step_seconds
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec

__all__ = [
    "SWEEP_RUNS",
    "Candidate",
    "Effort",
    "Evaluation",
    "Interval",
    "OnDemand",
    "Tick",
    "broad_effort",
    "candidate_of",
    "costs_of",
    "evaluate",
    "find_interval",
    "on_demand",
    "priced",
    "with_lifetime",
]

_CANNOT_FINISH = {"work_hours", "interval_hours", "startup_hours", "persist_hours", "stall_hours"}
"""Fields that the simulator names when a job cannot finish."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All candidates, those that turned out impossible, and whether all were looked at."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    complete: bool


def evaluate(
    layered: Layered,
    knowledge: Knowledge,
    places: Sequence[Place],
    *,
    step_seconds: float | None = None,
    runs: int | None = None,
    effort: Effort | None = None,
    progress: Say | None = None,
    tick: Tick | None = None,
) -> Evaluation:
    """Every place as a candidate.  `runs` replaces the scenario's; what `tick` raises ends it.

    `step_seconds` is the user's; without it, the profile's where it was measured on just such a fleet.

    Raises InvalidInputError when no interruption rate is known for the only type, and for impossible values; with
    several types that is a rejection of the type.  After Ctrl-C the candidates so far, `complete` False.
    """
    rejected: list[Rejected] = []
    groups = _groups(layered, knowledge, places, rejected)
    candidates: list[Candidate] = []
    finished = True
    try:
        for done, (spec, members) in enumerate(groups.items()):
            try:
                profile = knowledge.profile
                candidates += _evaluate_group(spec, members, runs, step_seconds, profile, effort or Effort(), tick)
            except InvalidInputError as error:
                if len(groups) == 1:
                    raise members[0][1].in_the_users_words(error) from None
                hopeless = error.field in _CANNOT_FINISH
                reason = "interrupted so often that the job hardly advances" if hopeless else str(error)
                rejected += [_rejection(place, reason) for place, _ in members]
            if progress is not None:
                progress(done + 1, len(groups))
    except KeyboardInterrupt:
        if not candidates:
            raise
        finished = False
    if places and not candidates:
        reasons = sorted({row.reason for row in rejected})
        raise InvalidInputError("fleet", "every place", "a place where the job can be run", "; ".join(reasons[:3]))
    return Evaluation(tuple(candidates), tuple(rejected), finished)


def _rejection(place: Place, reason: str) -> Rejected:
    return Rejected(place.instance.name, place.offer.region, place.offer.zone, place.nodes, reason)


def _groups(
    layered: Layered, knowledge: Knowledge, places: Iterable[Place], rejected: list[Rejected]
) -> dict[Spec, list[tuple[Place, Completed]]]:
    """Places by what they share: everything but the price."""
    by_region: dict[tuple[str, str, str, int, int | None], tuple[Completed, Spec] | InvalidInputError] = {}
    groups: dict[Spec, list[tuple[Place, Completed]]] = {}
    places = tuple(places)
    for place in places:
        score = knowledge.placement_score(place.instance, place.offer.region, place.offer.zone)
        key = (place.instance.provider, place.instance.name, place.offer.region, place.nodes, score)
        if key not in by_region:
            try:
                completed = complete(
                    layered,
                    knowledge,
                    offer=place.offer,
                    nodes=place.nodes,
                    work=_work(layered, place),
                    whole_bill=True,
                )
                spec = completed.to_spec(interval_hours=1.0)
                spec = dataclasses.replace(spec, price=PriceSeries.constant(1.0), on_demand_usd_per_hour=0.0)
                by_region[key] = completed, spec
            except InvalidInputError as error:
                if error.field not in {UNKNOWN_RATE, UNKNOWN_SOURCE}:
                    raise
                by_region[key] = error
        shared = by_region[key]
        if isinstance(shared, InvalidInputError):
            who = f"source {knowledge.hazard}" if knowledge.hazard else "any source"
            rejected.append(_rejection(place, f"no interruption rate from {who}"))
            continue
        completed, spec = shared
        groups.setdefault(spec, []).append((place, completed.priced(place.offer)))
    if places and not groups:
        only = next(error for error in by_region.values() if isinstance(error, InvalidInputError))
        raise only
    return groups


def _work(layered: Layered, place: Place) -> Value | None:
    """The job's work hours in this place, where they are not the scenario's own."""
    if place.work_hours is None or place.work_hours == layered.scenario.job.work_hours:
        return None
    how = FLAG_TEXT if place.estimated_speed else "by measured throughput"
    stated = layered.scenario.job.work_hours
    source = f"{stated:g} h on the reference fleet, {how}" if stated else how
    assumption = Assumption("work_hours", place.work_hours, "h", source, "") if place.estimated_speed else None
    return Value("job.work_hours", place.work_hours, f"derived: {source}", assumption)


def _evaluate_group(
    spec: Spec,
    members: list[tuple[Place, Completed]],
    runs: int | None,
    step_seconds: float | None,
    profile: Profile | None,
    effort: Effort,
    tick: Tick | None,
) -> list[Candidate]:
    any_completed = members[0][1]
    count = any_completed.runs if runs is None else runs
    # The price only weighs storage against billed hours: one stands for all, that of the place which can be
    # recommended (so that its curve needs no search of its own).
    price = min(
        (FAR_BELOW_SIBLINGS in place.offer.flags, float(completed["market.spot_usd_per_hour"]))
        for place, completed in members
    )[1]
    if effort.longest is not None:
        # A run of many interruptions is a mean of many: fewer such runs say as much.
        interruptions = trial_interruptions(spec, any_completed.seed, effort.longest)
        enough = max(FEWEST_RUNS, round(ENOUGH_INTERRUPTIONS / (1.0 + interruptions)))
        effort = dataclasses.replace(effort, sweep_runs=min(effort.sweep_runs, enough))
    interval = find_interval(any_completed, spec, price, count, tick, effort=effort)
    at_best = spec.with_interval(interval.hours)
    simulated = enough_runs(at_best, price, count, any_completed.seed, effort, tick)
    shared = shared_summaries(simulated)
    return [
        make_candidate(
            completed,
            interval,
            simulated,
            shared,
            step_seconds,
            offer=place.offer,
            flags=(ESTIMATED_SPEED,) if place.estimated_speed else (),
            measured_step_seconds=measured_step_seconds(profile, place.instance, place.nodes),
        )
        for place, completed in members
    ]


def candidate_of(completed: Completed, *, step_seconds: float | None = None) -> Candidate:
    """One completed scenario as a candidate, where it says it is.  KeyboardInterrupt after Ctrl-C."""
    price = completed["market.spot_usd_per_hour"]
    spec = completed.to_spec(interval_hours=1.0)
    interval = find_interval(completed, spec, price, completed.runs)
    runs = simulate(spec.with_interval(interval.hours), runs=completed.runs, seed=completed.seed)
    if not runs.complete:
        raise KeyboardInterrupt
    return make_candidate(completed, interval, runs, shared_summaries(runs), step_seconds, offer=_own_offer(completed))


def _own_offer(completed: Completed) -> Offer:
    """The place that a scenario describes, as an offer."""
    if completed.offer is not None:
        return completed.offer
    return Offer(
        provider=completed["fleet.provider"] or "unknown",
        instance=completed["fleet.instance"] or "unknown",
        region=completed["fleet.region"] or "unknown",
        zone=completed["fleet.zone"],
        spot_usd_per_hour=completed["market.spot_usd_per_hour"],
        on_demand_usd_per_hour=completed["market.on_demand_usd_per_hour"],
        as_of="",
        source="given by the user",
    )
