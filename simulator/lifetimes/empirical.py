"""A measured lifetime: the Kaplan–Meier estimate as it stands, and an exponential tail where the data end."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import Lifetime, require, require_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Empirical(Lifetime):
    """A step function: the survival probability falls to `survivals[i]` at age `ages_hours[i]`.

    Where the last survival is 0, the longest observation ended in a reclaim and nobody lives longer.  Where it is
    not, the longest observation was censored: from `tail_start_hours` (that observation's age) on the hazard is
    `tail_rate_per_hour`, the last that could be estimated, for ever.  That tail is an assumption, no measurement:
    `tail_share` says how many lifetimes are drawn from it.  `simulator.traces.kaplan_meier` makes one from
    observations.  Packed: [n, tail_start_hours, tail_rate_per_hour, ages…, cumulative hazards…].
    """

    ages_hours: tuple[float, ...]
    survivals: tuple[float, ...]
    tail_start_hours: float
    tail_rate_per_hour: float = 0.0
    _flat: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = "lifetime.empirical"
        require(len(self.ages_hours) == len(self.survivals), where, len(self.ages_hours), "as many ages as survivals")
        require(all(math.isfinite(age) and age >= 0.0 for age in self.ages_hours), where, "ages", "finite ages >= 0")
        ascending = all(a < b for a, b in itertools.pairwise(self.ages_hours))
        require(ascending, where, self.ages_hours, "ages that increase strictly")
        falling = all(a > b for a, b in itertools.pairwise((1.0, *self.survivals)))
        require(falling, where, self.survivals, "survival probabilities that fall strictly from below 1")
        require(self._last >= 0.0, where, self.survivals, "survival probabilities >= 0")
        require_finite("lifetime.tail_start_hours", self.tail_start_hours, inclusive=True)
        require_finite("lifetime.tail_rate_per_hour", self.tail_rate_per_hour, inclusive=True)
        late = not self.ages_hours or self.tail_start_hours >= self.ages_hours[-1]
        require(late, "lifetime.tail_start_hours", self.tail_start_hours, "an age at or after the last step")
        hazards = [-math.log(s) if s > 0.0 else math.inf for s in self.survivals]
        head = (float(len(self.ages_hours)), self.tail_start_hours, self.tail_rate_per_hour)
        object.__setattr__(self, "_flat", (*head, *self.ages_hours, *hazards))

    @property
    def _last(self) -> float:
        return self.survivals[-1] if self.survivals else 1.0

    @property
    def tail_share(self) -> float:
        """Share of lifetimes beyond the last observation: drawn from the assumed exponential tail."""
        return self._last

    @property
    def end_hours(self) -> float:
        """The age that nobody outlives; +inf with a tail."""
        return self.ages_hours[-1] if self._last == 0.0 else math.inf

    def survival(self, age_hours: float) -> float:
        index = bisect.bisect_right(self.ages_hours, age_hours)
        reached = self.survivals[index - 1] if index else 1.0
        beyond = max(age_hours - self.tail_start_hours, 0.0)
        return reached * math.exp(-self.tail_rate_per_hour * beyond)

    def cdf(self, age_hours: float) -> float:
        return 1.0 - self.survival(age_hours)

    def cumulative_hazard(self, age_hours: float) -> float:
        surviving = self.survival(age_hours)
        return -math.log(surviving) if surviving > 0.0 else math.inf

    def inverse_cumulative_hazard(self, h: float) -> float:
        return kernels.empirical_inverse(h, self._flat)

    def hazard(self, age_hours: float) -> float:
        """The mean hazard between the two steps around this age; +inf in the step that takes everybody."""
        if age_hours >= self.end_hours:
            return math.inf
        index = bisect.bisect_right(self.ages_hours, age_hours)
        if index == len(self.ages_hours):
            return self.tail_rate_per_hour if age_hours >= self.tail_start_hours else 0.0
        start = self.ages_hours[index - 1] if index else 0.0
        before = self.survivals[index - 1] if index else 1.0
        after = self.survivals[index]
        return math.log(before / after) / (self.ages_hours[index] - start) if after > 0.0 else math.inf

    def mean_remaining_hours(self, age_hours: float) -> float:
        age = max(age_hours, 0.0)
        surviving = self.survival(age)
        if surviving == 0.0:
            return 0.0
        if self._last > 0.0 and self.tail_rate_per_hour == 0.0:
            return math.inf
        index = bisect.bisect_right(self.ages_hours, age)
        corners = [age, *self.ages_hours[index:]]
        heights = [surviving, *self.survivals[index:]]
        area = math.fsum(height * (b - a) for height, (a, b) in zip(heights, itertools.pairwise(corners), strict=False))
        if self._last > 0.0:
            # To the start of the tail, then S(max(age, start)) / rate for ever.
            area += self._last * max(self.tail_start_hours - corners[-1], 0.0)
            area += self.survival(max(age, self.tail_start_hours)) / self.tail_rate_per_hour
        return area / surviving

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.EMPIRICAL, np.array(self._flat, dtype=np.float64)
