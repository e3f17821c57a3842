"""The catalogue: accelerator instances of AWS, GCP and Azure, and what each costs where.

`load_catalogue()` reads the bundled tables.  What a table lacks stays None; nothing is guessed.  Prices that need a
second look carry flags (`FLAGS` explains each).  Importing this module costs nothing: standard library only.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean, nearest
from planner import tables
from planner.assumptions import Assumptions, load_assumptions
from planner.data_files import AsOf, Row, read_table

FAR_BELOW_SIBLINGS = "far-below-sibling-zones"
NO_DISCOUNT = "no-discount"
REGION_LEVEL = "region-level-price"
OLD_PRICE = "old-price"
SNAPSHOT_PRICE = "snapshot-price"
NO_SPOT = "spot-price-missing"
NO_ON_DEMAND = "on-demand-price-missing"
ACCELERATOR_ONLY = "accelerator-only-price"
ZONE_ALIAS = "zone-name-of-one-account"
LOCAL_ZONE = "local-zone"

FLAGS: Mapping[str, str] = {
    FAR_BELOW_SIBLINGS: "the spot price is under half the median of its discounted sibling zones: check it before use",
    NO_DISCOUNT: "spot costs as much as on-demand here",
    REGION_LEVEL: "the price is for the region; zones may differ",
    OLD_PRICE: "the spot price is much older than the newest of its provider",
    SNAPSHOT_PRICE: "no live spot price was to be had here: the bundled one stands in",
    NO_SPOT: "no spot price is known here",
    NO_ON_DEMAND: "no on-demand price is known in this region",
    ZONE_ALIAS: "the zone is called so in one account only; zone ids (use1-az1) mean the same to everybody",
    LOCAL_ZONE: "a Local Zone: few machines, and an on-demand price that may differ from the region's shown here",
    ACCELERATOR_ONLY: "the source prices the accelerators without the virtual machine: no price of the whole is known",
}

# A spot price within half a percent of on-demand is no discount: sources round to four digits.
_NO_DISCOUNT_SHARE = 0.995
# use1-az1 is a zone; use1-atl2-az1 is a Local Zone of the same region.
_LOCAL_ZONE_ID = re.compile(r"[a-z]+\d+-[a-z]+\d+-az\d+")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator model: peak dense TFLOP/s without sparsity, memory in GB per device; None is not known."""

    name: str
    form: str | None
    peak_dense_bf16_tflops: float | None
    peak_dense_fp16_tflops: float | None
    memory_gb: float | None
    memory_bandwidth_gb_per_second: float | None
    note: str
    source: str
    as_of: str

    @property
    def peak_dense_tflops(self) -> float | None:
        """Peak dense 16-bit TFLOP/s: BF16 where the model has it, else FP16."""
        return self.peak_dense_bf16_tflops or self.peak_dense_fp16_tflops


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance type.  Memory in GiB (accelerator: per device), local disks in GB, bandwidths in Gb/s."""

    provider: str
    name: str
    accelerator: str
    accelerator_count: int
    accelerator_memory_gib: float | None
    vcpus: int | None
    memory_gib: float | None
    local_nvme_gb: float | None
    local_nvme_drives: int | None
    network_gbps: float | None
    disk_gbps: float | None
    note: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What one instance costs in one place, in USD per hour.

    `zone` is None for a price of the whole region.  `as_of` and `source` are the spot price's (the on-demand price's
    where there is no spot price); dates may be known to the month only.  `flags` are keys of `FLAGS`.
    """

    provider: str
    instance: str
    region: str
    zone: str | None
    spot_usd_per_hour: float | None
    on_demand_usd_per_hour: float | None
    as_of: str
    source: str
    flags: tuple[str, ...] = ()
    on_demand_as_of: str | None = None
    on_demand_source: str | None = None

    @property
    def discount(self) -> float | None:
        """1 − spot/on-demand; None when either is unknown."""
        if self.spot_usd_per_hour is None or not self.on_demand_usd_per_hour:
            return None
        return 1.0 - self.spot_usd_per_hour / self.on_demand_usd_per_hour

    @property
    def place(self) -> str:
        """The zone, or the region for a region-level price."""
        return self.zone or self.region


