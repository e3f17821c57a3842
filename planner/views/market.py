"""Prices for a screen: what the zones cost now, their history where one is known, live prices on request."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from planner.catalogue import Catalogue, Instance
from planner.prices.history import zone_histories
from planner.prices.live import LivePrices, Sources, default_regions, fetch_live
from planner.prices.records import grouped
from planner.views.plan import Plan

HISTORY_DAYS = 30.0
_MOST_ZONES = 16


@dataclass(frozen=True, slots=True)
class Live:
    """Live prices of one type: what was had, how old it is (s), and one sentence for each thing missing."""

    prices: LivePrices
    instance: str
    missing: tuple[str, ...]

    @property
    def age_seconds(self) -> float:
        """Age of the oldest answer in it."""
        return self.prices.oldest_seconds

    def catalogue(self, snapshot: Catalogue) -> Catalogue:
        """The snapshot with live prices wherever there are any."""
        return self.prices.catalogue(snapshot)


def ask_live(catalogue: Catalogue, instance: Instance, sources: Sources | None = None) -> Live:
    """Ask the providers (or the cache of the last hour) for the prices of one type, with 30 days of history."""
    found = fetch_live(
        [instance],
        regions=default_regions(catalogue, [instance]),
        sources=Sources.default() if sources is None else sources,
        history_days=HISTORY_DAYS if instance.provider == "aws" else 0.0,
        bands=False,
    )
    return Live(found, instance.name, tuple(str(gap) for gap in grouped(found.missing)))


def price_steps(live: Live, zones: list[str]) -> pd.DataFrame:
    """Change points of the price in `zones`: zone, time (UTC), usd_per_hour; empty where no history is known."""
    rows = [
        {"zone": history.zone, "time": time, "usd_per_hour": usd}
        for history in zone_histories(live.prices.changes)
        if history.zone in zones
        for time, usd in zip(history.times, history.usd_per_hour, strict=True)
    ]
    return pd.DataFrame(rows, columns=["zone", "time", "usd_per_hour"])


def prices_now(plan: Plan) -> pd.DataFrame:
    """Spot and on-demand price of every zone of the recommended type, cheapest first, with dates."""
    name = plan.best.offer.instance
    offers = [
        offer
        for offer in plan.link.knowledge.catalogue.offers(name, plan.best.offer.provider)
        if offer.spot_usd_per_hour is not None
    ]
    offers.sort(key=lambda offer: offer.spot_usd_per_hour or 0.0)
    rows = [
        {
            "place": offer.place,
            "region": offer.region,
            "spot_usd_per_hour": offer.spot_usd_per_hour,
            "on_demand_usd_per_hour": offer.on_demand_usd_per_hour,
            "chosen": offer.place == plan.best.offer.place,
            "as_of": offer.as_of,
            "source": offer.source,
        }
        for offer in offers[:_MOST_ZONES]
    ]
    columns = ["place", "region", "spot_usd_per_hour", "on_demand_usd_per_hour", "chosen", "as_of", "source"]
    return pd.DataFrame(rows, columns=columns)
