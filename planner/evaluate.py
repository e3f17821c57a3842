"""Simulating candidates: each with its cheapest interval, those that differ only in price from the same runs.

With a constant price the cost of a run is price x billed node-hours + storage (rule 7 of MODEL.md): zones that share
everything else share their simulated fates, and a hundred prices cost as much as one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError
from harness.policy import interval_steps
from planner.assumptions import Assumption
from planner.bill import Extras
from planner.catalogue import FAR_BELOW_SIBLINGS, Offer
from planner.completion import SECONDS_PER_HOUR, Completed, Knowledge, Value, complete
from planner.layers import Layered
from planner.places import Place, Rejected
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT
from simulator.engine import supports
from simulator.lifetimes import Lifetime
from simulator.runs import Runs
from simulator.simulate import simulate
from simulator.spec import SHORTEST_INTERVAL_HOURS, PriceSeries, Spec
from simulator.statistics import Proportion, Summary, summarize, wilson_interval
from simulator.sweep import Sweep, mean_time_between_interruptions_hours, sweep

SWEEP_RUNS = 4_000
"""Runs per interval while the interval is looked for; the answer itself uses the scenario's runs."""
SLOW_SWEEP_RUNS = 60
"""The same where only the reference engine knows the scenario's rules."""

Array = NDArray[np.float64]
Say = Callable[[int, int], None]
Tick = Callable[[], None]
"""Called again and again while something is simulated; whoever wants to stop it raises from here."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated.  The default is for a few places; `broad_effort` for hundreds."""

    sweep_runs: int = SWEEP_RUNS
    tolerance: float = 0.02
    """Of the interval, relative."""
    error: float | None = None
    """Stop at this relative standard error of the mean cost; None: all of the scenario's runs."""
    minimise: str = "cost"
    """What the interval is chosen for: cost or time."""
    longest: float | None = None
    """Reject a place where a trial takes more than this many times the work; None: however long it takes."""


def broad_effort(minimise: str = "cost") -> Effort:
    """Enough to rank hundreds of places: standard error of the cost at most 0.4 %."""
    return Effort(sweep_runs=250, tolerance=0.1, error=0.004, minimise=minimise, longest=10.0)


_TRIAL_RUNS = 4
_FEWEST_RUNS = 24
_INTERRUPTIONS = 10_000
"""Simulated interruptions per interval that are enough while places are compared broadly."""
_CANNOT_FINISH = {"work_hours", "interval_hours", "startup_hours", "persist_hours", "stall_hours"}
"""Fields that the simulator names when a job cannot finish."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How often to save: the best, and the range that cannot be told from it (hours)."""

    hours: float
    low_hours: float
    high_hours: float
    search: Sweep | None = dataclasses.field(default=None, repr=False, compare=False)
    """The curve that it was read from; None for the scenario's own interval."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The same job without interruptions: no wait, one startup, only the final checkpoint (rule 9)."""

    makespan_hours: float
    cost_usd: float | None
    """None where no on-demand price is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place with its best interval and what is predicted for it."""

    completed: Completed
    offer: Offer
    nodes: int
    interval: Interval
    interval_steps: int | None
    makespan_hours: Summary
    cost_usd: Summary
    goodput: Summary
    interruptions: Summary
    lost_work_hours: Summary
    deadline_probability: Proportion | None
    on_demand: OnDemand
    dearer_than_on_demand: Proportion | None
    """Probability that the job costs more than on demand in the same region."""
    within_budget: Proportion | None
    speed_flags: tuple[str, ...]
    costs: Array = dataclasses.field(repr=False)
    """Cost of each run: shape (runs,); run i met the same fates in every candidate."""
    runs: Runs = dataclasses.field(repr=False)

    @property
    def spot_usd_per_hour(self) -> float:
        """Spot price of one node."""
        return float(self.completed["market.spot_usd_per_hour"])

    @property
    def on_demand_usd_per_hour(self) -> float | None:
        """On-demand price of one node in the same region."""
        price = self.completed["market.on_demand_usd_per_hour"]
        return None if price is None else float(price)

    @property
    def savings_fraction(self) -> float | None:
        """1 - expected cost over on-demand cost in the same region."""
        if not self.on_demand.cost_usd:
            return None
        return 1.0 - self.cost_usd.mean / self.on_demand.cost_usd

    @property
    def spec(self) -> Spec:
        """What was simulated, at this place's price."""
        return self.completed.to_spec(interval_hours=self.interval.hours)

    @property
    def emergency_fits(self) -> bool:
        """Whether an emergency save fits into the notice."""
        return bool(self.completed["checkpoint.emergency_seconds"] <= self.completed["notice.seconds"])

    @property
    def flags(self) -> tuple[str, ...]:
        """What needs a second look: of the price, of the interruption rate, of the type's bandwidths."""
        hazard = self.completed.hazard.flags if self.completed.hazard else ()
        derived = self.completed.derived.flags if self.completed.derived else ()
        fits = () if self.emergency_fits else ("emergency-does-not-fit",)
        return tuple(dict.fromkeys((*self.offer.flags, *hazard, *derived, *self.speed_flags, *fits)))


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
                candidates += _evaluate_group(spec, members, runs, step_seconds, effort or Effort(), tick)
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
    by_region: dict[tuple[str, str, str, int], Completed | InvalidInputError] = {}
    groups: dict[Spec, list[tuple[Place, Completed]]] = {}
    places = tuple(places)
    for place in places:
        key = (place.instance.provider, place.instance.name, place.offer.region, place.nodes)
        if key not in by_region:
            try:
                by_region[key] = complete(
                    layered,
                    knowledge,
                    offer=place.offer,
                    nodes=place.nodes,
                    work=_work(layered, place),
                    whole_bill=True,
                )
            except InvalidInputError as error:
                if error.field != "--hazard":
                    raise
                by_region[key] = error
        shared = by_region[key]
        if isinstance(shared, InvalidInputError):
            who = f"source {knowledge.hazard}" if knowledge.hazard else "any source"
            rejected.append(_rejection(place, f"no interruption rate from {who}"))
            continue
        completed = shared.priced(place.offer)
        spec = dataclasses.replace(
            completed.to_spec(interval_hours=1.0), price=PriceSeries.constant(1.0), on_demand_usd_per_hour=0.0
        )
        groups.setdefault(spec, []).append((place, completed))
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
        interruptions = _trial(spec, any_completed.seed, effort.longest)
        enough = max(_FEWEST_RUNS, round(_INTERRUPTIONS / (1.0 + interruptions)))
        effort = dataclasses.replace(effort, sweep_runs=min(effort.sweep_runs, enough))
    interval = find_interval(any_completed, spec, price, count, tick, effort=effort)
    at_best = dataclasses.replace(spec, interval_hours=interval.hours)
    simulated = _enough_runs(at_best, price, count, any_completed.seed, effort, tick)
    shared = _shared_summaries(simulated)
    return [
        _candidate(
            completed,
            interval,
            simulated,
            shared,
            step_seconds,
            offer=place.offer,
            flags=(ESTIMATED_SPEED,) if place.estimated_speed else (),
        )
        for place, completed in members
    ]