@dataclass(frozen=True, slots=True)
class Price:
    """One price: of an instance, in a region or a zone, on one market (``spot`` or ``on-demand``)."""

    provider: str
    instance: str
    region: str
    zone: str | None
    market: str
    usd_per_hour: float
    as_of: str
    source: str
    accelerator_only: bool = False


class Catalogue:
    """Instances, accelerators and offers, looked up by name."""

    def __init__(
        self,
        instances: Iterable[Instance],
        accelerators: Iterable[Accelerator],
        prices: Iterable[Price],
        assumptions: Assumptions,
        *,
        live: frozenset[tuple[str, str, str]] | None = None,
    ) -> None:
        self._instances = {(row.provider, row.name): row for row in instances}
        self._by_name: dict[str, list[Instance]] = {}
        for row in self._instances.values():
            self._by_name.setdefault(row.name.casefold(), []).append(row)
        self.accelerators: Mapping[str, Accelerator] = {row.name: row for row in accelerators}
        self.prices = tuple(prices)
        self.assumptions = assumptions
        self._live = live
        """(provider, instance, region) with a live spot price; None where nobody was asked for one."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance type."""
        return tuple(self._instances.values())

    def instance(self, name: str, provider: str | None = None) -> Instance:
        """The instance type called `name` (capitals do not matter).

        Raises InvalidInputError, with the nearest name, when there is none.
        """
        if provider is not None:
            self.require_provider(provider)
        for row in self._by_name.get(name.casefold(), ()):
            if provider in (None, row.provider):
                return row
        candidates = [row for row in self.instances if provider in (None, row.provider)]
        where = f" of {provider}" if provider else ""
        guess = did_you_mean(name, (row.name for row in candidates))
        raise InvalidInputError("instance", name, f"an accelerator instance type{where} from the catalogue", guess)

    @staticmethod
    def require_provider(name: str) -> None:
        """InvalidInputError, with the nearest, unless `name` is a provider of the catalogue."""
        if name not in tables.PROVIDERS:
            hint = did_you_mean(name, tables.PROVIDERS)
            raise InvalidInputError("provider", name, f"one of {', '.join(tables.PROVIDERS)}", hint)

    def with_accelerator(self, name: str, count: int | None = None) -> tuple[Instance, ...]:
        """The instance types with this accelerator (``A100`` means every A100) and, if given, so many per node.

        Raises InvalidInputError, with what there is, when no type matches.
        """
        wanted = name.casefold()
        matching = [
            row
            for row in self.instances
            if row.accelerator.casefold() == wanted or row.accelerator.casefold().startswith(f"{wanted}-")
        ]
        known = sorted({row.accelerator for row in self.instances})
        if not matching:
            guess = nearest(name, known)
            hint = f"did you mean {guess!r}?" if guess else None
            raise InvalidInputError("accelerator", name, f"one of {', '.join(known)}", hint)
        if count is None:
            return tuple(matching)
        counted = tuple(row for row in matching if row.accelerator_count == count)
        if not counted:
            counts = sorted({row.accelerator_count for row in matching})
            raise InvalidInputError("accelerator", f"{name}:{count}", f"a count per node out of {counts}")
        return counted

    def offers(self, instance_name: str, provider: str | None = None) -> tuple[Offer, ...]:
        """Where `instance_name` can be had: one offer per zone with a spot price, one per region without zones.

        Empty when no price is known at all.  Raises InvalidInputError for an unknown instance.
        """
        row = self.instance(instance_name, provider)
        return self._offers.get((row.provider, row.name), ())

    def all_offers(self) -> tuple[Offer, ...]:
        """Every offer of every instance."""
        return tuple(offer for offers in self._offers.values() for offer in offers)

    def unpriced(self) -> tuple[Instance, ...]:
        """The instance types without a single price: listed, never guessed."""
        return tuple(row for key, row in self._instances.items() if not self._offers.get(key))

    def accelerator_memory_gib(self, instance: Instance) -> float | None:
        """Memory per accelerator in GiB: the instance's own figure, else the model's (GB taken as GiB), else None."""
        if instance.accelerator_memory_gib is not None:
            return instance.accelerator_memory_gib
        model = self.accelerators.get(instance.accelerator)
        return model.memory_gb if model else None

    def with_prices(self, prices: Iterable[Price]) -> Catalogue:
        """This catalogue with newer prices in place of those for the same instance, market and region.

        A region that `prices` says nothing about keeps what it had: its older date and its flags (`SNAPSHOT_PRICE`
        for the spot price) show it.
        """
        fresh = tuple(prices)
        replaced = {(row.provider, row.instance, row.region, row.market) for row in fresh}
        kept = (row for row in self.prices if (row.provider, row.instance, row.region, row.market) not in replaced)
        accelerators = self.accelerators.values()
        live = {key[:3] for key in replaced if key[3] == "spot"} | (self._live or set())
        return Catalogue(self.instances, accelerators, (*kept, *fresh), self.assumptions, live=frozenset(live))

    @cached_property
    def _offers(self) -> dict[tuple[str, str], tuple[Offer, ...]]:
        on_demand = {(row.provider, row.instance, row.region): row for row in self.prices if row.market == "on-demand"}
        offers: dict[tuple[str, str], list[Offer]] = {}
        priced_regions: set[tuple[str, str, str]] = set()
        for price in self.prices:
            if price.market == "spot":
                region = (price.provider, price.instance, price.region)
                priced_regions.add(region)
                offers.setdefault(region[:2], []).append(_spot_offer(price, on_demand.get(region)))
        for region, price in on_demand.items():
            if region not in priced_regions:
                offers.setdefault(region[:2], []).append(_on_demand_offer(price))
        return self._flagged(offers)

    def _flagged(self, offers: Mapping[tuple[str, str], list[Offer]]) -> dict[tuple[str, str], tuple[Offer, ...]]:
        newest: dict[str, AsOf] = {}
        for row in self.prices:
            date = AsOf.parse(row.as_of)
            if row.provider not in newest or date.first > newest[row.provider].first:
                newest[row.provider] = date
        ratio = self.assumptions.value("suspicious_price_ratio")
        old_days = self.assumptions.value("old_price_days")
        flagged = {}
        for key, rows in offers.items():
            rows.sort(key=lambda offer: (offer.region, offer.zone or ""))
            suspicious = _far_below_siblings(rows, ratio)
            for index, offer in enumerate(rows):
                more = (
                    *((FAR_BELOW_SIBLINGS,) if index in suspicious else ()),
                    *((OLD_PRICE,) if _is_old(offer, newest[offer.provider], old_days) else ()),
                    *((SNAPSHOT_PRICE,) if self._is_snapshot(offer) else ()),
                )
                if more:
                    rows[index] = replace(offer, flags=(*offer.flags, *more))
            flagged[key] = tuple(rows)
        return flagged

    def _is_snapshot(self, offer: Offer) -> bool:
        if self._live is None or offer.spot_usd_per_hour is None:
            return False
        return (offer.provider, offer.instance, offer.region) not in self._live


