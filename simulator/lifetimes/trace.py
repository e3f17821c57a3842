"""A recorded history replayed: capacity comes and goes as it did, from a random moment on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import Lifetime, require, require_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TraceReplay(Lifetime):
    """Capacity is there during [up_start, up_end) of every period; each end is a loss.

    The engines do not draw lifetimes from this one.  Each run starts at an offset u·period, u uniform (the RUN
    stream); a request made at time t is answered at the first moment from t + provision on at which there is
    capacity (`wait_hours`), and the node lives until the interval's end (`lifetime_hours`).  All nodes see the same
    history and are lost together.  Adjacent intervals are allowed: a loss that is replaced at once.

    Only the last interval may end beyond the period: there is capacity at the trace's end and at its beginning, and
    the seam is no loss.  An end of +inf: never lost.

    The distribution functions describe the time to the next loss as seen from a uniformly drawn moment with
    capacity.  Packed: [n, period_hours, up_start…, up_end…].
    """

    up_start_hours: tuple[float, ...]
    up_end_hours: tuple[float, ...]
    period_hours: float
    _flat: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = "lifetime.trace"
        require(len(self.up_start_hours) > 0, where, "no interval with capacity", "a trace with capacity at some time")
        require(
            len(self.up_start_hours) == len(self.up_end_hours),
            where,
            (len(self.up_start_hours), len(self.up_end_hours)),
            "as many starts as ends",
        )
        require_finite("lifetime.trace period_hours", self.period_hours)
        require(self.up_start_hours[0] >= 0.0, where, self.up_start_hours[0], "times >= 0")
        require(self.up_start_hours[-1] < self.period_hours, where, self.up_start_hours[-1], "starts within the period")
        for start, end in zip(self.up_start_hours, self.up_end_hours, strict=True):
            # Shorter ones than the kernels' margin could not be told from the loss that ends them.
            require(end - start > 1e-6, where, (start, end), "intervals longer than 4 ms")
        for end, start in zip(self.up_end_hours, self.up_start_hours[1:], strict=False):
            require(end <= start, where, (end, start), "intervals in order that do not overlap")
        seam = self.up_end_hours[-1] - self.period_hours
        if seam > 0.0 and math.isfinite(seam):
            joined = self.up_start_hours[0] == 0.0 and abs(self.up_end_hours[0] - seam) <= 1e-9 * self.period_hours
            require(joined, where, self.up_end_hours[-1], "a last interval that continues in the first one")
        head = (float(len(self.up_start_hours)), self.period_hours)
        object.__setattr__(self, "_flat", (*head, *self.up_start_hours, *self.up_end_hours))

    @classmethod
    def from_intervals(cls, intervals: Sequence[tuple[float, float]], period_hours: float) -> TraceReplay:
        """From (start, end) pairs within [0, period]; one open at the period's end joins one open at its start."""
        starts = [start for start, _ in intervals]
        ends = [end for _, end in intervals]
        if starts and starts[0] == 0.0 and ends[-1] == period_hours:
            ends[-1] = math.inf if len(starts) == 1 else period_hours + ends[0]
        return cls(tuple(starts), tuple(ends), period_hours)

    def wait_hours(self, now_hours: float) -> float:
        """Hours until there is capacity; `now_hours` is time since the first request plus the run's offset."""
        return kernels.trace_wait(now_hours, self._flat)

    def lifetime_hours(self, now_hours: float) -> float:
        """Hours to the next loss for a node that starts at `now_hours`, when there is capacity."""
        return kernels.trace_lifetime(now_hours, self._flat)

    @property
    def availability(self) -> float:
        """Share of time with capacity."""
        if math.isinf(self.up_end_hours[-1]):
            return 1.0
        return math.fsum(self._lengths()) / self.period_hours

    def _lengths(self) -> list[float]:
        """Lengths of the whole intervals, the one over the seam counted once."""
        pairs = list(zip(self.up_start_hours, self.up_end_hours, strict=True))
        if self.up_end_hours[-1] > self.period_hours and len(pairs) > 1:
            pairs = pairs[1:]
        return [end - start for start, end in pairs]

    def survival(self, age_hours: float) -> float:
        if math.isinf(self.up_end_hours[-1]):
            return 1.0
        lengths = self._lengths()
        age = max(age_hours, 0.0)
        return math.fsum(max(length - age, 0.0) for length in lengths) / math.fsum(lengths)

    def cdf(self, age_hours: float) -> float:
        return 1.0 - self.survival(age_hours)

    def cumulative_hazard(self, age_hours: float) -> float:
        surviving = self.survival(age_hours)
        return -math.log(surviving) if surviving > 0.0 else math.inf

    def inverse_cumulative_hazard(self, h: float) -> float:
        if math.isinf(self.up_end_hours[-1]):
            return math.inf
        # S is linear between sorted lengths: walk down from the longest until it has risen to e^(−h).
        lengths = sorted(self._lengths(), reverse=True)
        wanted = math.exp(-h) * math.fsum(lengths)
        area = 0.0
        for count, (length, shorter) in enumerate(itertools.pairwise([*lengths, 0.0]), start=1):
            grown = area + count * (length - shorter)
            if grown >= wanted:
                return max(length - (wanted - area) / count, 0.0)
            area = grown
        return 0.0

    def hazard(self, age_hours: float) -> float:
        if math.isinf(self.up_end_hours[-1]):
            return 0.0
        left = [length - age_hours for length in self._lengths() if length > age_hours]
        return len(left) / math.fsum(left) if left else math.inf

    def mean_remaining_hours(self, age_hours: float) -> float:
        if math.isinf(self.up_end_hours[-1]):
            return math.inf
        left = [length - age_hours for length in self._lengths() if length > age_hours]
        return 0.5 * math.fsum(x * x for x in left) / math.fsum(left) if left else 0.0

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.TRACE, np.array(self._flat, dtype=np.float64)
