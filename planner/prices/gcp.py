"""Google Cloud's billing catalogue: no price per machine type, so the sum of its parts, or none at all.

A machine costs its vCPUs, memory, accelerators and bundled local disks; each is a SKU found by its description, its
usage type (OnDemand or Preemptible, which is what Spot is called there) and its region.  A part without a SKU, or with
two different prices, makes the whole price missing: a partial sum is how catalogues go wrong by a factor of two.

Descriptions are those of the public catalogue in 2026 ("Spot Preemptible A2 Instance Core running in Americas",
"Nvidia Tesla A100 GPU attached to Spot Preemptible VMs running in Americas", "SSD backed Local Storage").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from harness.clock import Clock
from harness.errors import ExternalServiceError
from planner.catalogue import Instance, Price
from planner.prices.records import Missing
from planner.prices.transport import Transport, get_json

URL = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
"""The SKUs of Compute Engine."""
SOURCE = "Google Cloud Billing Catalog"
HOURS_PER_MONTH = 730.0
_MOST_PAGES = 100
_USAGE = {"spot": "Preemptible", "on-demand": "OnDemand"}


@dataclass(frozen=True, slots=True)
class _Family:
    """How the SKUs of a machine family are described: its name in core and memory SKUs, and its accelerator's."""

    name: str
    accelerators: tuple[str, ...]
    bundled_disks: bool


_FAMILIES = {
    "a2-highgpu": _Family("A2", ("Nvidia Tesla A100 GPU",), False),
    "a2-megagpu": _Family("A2", ("Nvidia Tesla A100 GPU",), False),
    "a2-ultragpu": _Family("A2", ("Nvidia Tesla A100 80GB GPU",), True),
    "a3-highgpu": _Family("A3", ("Nvidia H100 80GB GPU",), True),
    "a3-megagpu": _Family("A3Plus", ("Nvidia H100 80GB Mega GPU", "Nvidia H100 80GB Plus GPU"), True),
    "g2-standard": _Family("G2", ("Nvidia L4 GPU",), False),
}


@dataclass(frozen=True, slots=True)
class Sku:
    """One SKU: USD per `unit` (h, GiBy.h or GiBy.mo) in some regions."""

    description: str
    usage: str
    regions: frozenset[str]
    unit: str
    usd: float


def fetch_skus(transport: Transport, api_key: str, *, clock: Clock, url: str = URL) -> tuple[Sku, ...]:
    """Every hourly or monthly SKU of Compute Engine with one price, all pages (the key travels in a header).

    Raises ExternalServiceError when a page is missing or of another form.
    """
    try:
        return tuple(sku for raw in _pages(transport, api_key, clock, url) for sku in _sku(raw))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExternalServiceError(f"{SOURCE}: an answer of another form than expected ({error!r})") from error


def _pages(transport: Transport, api_key: str, clock: Clock, url: str) -> Iterator[Mapping[str, Any]]:
    token = ""
    for _ in range(_MOST_PAGES):
        query = {"pageSize": "5000", "currencyCode": "USD", **({"pageToken": token} if token else {})}
        headers = {"X-Goog-Api-Key": api_key}
        document = get_json(transport, f"{url}?{urlencode(query)}", what=SOURCE, clock=clock, headers=headers)
        if not isinstance(document, dict):
            raise TypeError("no object")
        yield from document["skus"]
        token = document.get("nextPageToken") or ""
        if not token:
            return
    raise ExternalServiceError(f"{SOURCE}: more than {_MOST_PAGES} pages")


def _sku(raw: Mapping[str, Any]) -> Iterator[Sku]:
    """The SKU, if it has exactly one price above zero (a free first tier does not count)."""
    pricing = raw.get("pricingInfo") or []
    if not pricing or raw["category"]["usageType"] not in _USAGE.values():
        return
    expression = max(pricing, key=lambda info: str(info.get("effectiveTime", "")))["pricingExpression"]
    prices = {_usd(rate["unitPrice"]) for rate in expression["tieredRates"]}
    prices.discard(0.0)
    if len(prices) == 1:
        regions = frozenset(raw["serviceRegions"])
        yield Sku(raw["description"], raw["category"]["usageType"], regions, expression["usageUnit"], prices.pop())


def _usd(money: Mapping[str, Any]) -> float:
    if money.get("currencyCode", "USD") != "USD":
        raise ValueError(f"a price in {money['currencyCode']}")
    return float(money.get("units") or 0) + float(money.get("nanos") or 0) / 1e9


def machine_prices(
    skus: Sequence[Sku], instance: Instance, *, as_of: str
) -> tuple[tuple[Price, ...], tuple[Missing, ...]]:
    """(prices, what is missing) of one machine type on both markets, in every region that has its accelerator.

    Regions without the accelerator are no gap; a region with it and without another part is.
    """
    family = next((found for prefix, found in _FAMILIES.items() if instance.name.startswith(prefix)), None)
    if family is None or instance.vcpus is None or instance.memory_gib is None:
        why = "how its price is put together is not known here"
        return (), (Missing(f"Google Cloud price of {instance.name}", why),)
    prices: list[Price] = []
    missing: list[Missing] = []
    for market in _USAGE:
        pools = _parts(skus, instance, family, market)
        regions = sorted({region for sku in pools[0].skus for region in sku.regions})
        for region in regions:
            what = f"Google Cloud {market} price of {instance.name} in {region}"
            total = 0.0
            gaps = []
            for pool in pools:
                found = {sku.usd for sku in pool.skus if region in sku.regions}
                if len(found) == 1:
                    total += pool.quantity * found.pop()
                else:
                    gaps.append(f"{'two prices' if found else 'no price'} for {pool.name}")
            if gaps:
                missing.append(Missing(what, ", ".join(gaps)))
            else:
                prices.append(Price("gcp", instance.name, region, None, market, round(total, 6), as_of, SOURCE))
    if not prices and not missing:
        missing.append(Missing(f"Google Cloud price of {instance.name}", "no SKU of its accelerator in any region"))
    return tuple(prices), tuple(missing)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    quantity: float
    skus: tuple[Sku, ...]


def _parts(skus: Iterable[Sku], instance: Instance, family: _Family, market: str) -> list[_Part]:
    """What the machine is made of, its accelerators first; the quantity is in the SKU's unit per hour."""
    assert instance.vcpus is not None
    assert instance.memory_gib is not None
    spot = market == "spot"
    prefix = "Spot Preemptible " if spot else ""
    attached = " attached to Spot Preemptible VMs" if spot else ""
    accelerator = "|".join(re.escape(name) for name in family.accelerators)
    wanted = [
        ("accelerators", float(instance.accelerator_count), f"({accelerator}){attached} running in .+", "h"),
        ("vCPUs", float(instance.vcpus), f"{prefix}{family.name} Instance Core running in .+", "h"),
        ("memory", instance.memory_gib, f"{prefix}{family.name} Instance Ram running in .+", "GiBy.h"),
    ]
    if family.bundled_disks:
        gib = (instance.local_nvme_gb or 0.0) / HOURS_PER_MONTH
        wanted.append(("local disks", gib, f"SSD backed Local Storage{attached}( (in|running in) .+)?", "GiBy.mo"))
    usable = [sku for sku in skus if sku.usage == _USAGE[market]]
    return [
        _Part(
            name,
            quantity,
            tuple(sku for sku in usable if sku.unit == unit and re.fullmatch(pattern, sku.description)),
        )
        for name, quantity, pattern, unit in wanted
    ]
