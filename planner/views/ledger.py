"""Every value that a plan rests on: its unit, its source, its date, whether it was edited, and the key to edit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner import render
from planner.assumptions import Assumption, load_assumptions
from planner.completion import Value
from planner.views.link import ASSUME, Link, fields_by_key, keys_by_path
from planner.views.plan import Plan

SECTIONS = {
    "job": "Job",
    "fleet": "Fleet",
    "market": "Market",
    "notice": "Notice",
    "checkpoint": "Checkpoint",
    "restart": "Restart",
    "storage": "Storage",
    "bill": "Rest of the bill",
    "policy": "Policy",
    "simulation": "Simulation",
}
STATED = "Behind the derived values"


@dataclass(frozen=True, slots=True)
class Entry:
    """One value.  `key` edits it in a link (None: it cannot be edited on its own)."""

    section: str
    name: str
    text: str
    """The value as the link would write it; empty: there is none."""
    shown: str
    """The value as a person would read it."""
    unit: str
    source: str
    as_of: str
    key: str | None
    stated: bool
    """Whether it is a stated assumption (edited with ``assume``) and not a field of the scenario."""
    edited: bool
    help: str


def ledger(plan: Plan) -> tuple[Entry, ...]:
    """All values of the plan in the scenario's order, then the stated assumptions that others were derived from."""
    completed = plan.best.completed
    entries = [_field(plan.link, value) for value in completed.values.values()]
    shown = {entry.name for entry in entries}
    derived = completed.derived.assumptions if completed.derived else ()
    entries += [_stated(plan.link, row) for row in derived if row.name not in shown]
    return tuple(entries)


def _field(link: Link, value: Value) -> Entry:
    section, name = value.path.split(".")
    path = (section, name)
    key = keys_by_path().get(path)
    if value.path == "market.rate_per_hour":
        key = "rate-per-hour"
    elif value.path == "market.provision_hours":
        key = "provision-hours"
    elif value.path == "market.lifetime":
        key = None
    given = set(dict(link.query))
    about = {key} if key else set()
    if value.path in {"market.rate_per_hour", "market.lifetime"}:
        about |= {other for path, other in keys_by_path().items() if path[:2] == ("market", "lifetime")}
    elif value.path == "market.provision_hours":
        about |= {other for path, other in keys_by_path().items() if path[:2] == ("market", "provision")}
    assumed = value.assumption
    return Entry(
        section=SECTIONS.get(section, section.capitalize()),
        name=assumed.name if assumed else name,
        text=_text(value.value),
        shown=render.number(value.value),
        unit=assumed.unit if assumed else "",
        source=assumed.source if assumed else _origin(value.origin),
        as_of=assumed.as_of if assumed else "",
        key=key,
        stated=False,
        edited=bool(about & given),
        help=fields_by_key()[key].help if key is not None and key in fields_by_key() else "",
    )


def _stated(link: Link, row: Assumption) -> Entry:
    given = {value.partition("=")[0] for key, value in link.query if key == ASSUME}
    known = set(load_assumptions().names())
    return Entry(
        section=STATED,
        name=row.name,
        text=_text(row.value),
        shown=render.number(row.value),
        unit=row.unit,
        source=row.source,
        as_of=row.as_of,
        key=row.name if row.name in known else None,
        stated=True,
        edited=row.name in given,
        help="",
    )


def _origin(origin: str) -> str:
    return "given" if origin.startswith("flag ") else origin


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
