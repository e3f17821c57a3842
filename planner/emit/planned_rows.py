"""The rows of harness.yaml's `plan.assumptions`: what a plan rests on, so that it can be simulated again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from planner.assumptions import Assumption
from planner.completion import Completed
from planner.hazard_source import OWN_COUNTS


def planned_rows(assumptions: Iterable[Assumption], completed: Completed) -> list[dict[str, Any]]:
    """What was assumed, by its name; then what was counted or given, by its path in the scenario."""
    return [*(_assumption(row) for row in assumptions), *_counted_lifetime(completed), *_given(completed)]


def _counted_lifetime(completed: Completed) -> list[dict[str, Any]]:
    """The lifetime from the user's own counts, by its path: no table has it, and neither its shape nor how few
    reclaims it rests on can be told from the rate.
    """
    hazard = completed.hazard
    if hazard is None or hazard.name not in OWN_COUNTS:
        return []
    lifetime: Any = hazard.lifetime  # a dataclass whose arguments are the scenario's keys
    values: dict[str, Any] = {"distribution": type(lifetime).__name__.lower()}
    values |= {field.name: getattr(lifetime, field.name) for field in fields(lifetime) if field.init}
    values |= {"events": hazard.events, "exposure_hours": hazard.exposure_hours}
    return [
        {
            "name": f"market.lifetime.{name}",
            "value": value if isinstance(value, str) else short(float(value)),
            "source": f"{hazard.name}: {hazard.source}",
        }
        for name, value in values.items()
        if value is not None
    ]


def _given(completed: Completed) -> list[dict[str, Any]]:
    """What the user gave, by its path in the scenario; how the simulation was run is left out."""
    document = completed.layered.scenario.model_dump(mode="json")
    rows: list[dict[str, Any]] = []
    origins = dict(completed.layered.origins)
    for kind in ("lifetime", "provision"):
        # A rate alone says that the lifetime is exponential: written out, it can be read back alone.
        if document["market"][kind] is not None:
            origins.setdefault(("market", kind, "distribution"), "implied by what was given")
    for path, origin in origins.items():
        value: Any = document
        for part in path:
            value = value[part]
        if path[0] != "simulation" and isinstance(value, int | float | str):
            shown = value if isinstance(value, str) else short(float(value))
            rows.append({"name": ".".join(path), "value": shown, "source": origin})
    return rows


def _assumption(row: Assumption) -> dict[str, Any]:
    value = float(row.value) if isinstance(row.value, bool) else row.value
    shown = {"name": row.name, "value": short(value), "unit": row.unit, "source": row.source}
    return {**shown, "as_of": row.as_of} if row.as_of else shown


def short(value: float) -> float:
    """Six significant digits: enough to compare, short enough to read."""
    return float(f"{value:.6g}")
