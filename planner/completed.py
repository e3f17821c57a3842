"""A scenario without gaps: every value with where it came from, and what the simulator takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import InvalidInputError
from planner.assumptions import Assumption
from planner.catalogue import Instance, Offer
from planner.costs import DerivedCosts
from planner.hazards import HazardSource
from planner.layers import Layered
from simulator.lifetimes import Lifetime
from simulator.provision import Provision
from simulator.spec import PriceSeries, Spec

SECONDS_PER_HOUR = 3600.0

_SPEC_FIELDS: dict[str, tuple[str, str]] = {
    "min_nodes": ("fleet", "min_nodes"),
    "nodes": ("fleet", "nodes"),
    "deadline_hours": ("job", "deadline_hours"),
    "policy": ("policy", "name"),
    "interval_hours": ("checkpoint", "interval_seconds"),
    "stall_hours": ("checkpoint", "stall_seconds"),
    "persist_hours": ("checkpoint", "persist_seconds"),
    "startup_hours": ("restart", "startup_seconds"),
    "work_hours": ("job", "work_hours"),
    "keep_last": ("checkpoint", "keep_last"),
    "shards": ("storage", "shards"),
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the completed scenario: what it is, in which unit, and where it came from."""

    path: str
    value: Any
    origin: str
    """"flag --nodes", "environment PLANNER_NODES", "file FILE", or "data", "derived", "assumption" with a source."""
    assumption: Assumption | None = None
    """Set when the user did not give it."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A scenario without gaps.  `to_spec` makes what the simulator takes."""

    values: Mapping[str, Value]
    lifetime: Lifetime
    provision: Provision
    hazard: HazardSource | None
    """The source that the lifetime came from; None when the user gave it."""
    instance: Instance | None
    offer: Offer | None
    derived: DerivedCosts | None
    layered: Layered
    rate_events: float | None = None
    rate_exposure_hours: float | None = None
    warnings: tuple[str, ...] = ()

    def __getitem__(self, path: str) -> Any:
        return self.values[path].value

    @property
    def seed(self) -> int:
        """The seed of the simulation."""
        return int(self["simulation.seed"])

    @property
    def runs(self) -> int:
        """The number of simulated runs."""
        return int(self["simulation.runs"])

    @property
    def wants_optimum(self) -> bool:
        """Whether the interval is to be found."""
        return bool(self["checkpoint.interval_seconds"] == "auto")

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Everything that the user did not give, in the scenario's order, then what the durations were derived from."""
        own = [value.assumption for value in self.values.values() if value.assumption is not None]
        known = {row.name for row in own}
        derived = self.derived.assumptions if self.derived else ()
        return (*own, *(row for row in derived if row.name not in known))

    def priced(self, offer: Offer) -> Completed:
        """The same scenario in another zone of the same region; prices that the user gave stay."""
        values = dict(self.values)
        values["fleet.zone"] = replace(values["fleet.zone"], value=offer.zone)
        for path, price, source, as_of in offer_prices(offer):
            if getattr(self.layered.scenario.market, path.split(".")[1]) is None:
                values[path] = from_table(path, price, source, as_of)
        return replace(self, values=values, offer=offer)

    def to_spec(self, *, interval_hours: float | None = None) -> Spec:
        """The simulator's description; `interval_hours` replaces the scenario's (needed when that is ``auto``).

        Raises InvalidInputError, in the user's words, for values that do not go together.
        """
        if interval_hours is None:
            seconds = self["checkpoint.interval_seconds"]
            assert seconds != "auto", "an interval must be given where the scenario asks for the optimum"
            interval_hours = seconds / SECONDS_PER_HOUR
        try:
            return Spec(
                work_hours=self["job.work_hours"],
                checkpoint_gib=self["job.checkpoint_gib"],
                deadline_hours=self["job.deadline_hours"],
                nodes=self["fleet.nodes"],
                min_nodes=self["fleet.min_nodes"],
                scaling=self["fleet.scaling"],
                detect_hours=self["fleet.detect_seconds"] / SECONDS_PER_HOUR,
                rendezvous_hours=self["fleet.rendezvous_seconds"] / SECONDS_PER_HOUR,
                bulk=self["fleet.bulk"],
                price=PriceSeries.constant(self["market.spot_usd_per_hour"]),
                on_demand_usd_per_hour=self["market.on_demand_usd_per_hour"] or 0.0,
                first_hour_refund=self["market.first_hour_refund"],
                lifetime=self.lifetime,
                provision=self.provision,
                notice_hours=self["notice.seconds"] / SECONDS_PER_HOUR,
                notice_success=self["notice.success"],
                interval_hours=interval_hours,
                stall_hours=self["checkpoint.stall_seconds"] / SECONDS_PER_HOUR,
                persist_hours=self["checkpoint.persist_seconds"] / SECONDS_PER_HOUR,
                emergency_hours=self["checkpoint.emergency_seconds"] / SECONDS_PER_HOUR,
                persist_slowdown=self["checkpoint.persist_slowdown"],
                corruption=self["checkpoint.corruption"],
                keep_last=self["checkpoint.keep_last"],
                startup_hours=self["restart.startup_seconds"] / SECONDS_PER_HOUR,
                storage_usd_per_gib_month=self["storage.usd_per_gib_month"],
                usd_per_1000_puts=self["storage.usd_per_1000_puts"],
                usd_per_1000_gets=self["storage.usd_per_1000_gets"],
                shards=self["storage.shards"],
                policy=self["policy.name"],
                decision_hours=self["policy.decision_seconds"] / SECONDS_PER_HOUR,
                rate_events=self.rate_events,
                rate_exposure_hours=self.rate_exposure_hours,
            )
        except InvalidInputError as error:
            raise self.in_the_users_words(error) from None

    def in_the_users_words(self, error: InvalidInputError) -> InvalidInputError:
        """An error about a field of the Spec, as one about the flag or key that it came from (seconds, not hours)."""
        path = _SPEC_FIELDS.get(error.field)
        if path is None:
            return error
        value = "nothing" if error.value is None else error.value
        if error.field.endswith("_hours") and path[1].endswith("_seconds") and isinstance(value, int | float):
            value = f"{value * SECONDS_PER_HOUR:g}"
        return InvalidInputError(self.layered.name_of(*path), value, error.expected, error.hint)


def offer_prices(offer: Offer | None) -> tuple[tuple[str, float | None, str, str], ...]:
    """(path, price, source, date) of the two prices of an offer; None prices without one."""
    spot, on_demand = "market.spot_usd_per_hour", "market.on_demand_usd_per_hour"
    if offer is None:
        return (spot, None, "", ""), (on_demand, None, "", "")
    source, as_of = offer.on_demand_source or offer.source, offer.on_demand_as_of or offer.as_of
    return (spot, offer.spot_usd_per_hour, offer.source, offer.as_of), (
        on_demand,
        offer.on_demand_usd_per_hour,
        source,
        as_of,
    )


def from_table(path: str, price: float | None, source: str, as_of: str) -> Value:
    if price is None:
        return Value(path, None, "unknown: no price in the tables")
    name = path.split(".")[1]
    return Value(path, price, f"data: {source}", Assumption(name, price, "USD/h", source, as_of))
