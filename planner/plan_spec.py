"""The plan in a run's harness.yaml, made simulatable again: what was planned, as a completed scenario.

The config holds the place, the prices, the durations, the rate, everything that was assumed and everything that was
given.  What it does not hold is filled in as a new plan would be, and said.  Whether the result predicts what the plan
says is checked by whoever simulates it (`planner.report`): a plan that cannot be reproduced is reported as one.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from harness.config import PlanConfig, RunConfig
from harness.errors import InvalidInputError
from planner.completion import SECONDS_PER_HOUR, Completed, Knowledge, complete
from planner.hazards import hazard_sources
from planner.layers import layer
from simulator.spec import Spec

_ROWS = {
    "notice_success": "notice.success",
    "first_hour_refund": "market.first_hour_refund",
    "checkpoint_gib": "job.checkpoint_gib",
    "bulk": "fleet.bulk",
    "detect_seconds": "fleet.detect_seconds",
    "rendezvous_seconds": "fleet.rendezvous_seconds",
    "persist_slowdown": "checkpoint.persist_slowdown",
    "keep_last": "checkpoint.keep_last",
    "storage_usd_per_gib_month": "storage.usd_per_gib_month",
    "usd_per_1000_puts": "storage.usd_per_1000_puts",
    "usd_per_1000_gets": "storage.usd_per_1000_gets",
    "shards": "storage.shards",
    "rendezvous_usd_per_hour": "bill.rendezvous_usd_per_hour",
}
"""Rows of `plan.assumptions` → fields of the scenario.  The others were only steps on the way to these."""

_PLANNED = {
    "provider": "fleet.provider",
    "instance": "fleet.instance",
    "region": "fleet.region",
    "zone": "fleet.zone",
    "nodes": "fleet.nodes",
    "work_hours": "job.work_hours",
    "spot_usd_per_hour": "market.spot_usd_per_hour",
    "on_demand_usd_per_hour": "market.on_demand_usd_per_hour",
    "stall_seconds": "checkpoint.stall_seconds",
    "persist_seconds": "checkpoint.persist_seconds",
    "emergency_seconds": "checkpoint.emergency_seconds",
    "startup_seconds": "restart.startup_seconds",
}
_WHOLE = {"nodes", "min_nodes", "keep_last", "shards"}
_TRUTH = {"first_hour_refund"}
_SAME = 1e-4
"""The config holds six digits."""


@dataclass(frozen=True, slots=True)
class PlannedScenario:
    """The plan as a scenario, its simulatable form, and what had to be filled in."""

    completed: Completed
    spec: Spec
    boot_seconds: float
    notes: tuple[str, ...]


def require_plan(plan: PlanConfig, name: str) -> None:
    """InvalidInputError when nothing was predicted in this config."""
    if not plan.model_dump(exclude_defaults=True):
        raise InvalidInputError(
            f"{name}: plan", "nothing", "what was predicted", "planner recommend --emit writes a config with its plan"
        )


def planned_scenario(config: RunConfig, knowledge: Knowledge, *, name: str = "harness.yaml") -> PlannedScenario:
    """The plan of `config` as a scenario.

    Raises InvalidInputError, naming the field of the plan, when the plan lacks what a simulation needs.
    """
    plan = config.plan
    for field in ("work_hours", "spot_usd_per_hour", "rate_per_hour", "stall_seconds", "persist_seconds"):
        if getattr(plan, field) is None:
            raise InvalidInputError(f"{name}: plan.{field}", "nothing", "a value: the plan cannot be simulated again")
    interval_seconds = config.checkpoint.interval.seconds
    if interval_seconds is None:
        raise InvalidInputError(f"{name}: checkpoint.interval.seconds", "nothing", "the planned interval in seconds")
    rows = {row.name: row.value for row in plan.assumptions}
    document = _document(config, rows)
    notes: list[str] = []
    if "checkpoint_gib" not in document.get("job", {}):
        document.setdefault("job", {})["checkpoint_gib"] = 0.0
        notes.append("the plan does not hold the checkpoint's size: storage is left out of the cost")
    completed = _completed(document, knowledge, plan, rows, notes, name)
    spec = completed.to_spec(interval_hours=interval_seconds / SECONDS_PER_HOUR)
    boot = rows.get("boot_seconds")
    seconds = boot if isinstance(boot, float) else knowledge.assumptions.row("boot_seconds").value
    return PlannedScenario(completed, spec, min(seconds, spec.startup_hours * SECONDS_PER_HOUR), tuple(notes))


def _document(config: RunConfig, rows: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in rows.items():
        path = _ROWS.get(name, name if "." in name else None)
        if path is not None and value is not None:
            _put(document, path, value)
    plan = config.plan
    for name, path in _PLANNED.items():
        value = getattr(plan, name)
        if value is not None:
            _put(document, path, value)
    nodes = plan.nodes or 1
    if config.torchrun.max_nodes == nodes and config.torchrun.min_nodes < nodes:
        _put(document, "fleet.min_nodes", config.torchrun.min_nodes)
    _put(document, "notice.seconds", config.notices.notice_seconds)
    _put(document, "checkpoint.keep_last", config.checkpoint.keep_last)
    document["checkpoint"].pop("interval_seconds", None)
    return document


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    at = document
    for section in sections:
        at = at.setdefault(section, {})
    if name in _WHOLE:
        value = int(value)
    elif name in _TRUTH:
        value = bool(value)
    at[name] = value


def _completed(
    document: dict[str, Any],
    knowledge: Knowledge,
    plan: PlanConfig,
    rows: dict[str, Any],
    notes: list[str],
    name: str,
) -> Completed:
    """The scenario with the plan's lifetime and wait: from the same source where it can be told."""
    market = document["market"]
    rate = plan.rate_per_hour
    assert rate is not None
    if "lifetime" not in market:
        source = _source_of(plan, rate, knowledge)
        if source is not None:
            knowledge = dataclasses.replace(knowledge, hazard=source)
        else:
            market["lifetime"] = {"distribution": "exponential", "rate_per_hour": rate}
            notes.append("the source of the interruption rate is not known here: an exponential lifetime is simulated")
    completed = complete(layer(document, name, {}), knowledge)
    wait = rows.get("provision_hours")
    if isinstance(wait, float) and not math.isclose(completed["market.provision_hours"], wait, rel_tol=_SAME):
        market["provision"] = {"distribution": "constant", "hours": wait}
        notes.append("the wait for capacity is simulated as a constant")
        completed = complete(layer(document, name, {}), knowledge)
    return completed


def _source_of(plan: PlanConfig, rate: float, knowledge: Knowledge) -> str | None:
    """The name of the table's source that has the plan's rate, its own words deciding between equals."""
    if plan.instance is None:
        return None
    instance = knowledge.catalogue.instance(plan.instance, plan.provider)
    told = next((row.source for row in plan.assumptions if row.name == "rate_per_hour"), "")
    sources = hazard_sources(instance, plan.region, assumptions=knowledge.assumptions, directory=knowledge.directory)
    same = [source for source in sources if math.isclose(source.rate_per_hour, rate, rel_tol=_SAME)]
    same.sort(key=lambda source: not told.startswith(f"{source.name}: "))
    return same[0].name if same else None
