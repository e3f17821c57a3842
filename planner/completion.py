"""Filling in what a scenario leaves out, from the bundled tables or a stated assumption, and making a Spec of it.

`complete` is a pure function of the scenario and of what is known (`Knowledge`).  Its result says of every value where
it came from: the flag, variable or file key that the user wrote, the table row, or the assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import InvalidInputError, did_you_mean
from harness.telemetry.schema import Profile
from planner import tables
from planner.assumptions import Assumption, Assumptions
from planner.bands import Band
from planner.catalogue import FAR_BELOW_SIBLINGS, NO_DISCOUNT, Catalogue, Instance, Offer
from planner.costs import DerivedCosts, derive_costs
from planner.data_files import read_table
from planner.distributions import lifetime_of, provision_of
from planner.hazards import HazardSource, choose_hazard, hazard_sources
from planner.layers import Layered
from planner.prices.records import LiveAnswer
from planner.profile import (
    BYTES_PER_GIB,
    UNKNOWN_ACCELERATOR,
    measured_notice_success,
    profile_as_of,
    profile_source,
)
from planner.provision_waits import provision_sources
from planner.scenario import DEFAULT_SEED
from simulator.lifetimes import Exponential, Lifetime
from simulator.provision import ConstantProvision, Provision
from simulator.spec import PriceSeries, Spec

DEFAULT_RUNS = 20_000
BULK = Assumption(
    "bulk",
    0.13,
    "probability",
    "assumption: 22-50 % of the losses of four nodes took more than one (public 4-node traces of 2023), which means "
    "0.08-0.21; 16-node traces are worse",
    "2023-08",
)
RENDEZVOUS = Assumption(
    "rendezvous_usd_per_hour",
    0.05,
    "USD/h",
    "assumption: a small on-demand host for the rendezvous store; --rendezvous-usd-per-hour replaces it",
    "2026-11",
)
SECONDS_PER_HOUR = 3600.0

_MODEL = "MODEL.md"
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
class Knowledge:
    """What may be used to fill gaps: tables, stated assumptions, a measured profile, the wanted hazard source."""

    catalogue: Catalogue
    assumptions: Assumptions
    profile: Profile | None = None
    hazard: str | None = None
    own: HazardSource | None = None
    """Made from the user's own log of interruptions."""
    directory: Path | None = None
    """Another folder of tables than the bundled one."""
    bands: tuple[Band, ...] | None = None
    """Newer ones of the Spot Advisor than the bundled."""
    live: LiveAnswer | None = None
    """How asking for live prices went; None: nobody was asked."""


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
        for path, price, source, as_of in _offer_prices(offer):
            if getattr(self.layered.scenario.market, path.split(".")[1]) is None:
                values[path] = _from_table(path, price, source, as_of)
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


def complete(
    layered: Layered,
    knowledge: Knowledge,
    *,
    offer: Offer | None = None,
    nodes: int | None = None,
    work: Value | None = None,
    whole_bill: bool = False,
) -> Completed:
    """`layered` with every gap filled.

    `offer` puts it in one place at that price (what the user gave still wins); `nodes` replaces the fleet's size,
    `work` the work hours; `whole_bill` assumes a price for what has to be paid for but was not stated.
    Raises InvalidInputError for what only the user can know (work, and checkpoint size or what it decides) and for
    unknown instances, regions and zones.
    """
    return _Filler(layered, knowledge, offer, nodes, work, whole_bill).fill()


