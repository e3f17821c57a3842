"""The bathtub lifetime of preemptible nodes: early losses, a quiet middle, a platform limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import Lifetime, require, require_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bathtub(Lifetime):
    """F(t) = A·(1 − e^(−t/τ₁) + e^((t−b)/τ₂)), up to an optional cap at which what is left is reclaimed.

    F is taken as published, unscaled: it is 1 at a finite age, which nobody outlives; a cap below that age takes
    whoever is left, with the same notice as any reclaim.  F(0) = A·e^(−b/τ₂), usually negligible, is the share
    reclaimed on arrival.  Packed: [a, tau1_hours, b_hours, tau2_hours, end_hours, h_end].

    Source: Kadupitiya, Jadhao, Sharma, Modeling the temporally constrained preemptions of transient cloud VMs,
    HPDC 2020 (A about 0.4–0.5, τ₁ about 1 h, τ₂ about 0.8 h, b about 24 h for Google's preemptible VMs).
    """

    a: float
    tau1_hours: float
    b_hours: float
    tau2_hours: float
    cap_hours: float | None = None
    end_hours: float = field(init=False, repr=False, compare=False)
    """The age that nobody outlives."""

    def __post_init__(self) -> None:
        for name in ("a", "tau1_hours", "tau2_hours"):
            require_finite(f"lifetime.{name}", getattr(self, name))
        require_finite("lifetime.b_hours", self.b_hours, inclusive=True)
        if self.cap_hours == math.inf:
            object.__setattr__(self, "cap_hours", None)  # one way to say "no cap"
        if self.cap_hours is not None:
            require_finite("lifetime.cap_hours", self.cap_hours)
        at_birth = self.a * math.exp(-self.b_hours / self.tau2_hours)
        require(
            at_birth < 1.0,
            "lifetime.b_hours",
            self.b_hours,
            f"more than tau2·ln(a) = {self.tau2_hours * math.log(self.a):g} h: below it F(0) >= 1, nobody lives",
        )
        natural_end = self._age_where_f_is_one()
        end = natural_end if self.cap_hours is None else min(self.cap_hours, natural_end)
        object.__setattr__(self, "end_hours", end)

    def _age_where_f_is_one(self) -> float:
        # F exceeds 1 where its late term alone is 1/A + 1: bisection on an increasing function cannot fail.
        low, high = 0.0, self.b_hours + self.tau2_hours * math.log(1.0 / self.a + 1.0)
        for _ in range(200):
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            if self._f(middle) < 1.0:
                low = middle
            else:
                high = middle
        return high

    def _f(self, t: float) -> float:
        return kernels.bathtub_cdf(t, self.a, self.tau1_hours, self.b_hours, self.tau2_hours)

    @property
    def _h_end(self) -> float:
        """Cumulative hazard just below `end_hours`: +inf without a cap that still finds somebody."""
        capped = self.cap_hours is not None and self.end_hours == self.cap_hours
        left = 1.0 - self._f(self.end_hours)
        return -math.log(left) if capped and left > 0.0 else math.inf

    def cumulative_hazard(self, age_hours: float) -> float:
        if age_hours < 0.0:
            return 0.0
        if age_hours >= self.end_hours:
            return math.inf
        return -math.log1p(-min(self._f(age_hours), math.nextafter(1.0, 0.0)))

    def inverse_cumulative_hazard(self, h: float) -> float:
        return kernels.bathtub_inverse(
            h, self.a, self.tau1_hours, self.b_hours, self.tau2_hours, self.end_hours, self._h_end
        )

    def hazard(self, age_hours: float) -> float:
        if age_hours >= self.end_hours:
            return math.inf
        early = math.exp(-age_hours / self.tau1_hours) / self.tau1_hours
        late = math.exp((age_hours - self.b_hours) / self.tau2_hours) / self.tau2_hours
        return self.a * (early + late) / self.survival(age_hours)

    def mean_remaining_hours(self, age_hours: float) -> float:
        age, end = max(age_hours, 0.0), self.end_hours
        if age >= end:
            return 0.0
        # ∫ S dt = ∫ (1 − A + A·e^(−t/τ₁) − A·e^((t−b)/τ₂)) dt from age to end, term by term.
        early = self.tau1_hours * (math.exp(-age / self.tau1_hours) - math.exp(-end / self.tau1_hours))
        late = self.tau2_hours * (
            math.exp((end - self.b_hours) / self.tau2_hours) - math.exp((age - self.b_hours) / self.tau2_hours)
        )
        return max(0.0, (1.0 - self.a) * (end - age) + self.a * (early - late)) / self.survival(age)

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        values = [self.a, self.tau1_hours, self.b_hours, self.tau2_hours, self.end_hours, self._h_end]
        return kernels.BATHTUB, np.array(values, dtype=np.float64)