def load_catalogue(directory: Path | None = None) -> Catalogue:
    """The catalogue of the bundled tables (or of another folder of tables); InvalidInputError for corrupt ones."""
    accelerators = [
        Accelerator(
            name=row.text("accelerator"),
            form=row.optional_text("form"),
            peak_dense_bf16_tflops=row.optional_number("peak_dense_bf16_tflops"),
            peak_dense_fp16_tflops=row.optional_number("peak_dense_fp16_tflops"),
            memory_gb=row.optional_number("memory_gb"),
            memory_bandwidth_gb_per_second=row.optional_number("memory_bandwidth_gb_per_second"),
            note=row.text("note"),
            source=row.text("source"),
            as_of=row.text("as_of"),
        )
        for row in read_table(tables.ACCELERATORS, directory)
    ]
    instances = [_instance(row) for row in read_table(tables.INSTANCES, directory)]
    prices = [
        Price(
            provider=row.text("provider"),
            instance=row.text("instance"),
            region=row.text("region"),
            zone=row.optional_text("zone"),
            market=row.text("market"),
            usd_per_hour=row.number("usd_per_hour"),
            as_of=row.text("as_of"),
            source=row.text("source"),
            accelerator_only=row.text("scope") == "accelerator-only",
        )
        for row in read_table(tables.PRICES, directory)
    ]
    return Catalogue(instances, accelerators, prices, load_assumptions(directory))