def _trial(spec: Spec, seed: int, longest: float) -> float:
    """Mean interruptions of a few runs that save about as often as Young would.

    InvalidInputError where they take more than `longest` times the work: of no use to anybody.

    Without it, one fleet that hardly ever has all its nodes at once takes longer to simulate than everything else.
    """
    mtbf = mean_time_between_interruptions_hours(spec)
    cost = spec.stall_hours + spec.persist_hours
    interval = spec.work_hours if math.isinf(mtbf) else math.sqrt(2.0 * max(cost, 1e-3) * mtbf)
    interval = min(max(interval, spec.persist_hours, SHORTEST_INTERVAL_HOURS), spec.work_hours)
    trial = simulate(dataclasses.replace(spec, interval_hours=interval), runs=_TRIAL_RUNS, seed=seed)
    times = float(trial.makespan_hours.mean()) / spec.work_hours
    if times > longest:
        raise InvalidInputError("work_hours", spec.work_hours, f"a job that takes less than {longest:g} times its work")
    return float(trial.interruptions.mean())


def _enough_runs(spec: Spec, price: float, runs: int, seed: int, effort: Effort, tick: Tick | None) -> Runs:
    """All `runs`, or as many as the wanted standard error takes: four times as many until it is reached."""
    count = runs if effort.error is None else min(runs, effort.sweep_runs)
    while True:
        simulated = simulate(spec, runs=count, seed=seed, progress=_quietly(tick))
        if not simulated.complete:
            raise KeyboardInterrupt
        if effort.error is None or count >= runs:
            return simulated
        costs = priced(simulated, price, None)
        mean = float(costs.mean())
        if float(costs.std(ddof=1)) <= effort.error * abs(mean) * math.sqrt(count):
            return simulated
        count = min(4 * count, runs)


def candidate_of(completed: Completed, *, step_seconds: float | None = None) -> Candidate:
    """One completed scenario as a candidate, where it says it is.  KeyboardInterrupt after Ctrl-C."""
    price = completed["market.spot_usd_per_hour"]
    spec = completed.to_spec(interval_hours=1.0)
    interval = find_interval(completed, spec, price, completed.runs)
    runs = simulate(dataclasses.replace(spec, interval_hours=interval.hours), runs=completed.runs, seed=completed.seed)
    if not runs.complete:
        raise KeyboardInterrupt
    return _candidate(completed, interval, runs, _shared_summaries(runs), step_seconds, offer=_own_offer(completed))