@dataclass(slots=True)
class _Filler:
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

    def fill(self) -> Completed:
        self._fleet_and_job()
        self._prices()
        lifetime, hazard = self._lifetime()
        provision = self._provision()
        self._notice_and_checkpoint()
        self._storage()
        self._rest()
        given = self.layered.scenario.market.lifetime
        events = getattr(given, "events", None) if given else (hazard.events if hazard else None)
        exposure = getattr(given, "exposure_hours", None) if given else (hazard.exposure_hours if hazard else None)
        return Completed(
            values={path: self.values[path] for path in sorted(self.values, key=_section_order)},
            lifetime=lifetime,
            provision=provision,
            hazard=hazard,
            instance=self.instance,
            offer=self.offer,
            derived=self.derived,
            layered=self.layered,
            rate_events=events,
            rate_exposure_hours=exposure,
            warnings=tuple(self.warnings),
        )

    # -- values -------------------------------------------------------------------------------------------------

    def _given(self, path: str) -> Any:
        section, name = path.split(".")
        return getattr(getattr(self.layered.scenario, section), name)

    def _take(self, path: str) -> bool:
        """Use what the user gave at `path`; False when there is nothing."""
        value = self._given(path)
        if value is None:
            return False
        self.values[path] = Value(path, value, self.layered.origins.get(tuple(path.split(".")), "default"))
        return True

    def _put(self, path: str, value: Any, origin: str, source: str, as_of: str = "", unit: str | None = None) -> None:
        name = path.split(".")[-1] if path not in _LONG_NAMES else _LONG_NAMES[path]
        shown = Assumption(name, value, _unit(path) if unit is None else unit, source, as_of)
        self.values[path] = Value(path, value, f"{origin}: {source}" if source else origin, shown)

    def _default(self, path: str, value: Any) -> None:
        """A neutral default that is no statement about the world."""
        if not self._take(path):
            self.values[path] = Value(path, value, "default")

    def _assume(self, path: str, name: str, *, convert: Any = float) -> None:
        """The stated assumption called `name`, unless the user gave a value."""
        if self._take(path):
            return
        row = self.knowledge.assumptions.row(name)
        self._put(path, convert(row.value), "assumption", row.source, row.as_of)

    # -- sections -----------------------------------------------------------------------------------------------

    def _fleet_and_job(self) -> None:
        scenario = self.layered.scenario
        if self.work is not None:
            self.values["job.work_hours"] = self.work
        elif not self._take("job.work_hours"):
            raise InvalidInputError(
                "--work-hours",
                "nothing",
                "the hours of useful training that the job needs",
                "or job.work_hours in a file",
            )
        self._default("job.deadline_hours", None)
        name = self.offer.instance if self.offer else scenario.fleet.instance
        provider = self.offer.provider if self.offer else scenario.fleet.provider
        if name is not None:
            self.instance = find_instance(self.layered, self.knowledge.catalogue, name, provider)
            provider = self.instance.provider
        for path, value in (("fleet.instance", self.instance and self.instance.name), ("fleet.provider", provider)):
            origin = "catalogue" if self._given(path) is None else self.layered.origins[tuple(path.split("."))]
            self.values[path] = Value(path, value, origin if value is not None else "default")
        if self.nodes is not None:
            self.values["fleet.nodes"] = Value("fleet.nodes", self.nodes, "candidate")
        else:
            self._default("fleet.nodes", 1)
        nodes = self.values["fleet.nodes"].value
        self._default("fleet.min_nodes", None)
        self._default("fleet.scaling", 1.0)
        elastic = (self._given("fleet.min_nodes") or nodes) < nodes
        for path in ("fleet.detect_seconds", "fleet.rendezvous_seconds"):
            if elastic:
                self._assume(path, path.split(".")[1])
            elif not self._take(path):
                self.values[path] = Value(path, 0.0, "default: does not apply to a fleet that waits for all its nodes")
        if nodes == 1:
            self._default("fleet.bulk", 0.0)
        elif not self._take("fleet.bulk"):
            self._put("fleet.bulk", BULK.value, "assumption", BULK.source, BULK.as_of)
        self._default("simulation.runs", DEFAULT_RUNS)
        self._default("simulation.seed", DEFAULT_SEED)

    def _prices(self) -> None:
        market = self.layered.scenario.market
        wanted_region, wanted_zone = self._given("fleet.region"), self._given("fleet.zone")
        needed = market.spot_usd_per_hour is None or market.on_demand_usd_per_hour is None
        if self.offer is None and self.instance is not None and needed:
            self.offer = self._choose_offer(self.instance, wanted_region, wanted_zone)
        offer = self.offer
        for path, found in (("fleet.region", offer and offer.region), ("fleet.zone", offer and offer.zone)):
            if not self._take(path):
                self.values[path] = Value(path, found, "data: where the price is from" if found else "default")
        if market.spot_usd_per_hour is None and (offer is None or offer.spot_usd_per_hour is None):
            raise InvalidInputError(
                "--spot-usd-per-hour", "nothing", "the spot price of one node", "or an --instance with a known price"
            )
        for path, price, source, as_of in _offer_prices(offer):
            if not self._take(path):
                self.values[path] = _from_table(path, price, source, as_of)
        provider = self.values["fleet.provider"].value
        if provider is None:
            self._default("market.first_hour_refund", False)
        else:
            self._assume("market.first_hour_refund", f"first_hour_refund_{provider}", convert=bool)

    def _choose_offer(self, instance: Instance, region: str | None, zone: str | None) -> Offer | None:
        """The cheapest offer that is not suspicious in the wanted place; None when no price is known there."""
        offers = self.knowledge.catalogue.offers(instance.name, instance.provider)
        check_place(self.layered, instance, offers, region, zone)
        here = [o for o in offers if region in (None, o.region) and zone in (None, o.zone)]
        priced = [o for o in here if o.spot_usd_per_hour is not None]
        sound = [o for o in priced if FAR_BELOW_SIBLINGS not in o.flags and NO_DISCOUNT not in o.flags]
        choice = min(sound or priced, key=lambda o: o.spot_usd_per_hour or 0.0, default=None)
        return choice or (here[0] if here else None)

    def _lifetime(self) -> tuple[Lifetime, HazardSource | None]:
        given = self.layered.scenario.market.lifetime
        if given is not None:
            lifetime = lifetime_of(
                given, self.layered.name_of("market", "lifetime", "file"), nodes=self.values["fleet.nodes"].value
            )
            rate = 0.0 if lifetime.mean_hours == float("inf") else 1.0 / lifetime.mean_hours
            if isinstance(lifetime, Exponential):
                rate = lifetime.rate_per_hour
            origins = {o for path, o in self.layered.origins.items() if path[:2] == ("market", "lifetime")}
            self.values["market.lifetime"] = Value("market.lifetime", given.distribution, ", ".join(sorted(origins)))
            self.values["market.rate_per_hour"] = Value("market.rate_per_hour", rate, "from the lifetime given")
            return lifetime, None
        if self.instance is None:
            raise InvalidInputError(
                "--rate-per-hour", "nothing", "how often a node is interrupted", "or market.lifetime, or --instance"
            )
        region = self.values["fleet.region"].value
        sources = hazard_sources(
            self.instance,
            region,
            own=self.knowledge.own,
            profile=self.knowledge.profile,
            bands=self.knowledge.bands,
            assumptions=self.knowledge.assumptions,
            directory=self.knowledge.directory,
        )
        try:
            source = choose_hazard(sources, self.knowledge.hazard, self.instance)
        except InvalidInputError as error:
            raise InvalidInputError("--hazard", error.value, error.expected, error.hint) from None
        kind = type(source.lifetime).__name__.lower()
        self.values["market.lifetime"] = Value("market.lifetime", kind, f"data: {source.name}")
        shown = f"{source.name}: {source.source}"
        self._put("market.rate_per_hour", source.rate_per_hour, "data", shown, source.as_of, "1/h")
        return source.lifetime, source

    def _provision(self) -> Provision:
        given = self.layered.scenario.market.provision
        if given is not None:
            provision = provision_of(
                given, self.layered.name_of("market", "provision", "file"), nodes=self.values["fleet.nodes"].value
            )
            origins = {o for path, o in self.layered.origins.items() if path[:2] == ("market", "provision")}
            path = "market.provision_hours"
            self.values[path] = Value(path, provision.expected_hours, ", ".join(sorted(origins)))
            return provision
        if self.instance is None:
            row = self.knowledge.assumptions.row("provision_hours")
            self._put("market.provision_hours", row.value, "assumption", row.source, row.as_of)
            return ConstantProvision(row.value)
        source = provision_sources(
            self.instance,
            self.values["fleet.region"].value,
            assumptions=self.knowledge.assumptions,
            directory=self.knowledge.directory,
        )[0]
        origin = "assumption" if source.waits is None else "data"
        shown = source.source if source.waits is None else f"{source.name}: {source.source}"
        self._put("market.provision_hours", source.mean_hours, origin, shown, source.as_of)
        return source.provision

    def _notice_and_checkpoint(self) -> None:
        provider = self.values["fleet.provider"].value
        if provider is not None:
            self._assume("notice.seconds", f"notice_seconds_{provider}")
        elif not self._take("notice.seconds"):
            self._put("notice.seconds", 0.0, "assumption", "no provider is given: no notice is counted on")
        profile = self.knowledge.profile
        assumed = self.knowledge.assumptions.row("notice_success").value
        share = None if profile is None else measured_notice_success(profile, assumed)
        if profile is None or share is None:
            self._assume("notice.success", "notice_success")
        elif not self._take("notice.success"):
            acted_on = f"notices, {profile.notices_acted_on} acted on (the assumed {assumed:g} counts as one more)"
            source = profile_source(profile, profile.notices, acted_on)
            self._put("notice.success", share, "profile", source, profile_as_of(profile))
        if self._given("checkpoint.interval_seconds") is None:
            self.values["checkpoint.interval_seconds"] = Value(
                "checkpoint.interval_seconds", "auto", "default: the cheapest interval is looked for"
            )
        else:
            self._take("checkpoint.interval_seconds")
        self._durations()
        self._assume("checkpoint.persist_slowdown", "persist_slowdown")
        self._default("checkpoint.corruption", 0.0)
        self._assume("checkpoint.keep_last", "keep_last", convert=int)

    def _durations(self) -> None:
        """stall, persist, emergency and startup: given, measured, or derived from size and bandwidths."""
        size = self._given("job.checkpoint_gib")
        missing = [p for p in ("checkpoint.stall_seconds", "checkpoint.persist_seconds") if self._given(p) is None]
        profile = self.knowledge.profile
        if size is None and profile is not None and profile.checkpoint_bytes is not None:
            size = profile.checkpoint_bytes.mean / BYTES_PER_GIB
            source = profile_source(profile, profile.checkpoint_bytes.n)
            self._put("job.checkpoint_gib", size, "profile", source, profile_as_of(profile))
        elif size is None and missing:
            flag = "--" + missing[0].split(".")[1].replace("_", "-")
            raise InvalidInputError(
                "--checkpoint-gib",
                "nothing",
                "the size of one checkpoint in GiB",
                f"{flag} is derived from it; with Adam about 0.013 GiB per million parameters",
            )
        elif not self._take("job.checkpoint_gib"):
            self._put("job.checkpoint_gib", 0.0, "assumption", "no size is given: keeping checkpoints costs nothing")
        nodes = self.values["fleet.nodes"].value
        self.derived = derive_costs(
            self.instance or _UNKNOWN_INSTANCE,
            self.values["job.checkpoint_gib"].value,
            nodes,
            self.values["notice.seconds"].value,
            assumptions=self.knowledge.assumptions,
            profile=profile,
        )
        share = self.values["job.checkpoint_gib"].value / nodes
        for path, seconds in (
            ("checkpoint.stall_seconds", self.derived.stall_seconds),
            ("checkpoint.persist_seconds", self.derived.persist_seconds),
            ("restart.startup_seconds", self.derived.startup_seconds),
        ):
            if not self._take(path):
                self._put(path, seconds, "derived", self._derivation(path.split(".")[1], share))
        self._emergency(share)

    def _emergency(self, share: float) -> None:
        assert self.derived is not None
        path = "checkpoint.emergency_seconds"
        if self._take(path):
            return
        stall, persist = (self.values[f"checkpoint.{name}_seconds"].value for name in ("stall", "persist"))
        if (stall, persist) == (self.derived.stall_seconds, self.derived.persist_seconds):
            self._put(path, self.derived.emergency_seconds, "derived", self._derivation("emergency_seconds", share))
            return
        rows = [self.knowledge.assumptions.row(name) for name in ("notice_poll_seconds", "notice_agreement_seconds")]
        seconds = sum(row.value for row in rows) + stall + persist
        self._put(path, seconds, "derived", "one notice poll + agreement + stall + persist")

    def _derivation(self, name: str, share: float) -> str:
        """How a duration came about: measured, or its largest parts."""
        assert self.derived is not None
        kind = name.removesuffix("_seconds")
        parts = [(what.split(": ")[1], s) for what, s, _ in self.derived.parts if what.startswith(f"{kind}: ")]
        measured = [row for row in self.derived.assumptions if row.name == f"measured_{name}"]
        if measured:
            added = [f"{what} {seconds:.3g} s" for what, seconds in parts[:-1] if seconds > 0.0]
            return " + ".join((measured[0].source, *added))
        largest = sorted((part for part in parts if part[1] > 0.0), key=lambda part: -part[1])[:3]
        shown = ", ".join(f"{what} {seconds:.3g} s" for what, seconds in largest)
        return f"from {share:.4g} GiB a node and bandwidths: {shown}"

    def _storage(self) -> None:
        provider = self.values["fleet.provider"].value
        prices = _storage_prices(provider, self.knowledge.directory)
        for name, item, to_gib in (
            ("usd_per_gib_month", "storage", 1.073741824),
            ("usd_per_1000_puts", "put", 1.0),
            ("usd_per_1000_gets", "get", 1.0),
        ):
            path = f"storage.{name}"
            if self._take(path):
                continue
            if item in prices:
                row = prices[item]
                self._put(path, row.value * to_gib, "data", row.source, row.as_of)
            else:
                self._put(path, 0.0, "assumption", "no storage price is known here: left out of the cost")
        nodes = self.values["fleet.nodes"].value
        accelerators = self.instance.accelerator_count if self.instance else 1
        if not self._take("storage.shards"):
            self._put("storage.shards", nodes * accelerators, "assumption", "one object per accelerator")

    def _bill(self) -> None:
        path = "bill.rendezvous_usd_per_hour"
        if self.whole_bill and self.values["fleet.nodes"].value > 1:
            if not self._take(path):
                self._put(path, RENDEZVOUS.value, "assumption", RENDEZVOUS.source, RENDEZVOUS.as_of)
        else:
            self._default(path, 0.0)
        for name in (
            "on_demand_discount",
            "disk_gib",
            "disk_usd_per_gib_month",
            "transfer_gib",
            "transfer_usd_per_gib",
        ):
            self._default(f"bill.{name}", 0.0)
        self._default("bill.budget_usd", None)
        for size, price in (("disk_gib", "disk_usd_per_gib_month"), ("transfer_gib", "transfer_usd_per_gib")):
            if self._given(f"bill.{size}") and self._given(f"bill.{price}") is None:
                flag = f"--{price.replace('_', '-')}"
                raise InvalidInputError(flag, "nothing", f"a price, since --{size.replace('_', '-')} is given")

    def _rest(self) -> None:
        self._bill()
        self._default("policy.name", "spot-only")
        self._default("policy.decision_seconds", 60.0)


