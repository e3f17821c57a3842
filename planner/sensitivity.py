"""What the answer hangs on: other interruption rates and the regret of being wrong; each assumption doubled."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import InvalidInputError
from planner.completion import Completed, Knowledge
from planner.distributions import at_rate
from planner.evaluate import SWEEP_RUNS, Candidate, costs_of, evaluate, with_lifetime
from planner.hazards import HazardSource, hazard_sources
from planner.layers import Layered
from planner.places import Place
from planner.ranking import best_of
from simulator.simulate import simulate
from simulator.spec import Spec
from simulator.sweep import sweep

RUNS = 2_000


@dataclass(frozen=True, slots=True)
class OtherHazard:
    """What another statement about interruptions would recommend, and what this plan costs if that one is true."""

    name: str
    rate_per_hour: float
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

    @property
    def regret_fraction(self) -> float:
        """What this plan costs more than the best, if the other statement is true."""
        return self.plan_cost_usd / self.best_cost_usd - 1.0


@dataclass(frozen=True, slots=True)
class Influence:
    """One value changed: by how much the plan's expected cost and makespan move."""

    name: str
    value: Any
    unit: str
    changed_to: str
    cost_fraction: float
    """Change of the expected cost as a fraction of it."""
    makespan_hours: float
    """Change of the expected makespan."""
    source: str
    as_of: str


def other_hazards(
    layered: Layered, knowledge: Knowledge, places: Sequence[Place], best: Candidate
) -> tuple[OtherHazard, ...]:
    """The ends of the used source's range, then every other source that knows the recommended type."""
    hazard, instance = best.completed.hazard, best.completed.instance
    if hazard is None or instance is None:
        return ()
    rows = [row for row in (_range_end(best, hazard, end) for end in ("low", "high")) if row is not None]
    known = hazard_sources(
        instance,
        best.offer.region,
        own=knowledge.own,
        profile=knowledge.profile,
        bands=knowledge.bands,
        assumptions=knowledge.assumptions,
        directory=knowledge.directory,
    )
    for source in known:
        if source.name != hazard.name:
            row = _other_source(layered, knowledge, places, best, source)
            if row is not None:
                rows.append(row)
    return tuple(rows)


def _range_end(best: Candidate, hazard: HazardSource, end: str) -> OtherHazard | None:
    rate = hazard.rate_low_per_hour if end == "low" else hazard.rate_high_per_hour
    if rate is None or rate <= 0.0 or rate == hazard.rate_per_hour:
        return None
    name = f"{hazard.name} ({end})"
    changed = with_lifetime(best.spec, hazard.lifetime_at(rate))
    return _at_best_place(best, changed, dataclasses.replace(hazard, name=name, rate_per_hour=rate))


def _at_best_place(best: Candidate, changed: Spec, hazard: HazardSource) -> OtherHazard | None:
    """What another lifetime means where nothing but the interval can be chosen anew."""
    seed = best.completed.seed
    try:
        mine = simulate(changed, runs=RUNS, seed=seed)
        optimum = sweep(changed, runs=RUNS, seed=seed).optimum
    except InvalidInputError:  # the plan cannot finish under this rate: nothing to compare
        return None
    plan_cost = float(costs_of(best.completed, mine).mean())
    there = simulate(dataclasses.replace(changed, interval_hours=optimum.interval_hours), runs=RUNS, seed=seed)
    best_cost = float(costs_of(best.completed, there).mean())
    return _row(
        hazard,
        best,
        optimum.interval_hours,
        min(best_cost, plan_cost),
        optimum.makespan.mean,
        plan_cost,
        float(mine.makespan_hours.mean()),
    )


def _other_source(
    layered: Layered, knowledge: Knowledge, places: Sequence[Place], best: Candidate, source: HazardSource
) -> OtherHazard | None:
    under = dataclasses.replace(knowledge, hazard=source.name)
    try:
        found = evaluate(layered, under, places, runs=RUNS)
    except InvalidInputError:
        return None
    chosen = best_of(found.candidates)
    mine = next((c for c in found.candidates if c.offer == best.offer and c.nodes == best.nodes), None)
    if chosen is None or mine is None:
        return None
    try:
        runs = simulate(
            dataclasses.replace(mine.spec, interval_hours=best.interval.hours), runs=RUNS, seed=best.completed.seed
        )
    except InvalidInputError:
        return None
    plan_cost = float(costs_of(mine.completed, runs).mean())
    return _row(
        source,
        chosen,
        chosen.interval.hours,
        min(chosen.cost_usd.mean, plan_cost),
        chosen.makespan_hours.mean,
        plan_cost,
        float(runs.makespan_hours.mean()),
    )


def _row(
    hazard: HazardSource,
    chosen: Candidate,
    interval_hours: float,
    best_cost: float,
    best_makespan: float,
    plan_cost: float,
    plan_makespan: float,
) -> OtherHazard:
    return OtherHazard(
        name=hazard.name,
        rate_per_hour=hazard.rate_per_hour,
        source=hazard.source,
        as_of=hazard.as_of,
        note=hazard.note,
        flags=hazard.flags,
        instance=chosen.offer.instance,
        region=chosen.offer.region,
        zone=chosen.offer.zone,
        nodes=chosen.nodes,
        interval_hours=interval_hours,
        best_cost_usd=best_cost,
        best_makespan_hours=best_makespan,
        plan_cost_usd=plan_cost,
        plan_makespan_hours=plan_makespan,
    )


