"""How long a request waits for capacity: unbilled, drawn anew for every acquisition, each from one uniform."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.lifetimes import kernels
from simulator.lifetimes.base import require, require_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Provision(ABC):
    """The wait between a request and the moment when the node's age is 0, in hours."""

    __slots__ = ()

    @abstractmethod
    def wait_hours(self, u: float) -> float:
        """The wait that a uniform `u` in (0, 1) stands for."""

    @property
    @abstractmethod
    def expected_hours(self) -> float:
        """Expected wait."""

    @abstractmethod
    def packed(self) -> tuple[int, NDArray[np.float64]]:
        """(kind, parameters) for compiled engines, as in `Lifetime.packed`."""


@dataclass(frozen=True, slots=True)
class ConstantProvision(Provision):
    """Always the same wait.  Packed: [hours]."""

    hours: float

    def __post_init__(self) -> None:
        require_finite("provision.hours", self.hours, inclusive=True)

    def wait_hours(self, u: float) -> float:
        return kernels.constant_wait(u, self.hours)

    @property
    def expected_hours(self) -> float:
        return self.hours

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.PROVISION_CONSTANT, np.array([self.hours], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ExponentialProvision(Provision):
    """A memoryless wait: −mean · ln u.  Packed: [mean_hours]."""

    mean_hours: float

    def __post_init__(self) -> None:
        require_finite("provision.mean_hours", self.mean_hours, inclusive=True)

    def wait_hours(self, u: float) -> float:
        return kernels.exponential_wait(u, self.mean_hours)

    @property
    def expected_hours(self) -> float:
        return self.mean_hours

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.PROVISION_EXPONENTIAL, np.array([self.mean_hours], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class EmpiricalProvision(Provision):
    """Measured waits: `hours` ascending, with the probability of waiting at most that long; the last is 1.

    Packed: [n, hours…, cumulative_probability…].
    """

    hours: tuple[float, ...]
    cumulative_probability: tuple[float, ...]
    _flat: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = "provision.empirical"
        n = len(self.hours)
        require(n > 0, where, "no waits", "at least one measured wait")
        require(n == len(self.cumulative_probability), where, n, "as many probabilities as waits")
        require(all(math.isfinite(h) and h >= 0.0 for h in self.hours), where, self.hours, "finite waits >= 0")
        ascending = all(a < b for a, b in zip(self.hours, self.hours[1:], strict=False))
        require(ascending, where, self.hours, "waits that increase strictly")
        steps = (0.0, *self.cumulative_probability)
        growing = all(a < b for a, b in itertools.pairwise(steps)) and steps[-1] == 1.0
        require(growing, where, self.cumulative_probability, "cumulative probabilities that increase and end at 1")
        object.__setattr__(self, "_flat", (float(n), *self.hours, *self.cumulative_probability))

    @classmethod
    def from_waits(cls, waits_hours: Sequence[float]) -> EmpiricalProvision:
        """Each of the measured waits with equal probability."""
        require(len(waits_hours) > 0, "provision.empirical", "no waits", "at least one measured wait")
        counts: dict[float, int] = {}
        for wait in sorted(waits_hours):
            counts[wait] = counts.get(wait, 0) + 1
        total, reached, cumulative = len(waits_hours), 0, []
        for count in counts.values():
            reached += count
            cumulative.append(reached / total)
        return cls(tuple(counts), tuple(cumulative))

    def wait_hours(self, u: float) -> float:
        return kernels.empirical_wait(u, self._flat)

    @property
    def expected_hours(self) -> float:
        steps = (0.0, *self.cumulative_probability)
        return math.fsum(h * (b - a) for h, a, b in zip(self.hours, steps, steps[1:], strict=False))

    def packed(self) -> tuple[int, NDArray[np.float64]]:
        import numpy as np

        return kernels.PROVISION_EMPIRICAL, np.array(self._flat, dtype=np.float64)