def _shared_summaries(runs: Runs) -> dict[str, Summary]:
    names = ("makespan_hours", "goodput", "interruptions", "lost_work_hours")
    return {name: summarize(getattr(runs, name)) for name in names}


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


def _candidate(
    completed: Completed,
    interval: Interval,
    runs: Runs,
    shared: dict[str, Summary],
    step_seconds: float | None,
    *,
    offer: Offer,
    flags: tuple[str, ...] = (),
) -> Candidate:
    extras = Extras.of(completed)
    costs = costs_of(completed, runs)
    alternative = on_demand(completed)
    steps = None if step_seconds is None else interval_steps(interval.hours * SECONDS_PER_HOUR, step_seconds)
    return Candidate(
        completed=completed,
        offer=offer,
        nodes=completed["fleet.nodes"],
        interval=interval,
        interval_steps=steps,
        cost_usd=summarize(costs),
        deadline_probability=runs.deadline_probability,
        on_demand=alternative,
        dearer_than_on_demand=None if alternative.cost_usd is None else _share(costs > alternative.cost_usd),
        within_budget=extras.within_budget(costs),
        speed_flags=flags,
        costs=costs,
        runs=runs,
        **shared,
    )


def _share(hit: NDArray[np.bool_]) -> Proportion:
    """Share of runs with its Wilson interval."""
    return wilson_interval(int(np.count_nonzero(hit)), hit.size)


def _quietly(tick: Tick | None) -> Say | None:
    """`tick` as a progress callback."""
    return None if tick is None else lambda _done, _total: tick()


def find_interval(
    completed: Completed,
    spec: Spec,
    spot_usd_per_hour: float,
    runs: int,
    tick: Tick | None = None,
    *,
    effort: Effort | None = None,
) -> Interval:
    """The scenario's own interval, or the cheapest (or fastest) one at this price."""
    effort = effort or Effort()
    if not completed.wants_optimum:
        hours = completed["checkpoint.interval_seconds"] / SECONDS_PER_HOUR
        return Interval(hours, hours, hours)
    extras = Extras.of(completed)
    # What runs with the nodes weighs like a price (the rendezvous host for the whole makespan, nearly the same).
    node_hour = spot_usd_per_hour + extras.disk_usd_per_node_hour + extras.rendezvous_usd_per_hour / spec.nodes
    searched = dataclasses.replace(spec, price=PriceSeries.constant(node_hour))
    if effort.minimise == "time":
        # Where nothing costs anything, the sweep minimises the makespan.
        searched = dataclasses.replace(
            spec,
            price=PriceSeries.constant(0.0),
            storage_usd_per_gib_month=0.0,
            usd_per_1000_puts=0.0,
            usd_per_1000_gets=0.0,
        )
    most = effort.sweep_runs if supports(spec) else SLOW_SWEEP_RUNS
    found = sweep(
        searched, runs=min(runs, most), seed=completed.seed, tolerance=effort.tolerance, progress=_quietly(tick)
    )
    if not found.complete:
        raise KeyboardInterrupt
    best = found.optimum
    return Interval(best.interval_hours, best.low_hours, best.high_hours, found)


def priced(runs: Runs, spot_usd_per_hour: float, on_demand_usd_per_hour: float | None) -> Array:
    """Cost of each run in USD at these prices per node-hour: shape (runs,).  Rule 7 with constant prices."""
    on_demand_hours = runs.on_demand_hours
    spot_cost: Array = (runs.billed_hours - on_demand_hours) * spot_usd_per_hour + runs.storage_usd
    return spot_cost + on_demand_hours * (on_demand_usd_per_hour or 0.0)


def costs_of(completed: Completed, runs: Runs) -> Array:
    """The whole bill of each run in USD: shape (runs,)."""
    nodes = priced(runs, completed["market.spot_usd_per_hour"], completed["market.on_demand_usd_per_hour"])
    total: Array = nodes + Extras.of(completed).spot_usd(runs)
    return total


def on_demand(completed: Completed) -> OnDemand:
    """The job on on-demand nodes (rule 9 of MODEL.md): arithmetic, nothing is left to chance."""
    spec = completed.to_spec(interval_hours=1.0)
    makespan = spec.startup_hours + spec.work_hours + spec.stall_hours + spec.persist_hours
    price = completed["market.on_demand_usd_per_hour"]
    if price is None:
        return OnDemand(makespan, None)
    requests = spec.shards * spec.usd_per_1000_puts / 1000.0
    return OnDemand(makespan, Extras.of(completed).on_demand_usd(price, spec.nodes, makespan) + requests)


def with_lifetime(spec: Spec, lifetime: Lifetime, **changes: Any) -> Spec:
    """`spec` with another, exactly known lifetime."""
    return dataclasses.replace(spec, lifetime=lifetime, rate_events=None, rate_exposure_hours=None, **changes)
