"""The Weibull lifetime: a hazard that falls (shape < 1) or rises (shape > 1) with age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import Lifetime, require_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Weibull(Lifetime):
    """H(t) = (t / scale)^shape.  Packed: [shape, scale_hours]."""

    shape: float
    scale_hours: float

    def __post_init__(self) -> None:
        require_finite("lifetime.shape", self.shape)
        require_finite("lifetime.scale_hours", self.scale_hours)

    def cumulative_hazard(self, age_hours: float) -> float:
        if age_hours <= 0.0:
            return 0.0
        return math.exp(min(self.shape * (math.log(age_hours) - math.log(self.scale_hours)), 700.0))

    def inverse_cumulative_hazard(self, h: float) -> float:
        return kernels.weibull_inverse(h, self.shape, self.scale_hours)

    def hazard(self, age_hours: float) -> float:
        if age_hours <= 0.0:
            return math.inf if self.shape < 1.0 else (1.0 / self.scale_hours if self.shape == 1.0 else 0.0)
        return self.shape / age_hours * self.cumulative_hazard(age_hours)

    def mean_remaining_hours(self, age_hours: float) -> float:
        # ∫_age^∞ e^(−(t/s)^k) dt = (s/k)·Γ(1/k, x) with x = (age/s)^k (substitute t = s·x^(1/k)).
        x = self.cumulative_hazard(age_hours)
        return self.scale_hours / self.shape * _scaled_upper_gamma(1.0 / self.shape, x)

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.WEIBULL, np.array([self.shape, self.scale_hours], dtype=np.float64)


def _scaled_upper_gamma(a: float, x: float) -> float:
    """e^x · Γ(a, x), which stays finite where Γ(a, x) underflows.

    Below x = a + 1 as Γ(a) minus the power series of the lower function, above by Legendre's continued fraction
    (modified Lentz).  Source: Abramowitz & Stegun 6.5.29 and 6.5.31.
    """
    if x < a + 1.0:
        whole = math.exp(min(math.lgamma(a), 700.0))
        if x <= 0.0:
            return whole
        term = total = 1.0 / a
        k = a
        while term > total * 1e-17:
            k += 1.0
            term *= x / k
            total += term
        return math.exp(x) * whole - math.exp(a * math.log(x)) * total
    tiny = 1e-300
    b = x + 1.0 - a
    c = 1.0 / tiny
    d = 1.0 / b
    fraction = d
    for i in range(1, 10_000):
        numerator = -i * (i - a)
        b += 2.0
        d = 1.0 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return math.exp(min(a * math.log(x), 700.0)) * fraction
