"""What a provider said: price changes, placement scores, and what could not be had and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that was asked for and not had: what, why, and what would help."""

    what: str
    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f" ({self.remedy})" if self.remedy else "")


def grouped(missing: Iterable[Missing]) -> tuple[Missing, ...]:
    """The same things with those that fail for one reason on one line: "AWS spot prices in a, b and 15 more: why"."""
    groups: dict[tuple[str, str], list[str]] = {}
    for gap in missing:
        groups.setdefault((gap.why, gap.remedy), []).append(gap.what)
    return tuple(Missing(_joined(names), *reason) for reason, names in groups.items())


def _joined(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]}, {names[1]} and {len(names) - 2} more"


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """How asking for live prices went: how many came, how old the oldest is, and a line for each thing missing."""

    prices: int
    oldest_seconds: float
    missing: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In one sentence."""
        if not self.prices:
            return "No provider answered: all prices are the bundled snapshot's."
        age = f"the oldest answer {self.oldest_seconds / 60.0:.0f} min old" if self.oldest_seconds else "asked just now"
        return f"{self.prices:,} live prices, {age}."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing, for those who rely on the answer."""
        return tuple(f"not had live: {line}" for line in self.missing)


@dataclass(frozen=True, slots=True)
class PriceChange:
    """The spot price of an instance type in a zone became `usd_per_hour` at `time` (UTC) and held until the next.

    `zone_id` (use1-az1) means the same zone to everybody; `zone_name` (us-east-1b) only within one account.  Either may
    be unknown, never both.
    """

    instance: str
    region: str
    zone_id: str | None
    zone_name: str | None
    time: datetime
    usd_per_hour: float

    @property
    def zone(self) -> str:
        """The zone id where it is known, else the account's name for it."""
        return self.zone_id or self.zone_name or self.region


@dataclass(frozen=True, slots=True)
class PlacementScore:
    """AWS's score from 1 to 10 of how likely a spot request of this size succeeds: a rank, not a probability."""

    region: str
    zone_id: str | None
    score: int
    instance: str | None = None
    """The type that was asked for; None: any of several."""
    as_of: str = ""


def utc(text: str) -> datetime:
    """An ISO 8601 time as an aware UTC datetime; ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