def _instance(row: Row) -> Instance:
    return Instance(
        provider=row.text("provider"),
        name=row.text("instance"),
        accelerator=row.text("accelerator"),
        accelerator_count=int(row.number("accelerator_count")),
        accelerator_memory_gib=row.optional_number("accelerator_memory_gib"),
        vcpus=row.optional_count("vcpus"),
        memory_gib=row.optional_number("memory_gib"),
        local_nvme_gb=row.optional_number("local_nvme_gb"),
        local_nvme_drives=row.optional_count("local_nvme_drives"),
        network_gbps=row.optional_number("network_gbps"),
        disk_gbps=row.optional_number("disk_gbps"),
        note=row.text("note"),
        source=row.text("source"),
        as_of=row.text("as_of"),
    )


def _spot_offer(spot: Price, on_demand: Price | None) -> Offer:
    flags = []
    if spot.accelerator_only:
        flags.append(ACCELERATOR_ONLY)
    if spot.zone is None:
        flags.append(REGION_LEVEL)
    elif spot.provider == "aws" and spot.zone.startswith(spot.region):
        flags.append(ZONE_ALIAS)
    elif spot.provider == "aws" and _LOCAL_ZONE_ID.fullmatch(spot.zone):
        flags.append(LOCAL_ZONE)
    if on_demand is None:
        flags.append(NO_ON_DEMAND)
    elif spot.usd_per_hour >= _NO_DISCOUNT_SHARE * on_demand.usd_per_hour:
        flags.append(NO_DISCOUNT)
    on_demand_whole = on_demand if on_demand is not None and not on_demand.accelerator_only else None
    return Offer(
        provider=spot.provider,
        instance=spot.instance,
        region=spot.region,
        zone=spot.zone,
        spot_usd_per_hour=None if spot.accelerator_only else spot.usd_per_hour,
        on_demand_usd_per_hour=on_demand_whole.usd_per_hour if on_demand_whole else None,
        as_of=spot.as_of,
        source=spot.source,
        flags=tuple(flags),
        on_demand_as_of=on_demand_whole.as_of if on_demand_whole else None,
        on_demand_source=on_demand_whole.source if on_demand_whole else None,
    )


def _on_demand_offer(price: Price) -> Offer:
    return Offer(
        provider=price.provider,
        instance=price.instance,
        region=price.region,
        zone=None,
        spot_usd_per_hour=None,
        on_demand_usd_per_hour=None if price.accelerator_only else price.usd_per_hour,
        as_of=price.as_of,
        source=price.source,
        flags=(ACCELERATOR_ONLY, NO_SPOT) if price.accelerator_only else (NO_SPOT,),
        on_demand_as_of=price.as_of,
        on_demand_source=price.source,
    )


def _far_below_siblings(offers: list[Offer], ratio: float) -> set[int]:
    """Positions of zones whose spot price is under `ratio` × the median of their discounted siblings in the region.

    Zones without a discount say nothing about the market's spot price (often nobody can get one there), so they do
    not count as siblings.  With fewer than two siblings nobody can tell which price is the odd one.
    """
    by_region: dict[str, list[int]] = {}
    for index, offer in enumerate(offers):
        if offer.zone and offer.spot_usd_per_hour is not None and NO_DISCOUNT not in offer.flags:
            by_region.setdefault(offer.region, []).append(index)
    suspicious = set()
    for indices in by_region.values():
        for index in indices:
            siblings = [offers[other].spot_usd_per_hour or 0.0 for other in indices if other != index]
            price = offers[index].spot_usd_per_hour or 0.0
            if len(siblings) >= 2 and price < ratio * statistics.median(siblings):
                suspicious.add(index)
    return suspicious


def _is_old(offer: Offer, newest: AsOf, old_days: float) -> bool:
    if offer.spot_usd_per_hour is None:
        return False
    return (newest.first - AsOf.parse(offer.as_of).last).days > old_days
