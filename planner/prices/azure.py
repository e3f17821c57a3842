"""Azure's retail price list: spot and on-demand prices per region, no key needed; no zones, no history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from harness.clock import Clock
from harness.errors import ExternalServiceError
from planner.catalogue import Price
from planner.prices.transport import Transport, get_json

URL = "https://prices.azure.com/api/retail/prices"
SOURCE = "Azure Retail Prices API"
_MOST_PAGES = 50


def fetch_prices(transport: Transport, instance: str, *, as_of: str, clock: Clock, url: str = URL) -> tuple[Price, ...]:
    """Spot and on-demand prices of one VM size (such as Standard_ND96asr_v4), Linux, in every region.

    Values in the filter are case-sensitive.  Windows, Low Priority and reservations are left out; of several rows for
    one region and market, the one that took effect last counts.  Raises ExternalServiceError when a page is missing:
    half a list is none.
    """
    newest: dict[tuple[str, str], tuple[str, float]] = {}
    try:
        for item in _items(transport, instance, clock, url):
            market = _market(item, instance)
            if market is None:
                continue
            key = (str(item["armRegionName"]), market)
            row = (str(item["effectiveStartDate"]), float(item["retailPrice"]))
            if row[1] > 0.0 and (key not in newest or row > newest[key]):
                newest[key] = row
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExternalServiceError(f"{SOURCE}: an answer of another form than expected ({error!r})") from error
    return tuple(
        Price("azure", instance, region, None, market, usd, as_of, SOURCE)
        for (region, market), (_, usd) in sorted(newest.items())
    )


def _items(transport: Transport, instance: str, clock: Clock, url: str) -> Iterator[Mapping[str, Any]]:
    condition = f"serviceName eq 'Virtual Machines' and armSkuName eq '{instance}' and priceType eq 'Consumption'"
    query = urlencode({"api-version": "2023-01-01-preview", "currencyCode": "USD", "$filter": condition})
    page: str | None = f"{url}?{query}"
    for _ in range(_MOST_PAGES):
        if page is None:
            return
        document = get_json(transport, page, what=f"{SOURCE}, {instance}", clock=clock)
        if not isinstance(document, dict):
            raise TypeError("no object")
        yield from document["Items"]
        page = document.get("NextPageLink") or None
        if page is not None and urlsplit(page)[:2] != urlsplit(url)[:2]:
            raise ExternalServiceError(f"{SOURCE}: the next page lies on another host ({urlsplit(page).netloc})")
    if page is not None:
        raise ExternalServiceError(f"{SOURCE}: more than {_MOST_PAGES} pages for {instance}")


def _market(item: Mapping[str, Any], instance: str) -> str | None:
    name = str(item["skuName"])
    ours = item["armSkuName"] == instance and item.get("type") == "Consumption" and item.get("currencyCode") == "USD"
    if not ours or "Windows" in str(item["productName"]) or "Low Priority" in name:
        return None
    return "spot" if "Spot" in name else "on-demand"
