"""Price history: rows are changes, not samples; between two of them the earlier price holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from planner.prices.records import PriceChange


@dataclass(frozen=True, slots=True)
class ZoneHistory:
    """One instance type in one zone: the price of each moment from `times[0]` on (times ascend strictly, UTC).

    Consecutive duplicates, which the API does return, are one step.
    """

    instance: str
    region: str
    zone: str
    times: tuple[datetime, ...]
    usd_per_hour: tuple[float, ...]

    def at(self, moment: datetime) -> float | None:
        """The price in force at `moment`; None before the first known change."""
        price = None
        for time, usd in zip(self.times, self.usd_per_hour, strict=True):
            if time > moment:
                break
            price = usd
        return price

    def mean(self, start: datetime, end: datetime) -> float | None:
        """Time-weighted mean over [start, end], as far as the price is known there; None when it is not at all."""
        edges = [*self.times[1:], end]
        weighted = total = 0.0
        for begin, stop, usd in zip(self.times, edges, self.usd_per_hour, strict=True):
            seconds = (min(stop, end) - max(begin, start)).total_seconds()
            if seconds > 0.0:
                weighted += seconds * usd
                total += seconds
        return weighted / total if total > 0.0 else self.at(end)

    def lowest_and_highest(self, start: datetime, end: datetime) -> tuple[float, float] | None:
        """Extremes of the prices in force within [start, end]; None when none is known there."""
        inside = [usd for time, usd in zip(self.times, self.usd_per_hour, strict=True) if start <= time <= end]
        first = self.at(start)
        prices = inside if first is None else [first, *inside]
        return (min(prices), max(prices)) if prices else None


def zone_histories(changes: Iterable[PriceChange]) -> tuple[ZoneHistory, ...]:
    """Changes in any order, by instance, region and zone.  Of two at the same moment the later in the list counts."""
    groups: dict[tuple[str, str, str], dict[datetime, float]] = {}
    for change in changes:
        groups.setdefault((change.instance, change.region, change.zone), {})[change.time] = change.usd_per_hour
    return tuple(_history(key, groups[key]) for key in sorted(groups))


def _history(key: tuple[str, str, str], prices: Mapping[datetime, float]) -> ZoneHistory:
    steps: list[tuple[datetime, float]] = []
    for time in sorted(prices):
        if not steps or steps[-1][1] != prices[time]:
            steps.append((time, prices[time]))
    return ZoneHistory(*key, tuple(time for time, _ in steps), tuple(usd for _, usd in steps))


def price_series_hours(history: ZoneHistory, start: datetime) -> tuple[Sequence[float], Sequence[float]]:
    """(hours since `start`, USD/h) change points from 0 on, as the simulator takes a price that moves.

    The price in force at `start` comes first; where the history begins later, its first price is carried back.
    """
    first = history.at(start)
    hours = [0.0]
    prices = [history.usd_per_hour[0] if first is None else first]
    for time, usd in zip(history.times, history.usd_per_hour, strict=True):
        if time > start and usd != prices[-1]:
            hours.append((time - start).total_seconds() / 3600.0)
            prices.append(usd)
    return hours, prices
