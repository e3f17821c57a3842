"""What the answer hangs on: each uncertain value of the plan doubled, on the same simulated fates."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness.errors import InvalidInputError
from planner.completion import Completed
from planner.distributions import at_rate
from planner.evaluate import Candidate, costs_of
from planner.knowledge import Knowledge
from planner.provision_waits import ProvisionSource
from simulator.provision import ConstantProvision
from simulator.simulate import simulate
from simulator.spec import Spec

RUNS = 2_000
"""Simulated runs of each change: the differences are paired."""


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


_DOUBLED = (
    ("market.rate_per_hour", None),
    ("market.provision_hours", None),
    ("checkpoint.stall_seconds", "stall_hours"),
    ("checkpoint.persist_seconds", "persist_hours"),
    ("checkpoint.emergency_seconds", "emergency_hours"),
    ("restart.startup_seconds", "startup_hours"),
)


_MATTERS = 0.001
"""Another wait that moves neither cost nor makespan by this fraction is not worth a row."""


def influences(best: Candidate, knowledge: Knowledge | None = None) -> tuple[Influence, ...]:
    """The plan with each uncertain value doubled (notices: never acted on), largest change of cost or makespan first.

    With `knowledge`, also with the wait that each other source states, where that makes a difference.  Same fates,
    same interval: the differences are of the values, not of luck.
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
    for other in _other_waits(best, knowledge) if knowledge is not None else ():
        runs = simulate(dataclasses.replace(spec, provision=other.provision), runs=RUNS, seed=seed)
        cost = float(costs_of(completed, runs).mean()) / base_cost - 1.0
        longer = float(runs.makespan_hours.mean()) - base_makespan
        if abs(cost) >= _MATTERS or abs(longer) >= _MATTERS * base_makespan:
            row = _influence(completed, "market.provision_hours", f"{other.mean_hours:.3g} h", cost, longer)
            source = other.source if other.waits is None else f"{other.name}: {other.source}"
            rows.append(dataclasses.replace(row, source=source, as_of=other.as_of))
    return tuple(sorted(rows, key=lambda row: -max(abs(row.cost_fraction), abs(row.makespan_hours) / base_makespan)))


def _other_waits(best: Candidate, knowledge: Knowledge) -> tuple[ProvisionSource, ...]:
    """What the sources that the plan does not use say about the wait; none where the user gave it."""
    completed = best.completed
    if completed.layered.scenario.market.provision is not None or completed.instance is None:
        return ()
    return knowledge.provision_sources(completed.instance, best.offer.region, best.offer.zone)[1:]


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
                # Half the exposure is the same count at twice the rate: what is not known of it stays the same.
                exposure = None if spec.rate_exposure_hours is None else spec.rate_exposure_hours / 2.0
                doubled = dataclasses.replace(spec, lifetime=lifetime, rate_exposure_hours=exposure)
                changes.append((path, "doubled", doubled))
        else:
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
