"""What a replay is fed with: the job, and the market's availability and price per tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Job:
    """A job with a deadline, on one instance.  Durations in seconds."""

    work_seconds: float
    """C: useful work."""
    deadline_seconds: float
    """R: counted from the submission, the start of the window."""
    restart_seconds: float
    """d: overhead that each newly started instance pays before it makes progress."""
    on_demand_usd_per_hour: float

    def __post_init__(self) -> None:
        _require(self.work_seconds > 0.0, "work_hours", self.work_seconds / 3600.0, "a finite number of hours > 0")
        _require(
            self.deadline_seconds >= self.work_seconds,
            "deadline_hours",
            self.deadline_seconds / 3600.0,
            f"at least the work itself, {self.work_seconds / 3600.0:g} hours",
        )
        _require(math.isfinite(self.deadline_seconds), "deadline_hours", self.deadline_seconds, "a finite number")
        _require(self.restart_seconds >= 0.0, "restart_hours", self.restart_seconds / 3600.0, "a number of hours >= 0")
        _require(
            self.on_demand_usd_per_hour >= 0.0, "on_demand_usd_per_hour", self.on_demand_usd_per_hour, "a price >= 0"
        )
        for name in ("work_seconds", "restart_seconds", "on_demand_usd_per_hour"):
            _require(math.isfinite(getattr(self, name)), name, getattr(self, name), "a finite number")

    @classmethod
    def from_hours(
        cls, work_hours: float, deadline_hours: float, restart_hours: float, on_demand_usd_per_hour: float
    ) -> Job:
        """A job given in hours, rounded to whole milliseconds so that ties in the rules are exact."""
        return cls(
            work_seconds=round(work_hours * 3600.0, 3),
            deadline_seconds=round(deadline_hours * 3600.0, 3),
            restart_seconds=round(restart_hours * 3600.0, 3),
            on_demand_usd_per_hour=on_demand_usd_per_hour,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Spot availability and price of one zone, tick by tick.

    available:         shape (ticks,), bool: spot capacity is there during the whole tick.
    spot_usd_per_hour: shape (ticks,): price in force in that tick.
    tick_seconds:      length of a tick.
    """

    available: NDArray[np.bool_]
    spot_usd_per_hour: NDArray[np.float64]
    tick_seconds: float

    def __post_init__(self) -> None:
        _require(self.available.ndim == 1 and self.available.size > 0, "trace", self.available.shape, "some ticks")
        _require(self.available.dtype == np.bool_, "trace", self.available.dtype, "true or false per tick")
        _require(
            self.spot_usd_per_hour.shape == self.available.shape,
            "prices",
            self.spot_usd_per_hour.shape,
            f"one price per tick, {self.available.size}",
        )
        good = bool(np.all(np.isfinite(self.spot_usd_per_hour)) and np.all(self.spot_usd_per_hour >= 0.0))
        _require(good, "prices", "a negative or missing price", "finite prices >= 0")
        _require(
            math.isfinite(self.tick_seconds) and self.tick_seconds > 0.0,
            "gap_seconds",
            self.tick_seconds,
            "a finite number of seconds > 0",
        )

    @property
    def ticks(self) -> int:
        return int(self.available.size)


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        raise InvalidInputError(field, value, expected)
