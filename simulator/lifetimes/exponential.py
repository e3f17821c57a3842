"""The memoryless lifetime: one rate at every age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import Lifetime, require, require_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Exponential(Lifetime):
    """H(t) = rate · t.  Rate 0: the node is never reclaimed.  Packed: [rate_per_hour]."""

    rate_per_hour: float

    def __post_init__(self) -> None:
        require_finite("lifetime.rate_per_hour", self.rate_per_hour, inclusive=True)

    @classmethod
    def from_probability_per_hour(cls, probability_per_hour: float) -> Exponential:
        """The rate −ln(1 − p) whose chance of a reclaim within an hour is `p` (0 <= p < 1)."""
        field = "lifetime.probability_per_hour"
        require(0.0 <= probability_per_hour < 1.0, field, probability_per_hour, "a probability in [0, 1)")
        return cls(-math.log1p(-probability_per_hour))

    def cumulative_hazard(self, age_hours: float) -> float:
        return self.rate_per_hour * max(age_hours, 0.0) if self.rate_per_hour > 0.0 else 0.0

    def inverse_cumulative_hazard(self, h: float) -> float:
        return kernels.exponential_inverse(h, self.rate_per_hour)

    def hazard(self, age_hours: float) -> float:  # noqa: ARG002  the same at every age
        return self.rate_per_hour

    def mean_remaining_hours(self, age_hours: float) -> float:  # noqa: ARG002  memoryless
        return 1.0 / self.rate_per_hour if self.rate_per_hour > 0.0 else math.inf

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.EXPONENTIAL, np.array([self.rate_per_hour], dtype=np.float64)
