"""The scenario while it is being completed: one place that takes, assumes and derives values, each with its origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from planner.assumptions import Assumption
from planner.catalogue import Instance, Offer
from planner.completed import Value
from planner.costs import DerivedCosts
from planner.knowledge import Knowledge
from planner.layers import Layered


@dataclass(slots=True)
class Draft:
    """A scenario while its gaps are being filled: what was given, what is known, and the values so far."""

    layered: Layered
    knowledge: Knowledge
    offer: Offer | None
    nodes: int | None
    work: Value | None
    whole_bill: bool
    values: dict[str, Value] = field(default_factory=dict)
    instance: Instance | None = None
    derived: DerivedCosts | None = None
    warnings: list[str] = field(default_factory=list)

    def given(self, path: str) -> Any:
        """What the user gave at `path`; None when nothing."""
        section, name = path.split(".")
        return getattr(getattr(self.layered.scenario, section), name)

    def take(self, path: str) -> bool:
        """Use what the user gave at `path`; False when there is nothing."""
        value = self.given(path)
        if value is None:
            return False
        self.values[path] = Value(path, value, self.layered.origins.get(tuple(path.split(".")), "default"))
        return True

    def put(self, path: str, value: Any, origin: str, source: str, as_of: str = "", unit: str | None = None) -> None:
        """A value that the user did not give: it is listed as an assumption with its source and date."""
        name = path.split(".")[-1] if path not in _LONG_NAMES else _LONG_NAMES[path]
        shown = Assumption(name, value, _unit(path) if unit is None else unit, source, as_of)
        self.values[path] = Value(path, value, f"{origin}: {source}" if source else origin, shown)

    def default(self, path: str, value: Any) -> None:
        """A neutral default that is no statement about the world."""
        if not self.take(path):
            self.values[path] = Value(path, value, "default")

    def assume(self, path: str, name: str, *, convert: Any = float) -> None:
        """The stated assumption called `name`, unless the user gave a value."""
        if self.take(path):
            return
        row = self.knowledge.assumptions.row(name)
        self.put(path, convert(row.value), "assumption", row.source, row.as_of)


_LONG_NAMES = {
    "notice.seconds": "notice_seconds",
    "notice.success": "notice_success",
    "storage.usd_per_gib_month": "storage_usd_per_gib_month",
}
_SECTIONS = ("job", "fleet", "market", "notice", "checkpoint", "restart", "storage", "bill", "policy", "simulation")


def section_order(path: str) -> int:
    return _SECTIONS.index(path.split(".")[0])


def _unit(path: str) -> str:
    """The unit that a field's name ends with."""
    name = path.split(".")[-1]
    for suffix, unit in (
        ("usd_per_gib_month", "USD/GiB/month"),
        ("usd_per_hour", "USD/h"),
        ("usd_per_1000_puts", "USD/1000"),
        ("usd_per_1000_gets", "USD/1000"),
        ("seconds", "s"),
        ("hours", "h"),
        ("gib", "GiB"),
    ):
        if name.endswith(suffix):
            return unit
    return ""