_UNKNOWN_INSTANCE = Instance(
    "aws", "unknown", UNKNOWN_ACCELERATOR, 1, None, None, None, None, None, None, None, "", "", ""
)
_LONG_NAMES = {
    "notice.seconds": "notice_seconds",
    "notice.success": "notice_success",
    "storage.usd_per_gib_month": "storage_usd_per_gib_month",
}
_SECTIONS = ("job", "fleet", "market", "notice", "checkpoint", "restart", "storage", "bill", "policy", "simulation")


def _section_order(path: str) -> int:
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


def _offer_prices(offer: Offer | None) -> tuple[tuple[str, float | None, str, str], ...]:
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


def _from_table(path: str, price: float | None, source: str, as_of: str) -> Value:
    if price is None:
        return Value(path, None, "unknown: no price in the tables")
    name = path.split(".")[1]
    return Value(path, price, f"data: {source}", Assumption(name, price, "USD/h", source, as_of))


@cache
def _storage_prices(provider: str | None, directory: Path | None) -> dict[str, Assumption]:
    """The standard object store's prices of a provider by item; empty when the tables have none."""
    found: dict[str, Assumption] = {}
    for row in read_table(tables.STORAGE_PRICES, directory):
        if row.text("provider") == provider and row.text("service") in _STANDARD_STORES:
            name = row.text("item")
            found[name] = Assumption(name, row.number("value"), row.text("unit"), row.text("source"), row.text("as_of"))
    return found


