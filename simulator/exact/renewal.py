"""One node, any lifetime, synchronous checkpoints: the renewal equations, integrated numerically.  Nothing is sampled.

Every acquisition brings a node of age 0, so a run is a Markov chain over acquisitions whose state is the segment to
be passed next (segments as in `simulator.exact.segments`).  On a node acquired in state i, segment j >= i is durable
at age ``a_ij = R + s_i + … + s_j``.  With S the survival function, the chain

- ends with probability S(a_iN) at that age (a reclaim exactly then comes too late: durable at the reclaim is durable);
- goes to state i with probability 1 − S(a_ii) (in startup or in the first segment: nothing new is durable);
- goes to state j > i with probability S(a_i,j−1) − S(a_ij).

Means and second moments of a total follow by solving backwards from the last state; the only numerics are the
integrals ∫ S and ∫ t·S over the segments, by adaptive quadrature.  Whole segments are equal, so one row of ages
serves all states.  S is read as P(L >= t), which differs from P(L > t) only in atoms (a platform cap).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import integrate

from harness.errors import InvalidInputError
from simulator.exact.segments import segment_lengths
from simulator.lifetimes import Empirical, Lifetime, TraceReplay


@dataclass(frozen=True, slots=True)
class RenewalSolution:
    """Exact moments of one run, to quadrature error (about 1e-9 relative)."""

    makespan_hours: float
    makespan_standard_deviation_hours: float
    interruptions: float
    refunded_hours: float
    """Hours of nodes reclaimed by the provider below the age of one hour."""
    up_hours: float


def solve_renewal(
    *,
    lifetime: Lifetime,
    work_hours: float,
    interval_hours: float,
    stall_hours: float,
    startup_hours: float,
    provision_hours: float = 0.0,
    provision_variance_hours2: float = 0.0,
) -> RenewalSolution:
    """Moments of the makespan for any `lifetime` (module docstring); hours.

    `provision_hours` and its variance (hours²) describe the wait, whatever its distribution.  Raises
    InvalidInputError for a replayed trace, whose lives depend on when they begin, and where the job can never
    finish: no node outlives startup plus the longest segment.
    """
    if isinstance(lifetime, TraceReplay):
        raise InvalidInputError("lifetime", "a replayed trace", "a distribution: lives of a trace are no renewals")
    whole, length, last = segment_lengths(work_hours, interval_hours, stall_hours)
    if _at_least(lifetime, startup_hours + max(length, last)) <= 0.0:
        longest = startup_hours + max(length, last)
        raise InvalidInputError(
            "interval_hours", interval_hours, f"a segment that some node outlives: none reaches {longest:g} h"
        )
    return _Chain(lifetime, startup_hours, whole, length, last).solve(provision_hours, provision_variance_hours2)


class _Chain:
    """Ages, survival and its integrals at the ends of segments; index m = number of segments passed on this node."""

    def __init__(self, lifetime: Lifetime, startup: float, whole: int, length: float, last: float) -> None:
        self.lifetime, self.whole = lifetime, whole
        # Ages at which m whole segments are durable, and at which the run ends if m whole ones precede the last.
        self.ages = startup + length * np.arange(whole + 1)
        self.ends = self.ages + last
        self.survival = np.array([_at_least(lifetime, age) for age in self.ages])
        self.survival_end = np.array([_at_least(lifetime, age) for age in self.ends])
        first = [_integrals(lifetime, 0.0, startup)]
        steps = [_integrals(lifetime, a, b) for a, b in zip(self.ages[:-1], self.ages[1:], strict=True)]
        sums = np.cumsum(np.array(first + steps), axis=0)
        tails = np.array([_integrals(lifetime, a, b) for a, b in zip(self.ages, self.ends, strict=True)])
        # ∫_0^age S dt and ∫_0^age t·S dt
        self.area, self.moment = sums[:, 0], sums[:, 1]
        self.area_end, self.moment_end = (sums + tails)[:, 0], (sums + tails)[:, 1]

    def solve(self, wait: float, wait_variance: float) -> RenewalSolution:
        n = self.whole
        mean = np.zeros(n + 1)
        second = np.zeros(n + 1)
        count = np.zeros(n + 1)
        refund = np.zeros(n + 1)
        up = np.zeros(n + 1)
        for i in range(n, -1, -1):
            ahead = n - i  # whole segments still to pass before the last one
            probability, partial = self._transitions(ahead)
            # Column 0 is the return to state i itself, 1 … ahead the states i + 1 … n.
            later = slice(i + 1, n + 1)
            stay, onward = probability[0], probability[1:]
            leave = 1.0 - stay
            hours = self.area_end[ahead]
            up[i] = (hours + onward @ up[later]) / leave
            mean[i] = (wait + hours + onward @ mean[later]) / leave
            count[i] = (probability.sum() + onward @ count[later]) / leave
            refund[i] = (self._refund(self.ends[ahead]) + onward @ refund[later]) / leave
            # (X + T)² with X = wait + time on this node; E[min(L, a)²] = 2·∫ t·S dt.
            own = 2.0 * self.moment_end[ahead] + 2.0 * wait * hours + wait_variance + wait**2
            cross = partial + wait * probability
            known = own + 2.0 * (cross[1:] @ mean[later] + cross[0] * mean[i]) + onward @ second[later]
            second[i] = known / leave
        variance = max(second[0] - mean[0] ** 2, 0.0)
        return RenewalSolution(float(mean[0]), math.sqrt(variance), float(count[0]), float(refund[0]), float(up[0]))

    def _transitions(self, ahead: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """P(reclaim, m segments newly durable) and E[age at reclaim; the same], m = 0 … ahead."""
        ages = np.concatenate([[0.0], self.ages[1 : ahead + 1], [self.ends[ahead]]])
        survival = np.concatenate([[1.0], self.survival[1 : ahead + 1], [self.survival_end[ahead]]])
        area = np.concatenate([[0.0], self.area[1 : ahead + 1], [self.area_end[ahead]]])
        # ∫ t dF over [a, b) = a·S(a) − b·S(b) + ∫ S dt
        moved = ages * survival
        return survival[:-1] - survival[1:], moved[:-1] - moved[1:] + np.diff(area)

    def _refund(self, end: float) -> float:
        """E[L; L < min(1 h, end)]."""
        c = min(1.0, end)
        return _integrals(self.lifetime, 0.0, c)[0] - c * _at_least(self.lifetime, c)


def _at_least(lifetime: Lifetime, age: float) -> float:
    """P(L >= age): the survival just before `age`."""
    return lifetime.survival(age * (1.0 - 1e-14))


def _integrals(lifetime: Lifetime, start: float, end: float) -> tuple[float, float]:
    """∫ S dt and ∫ t·S dt over [start, end] by adaptive quadrature, split where S jumps or nobody is left."""
    end_of_life = getattr(lifetime, "end_hours", math.inf)
    stop = min(end, end_of_life)
    if stop <= start:
        return 0.0, 0.0

    jumps = [*lifetime.ages_hours, lifetime.tail_start_hours] if isinstance(lifetime, Empirical) else []
    edges = [start, *(age for age in jumps if start < age < stop), stop]

    def quad(function: Callable[[float], float]) -> float:
        return math.fsum(
            integrate.quad(function, a, b, epsabs=1e-13, epsrel=1e-11, limit=200)[0] for a, b in pairwise(edges)
        )

    return quad(lifetime.survival), quad(lambda t: t * lifetime.survival(t))
