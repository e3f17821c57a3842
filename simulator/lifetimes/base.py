"""What every lifetime distribution can answer: all of it follows from one function, the cumulative hazard."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from harness.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Lifetime(ABC):
    """Time from the end of provision to the reclaim, in hours of the node's age.

    Defined by its cumulative hazard H(age) = −ln S(age), S the probability to outlive `age`.  A lifetime is drawn as
    ``inverse_cumulative_hazard(E)`` with E = −ln U, U uniform in (0, 1): scaling E scales the hazard of every
    distribution alike (correlated loss, uncertain rates).
    """

    __slots__ = ()

    @abstractmethod
    def cumulative_hazard(self, age_hours: float) -> float:
        """H(age): 0 at birth, never falling; +inf where nobody is left."""

    @abstractmethod
    def inverse_cumulative_hazard(self, h: float) -> float:
        """The smallest age (hours) at which H reaches `h` >= 0; +inf if it never does."""

    @abstractmethod
    def hazard(self, age_hours: float) -> float:
        """Reclaims per hour among nodes of this age: the derivative of H."""

    @abstractmethod
    def mean_remaining_hours(self, age_hours: float) -> float:
        """Expected hours still to come for a node of this age: ∫ S(t) dt from `age` on, over S(age).

        +inf if a share of nodes is never reclaimed; 0 at an age that nobody reaches.
        """

    @abstractmethod
    def packed(self) -> tuple[int, NDArray[np.float64]]:
        """(kind, parameters) for compiled engines: a kind of `simulator.lifetimes.kernels` and a flat float64 array."""

    @property
    def mean_hours(self) -> float:
        """Expected lifetime; +inf if a share of nodes is never reclaimed."""
        return self.mean_remaining_hours(0.0)

    def survival(self, age_hours: float) -> float:
        """Probability that the lifetime exceeds `age_hours`."""
        return math.exp(-self.cumulative_hazard(age_hours))

    def cdf(self, age_hours: float) -> float:
        """Probability that the lifetime is at most `age_hours`."""
        return -math.expm1(-self.cumulative_hazard(age_hours))

    def quantile(self, p: float) -> float:
        """The age that a share `p` of nodes does not outlive (0 <= p <= 1)."""
        if not 0.0 <= p <= 1.0:
            raise InvalidInputError("quantile", p, "a probability between 0 and 1")
        return self.inverse_cumulative_hazard(math.inf if p == 1.0 else -math.log1p(-p))


def require(condition: bool, field: str, value: object, expected: str) -> None:
    """InvalidInputError unless `condition` holds."""
    if not condition:
        raise InvalidInputError(field, value, expected)


def require_finite(field: str, value: float, *, above: float = 0.0, inclusive: bool = False) -> None:
    """InvalidInputError unless `value` is a finite number above (or at) `above`."""
    ok = isinstance(value, (int, float)) and math.isfinite(value) and (value >= above if inclusive else value > above)
    require(ok, field, value, f"a finite number {'>=' if inclusive else '>'} {above:g}")
