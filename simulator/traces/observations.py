"""Observed lifetimes: when each node came under observation, when it left, and whether a reclaim was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import InvalidInputError


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """One row per node life, all arrays of shape (lives,).

    entry_hours:  age at which the node came under observation: 0 when it was seen from its start, more when it is
                  left-truncated (nodes that did not live that long were never in the log).
    exit_hours:   age at which observation ended.
    observed:     True where it ended in a reclaim, False where it is right-censored (stopped by the user, still
                  running at the end of the log).
    """

    entry_hours: NDArray[np.float64]
    exit_hours: NDArray[np.float64]
    observed: NDArray[np.bool_]

    @classmethod
    def of(cls, exit_hours: ArrayLike, observed: ArrayLike, entry_hours: ArrayLike = 0.0) -> Observations:
        """Checked rows; InvalidInputError for none at all, negative or non-finite ages, an exit not after its entry."""
        exits = np.atleast_1d(np.asarray(exit_hours, dtype=np.float64))
        seen = np.broadcast_to(np.asarray(observed, dtype=np.bool_), exits.shape).copy()
        entries = np.broadcast_to(np.asarray(entry_hours, dtype=np.float64), exits.shape).copy()
        if exits.size == 0:
            raise InvalidInputError("lifetimes", "no observations", "at least one observed lifetime")
        for name, values in (("lifetime", exits), ("age at entry", entries)):
            bad = ~(np.isfinite(values) & (values >= 0.0))
            if bad.any():
                row = int(np.argmax(bad))
                raise InvalidInputError(
                    f"lifetimes row {row + 1}, {name}", values[row], "a finite number of hours >= 0"
                )
        bad = exits <= entries
        if bad.any():
            row = int(np.argmax(bad))
            shown = f"{exits[row]:g} h, entered at {entries[row]:g} h"
            raise InvalidInputError(f"lifetimes row {row + 1}", shown, "a lifetime longer than the age at entry")
        return cls(entries, exits, seen)

    @classmethod
    def concatenate(cls, parts: Iterable[Observations]) -> Observations:
        """All lives of several logs."""
        parts = list(parts)
        if not parts:
            raise InvalidInputError("lifetimes", "no logs", "at least one log of lifetimes")
        return cls.of(
            np.concatenate([part.exit_hours for part in parts]),
            np.concatenate([part.observed for part in parts]),
            np.concatenate([part.entry_hours for part in parts]),
        )

    def __len__(self) -> int:
        return int(self.exit_hours.size)

    @property
    def events(self) -> int:
        """Reclaims seen."""
        return int(self.observed.sum())

    @property
    def exposure_hours(self) -> float:
        """Node-hours under observation."""
        return float((self.exit_hours - self.entry_hours).sum())

    @property
    def rate_per_hour(self) -> float:
        """Reclaims per node-hour."""
        return self.events / self.exposure_hours

    def capped(self, cap_hours: float) -> Observations:
        """The same lives seen up to `cap_hours`: who got there is censored there (a platform limit, not the market)."""
        keep = self.entry_hours < cap_hours
        exits = np.minimum(self.exit_hours, cap_hours)
        return Observations.of(
            exits[keep], self.observed[keep] & (self.exit_hours[keep] < cap_hours), self.entry_hours[keep]
        )