@dataclass(frozen=True, slots=True)
class RobustInterval:
    """The interval whose worst regret over all sources is least, at the recommended place."""

    interval_hours: float
    worst_regret_fraction: float
    plan_worst_regret_fraction: float
    """The same for the plan's own interval."""


def robust_interval(best: Candidate, rows: Sequence[OtherHazard]) -> RobustInterval | None:
    """Minimax regret over the sources in `rows` and the one that is used; None where there is nothing to weigh.

    The intervals tried are each source's best, the geometric means between neighbours, and the plan's own.  Costs are
    of the recommended place under each source's rate, on the same fates.
    """
    base = float(best.completed["market.rate_per_hour"])
    rates = sorted({base, *(row.rate_per_hour for row in rows)})
    if len(rates) < 2 or base <= 0.0 or not best.completed.wants_optimum:
        return None
    lifetimes = [at_rate(best.spec.lifetime, base, rate) for rate in rates if rate > 0.0]
    own = sorted({best.interval.hours, *(row.interval_hours for row in rows)})
    between = [math.sqrt(a * b) for a, b in itertools.pairwise(own)]
    intervals = sorted({*own, *between})
    regrets = dict.fromkeys(intervals, 0.0)
    for lifetime in lifetimes:
        if lifetime is None:
            return None
        costs: dict[float, float] = {}
        for interval in intervals:
            spec = with_lifetime(best.spec, lifetime, interval_hours=interval)
            try:
                runs = simulate(spec, runs=RUNS // 4, seed=best.completed.seed)
            except InvalidInputError:  # an interval that this rate never lets through
                costs[interval] = math.inf
                continue
            costs[interval] = float(costs_of(best.completed, runs).mean())
        least = min(costs.values())
        for interval in intervals:
            regrets[interval] = max(regrets[interval], costs[interval] / least - 1.0)
    chosen = min(intervals, key=lambda interval: (regrets[interval], interval))
    return RobustInterval(chosen, regrets[chosen], regrets[best.interval.hours])


_DOUBLED = (
    ("market.rate_per_hour", None),
    ("market.provision_hours", None),
    ("checkpoint.stall_seconds", "stall_hours"),
    ("checkpoint.persist_seconds", "persist_hours"),
    ("checkpoint.emergency_seconds", "emergency_hours"),
    ("restart.startup_seconds", "startup_hours"),
)


def influences(best: Candidate) -> tuple[Influence, ...]:
    """The plan with each uncertain value doubled (notices: never acted on), largest change of cost first.

    Same fates, same interval: the differences are of the values, not of luck.
    """
    completed, spec = best.completed, best.spec
    seed = completed.seed
    base = simulate(spec, runs=RUNS, seed=seed)
    base_cost, base_makespan = float(costs_of(completed, base).mean()), float(base.makespan_hours.mean())
    spot = float((base.billed_hours - base.on_demand_hours).mean()) * best.spot_usd_per_hour
    rows: list[Influence] = [
        _influence(completed, "market.spot_usd_per_hour", "doubled", spot / base_cost if base_cost else 0.0, 0.0)
    ]
    for path, changed_to, changed in _changes(completed, spec):
        try:
            runs = simulate(changed, runs=RUNS, seed=seed)
        except InvalidInputError:  # doubled, the job cannot finish at all
            rows.append(_influence(completed, path, changed_to, float("inf"), float("inf")))
            continue
        cost = float(costs_of(completed, runs).mean()) / base_cost - 1.0
        rows.append(_influence(completed, path, changed_to, cost, float(runs.makespan_hours.mean()) - base_makespan))
    return tuple(sorted(rows, key=lambda row: -abs(row.cost_fraction)))


def _changes(completed: Completed, spec: Spec) -> list[tuple[str, str, Spec]]:
    changes: list[tuple[str, str, Spec]] = []
    for path, name in _DOUBLED:
        if name is not None:
            value = getattr(spec, name)
            if value > 0.0:
                changes.append((path, "doubled", dataclasses.replace(spec, **{name: 2.0 * value})))
        elif path == "market.rate_per_hour":
            rate = completed[path]
            lifetime = at_rate(spec.lifetime, rate, 2.0 * rate) if rate > 0.0 else None
            if lifetime is not None:
                changes.append((path, "doubled", dataclasses.replace(spec, lifetime=lifetime)))
        else:
            from simulator.provision import ConstantProvision

            if isinstance(spec.provision, ConstantProvision) and spec.provision.hours > 0.0:
                twice = ConstantProvision(2.0 * spec.provision.hours)
                changes.append((path, "doubled", dataclasses.replace(spec, provision=twice)))
    if spec.first_hour_refund:
        changes.append(("market.first_hour_refund", "none", dataclasses.replace(spec, first_hour_refund=False)))
    if spec.notice_success > 0.0:
        changes.append(("notice.success", "never", dataclasses.replace(spec, notice_success=0.0)))
    return changes


def _influence(
    completed: Completed, path: str, changed_to: str, cost_fraction: float, makespan_hours: float
) -> Influence:
    value = completed.values[path]
    stated = value.assumption
    return Influence(
        name=stated.name if stated else path.split(".")[-1],
        value=value.value,
        unit=stated.unit if stated else "",
        changed_to=changed_to,
        cost_fraction=cost_fraction,
        makespan_hours=makespan_hours,
        source=stated.source if stated else value.origin,
        as_of=stated.as_of if stated else "",
    )


assert RUNS <= SWEEP_RUNS