_STANDARD_STORES = {"s3-standard", "gcs-standard", "blob-hot"}


def find_instance(layered: Layered, catalogue: Catalogue, name: str, provider: str | None = None) -> Instance:
    """The instance type called `name`; InvalidInputError in the user's words, with the nearest name."""
    try:
        return catalogue.instance(name, provider)
    except InvalidInputError as error:
        path = ("fleet", "provider") if error.field == "provider" else ("fleet", "instance")
        raise InvalidInputError(layered.name_of(*path), error.value, error.expected, error.hint) from None


def check_place(
    layered: Layered, instance: Instance, offers: tuple[Offer, ...], region: str | None, zone: str | None
) -> None:
    """InvalidInputError, with the nearest name, for a region or zone without a known price of `instance`."""
    regions = sorted({offer.region for offer in offers})
    if region is not None and region not in regions:
        expected = f"a region with a known price of {instance.name}: {', '.join(regions) or 'there is none'}"
        raise InvalidInputError(layered.name_of("fleet", "region"), region, expected, did_you_mean(region, regions))
    zones = sorted({o.zone for o in offers if o.zone is not None and region in (None, o.region)})
    if zone is not None and zone not in zones:
        expected = f"a zone with a known price of {instance.name}: {', '.join(zones) or 'there is none'}"
        raise InvalidInputError(layered.name_of("fleet", "zone"), zone, expected, did_you_mean(zone, zones))
