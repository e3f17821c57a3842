"""What a log of lifetimes says about survival and hazard without assuming a distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.lifetimes import Empirical
from simulator.traces.observations import Observations

TAIL_EVENTS = 10
"""The hazard beyond a censored last observation is estimated from the last so many reclaims."""


@dataclass(frozen=True, slots=True, eq=False)
class KaplanMeier:
    """The product-limit estimate, arrays of shape (distinct ages of reclaims,).

    Source: E. L. Kaplan, P. Meier, JASA 53, 1958; with delayed entry a life counts as at risk at age t only if
    entry < t <= exit (Klein & Moeschberger, Survival Analysis, 2003, section 4.6).
    """

    ages_hours: NDArray[np.float64]
    survival: NDArray[np.float64]
    """Probability to outlive the age."""
    standard_error: NDArray[np.float64]
    """Greenwood's."""
    at_risk: NDArray[np.int64]
    reclaims: NDArray[np.int64]

    def survival_at(self, age_hours: float) -> float:
        """S(age) of the step function."""
        index = int(np.searchsorted(self.ages_hours, age_hours, side="right"))
        return float(self.survival[index - 1]) if index else 1.0


def kaplan_meier(observations: Observations) -> KaplanMeier:
    """Product-limit estimate under right censoring and left truncation.

    A censored life that ends at the age of a reclaim is still at risk there (the usual convention).  Under left
    truncation the risk set can run empty at a young age, after which the estimate is 0 for good: the estimate then
    conditions on outliving that age, which is why such early steps are left out here (only the last one may be 0).
    """
    ages, counts = np.unique(observations.exit_hours[observations.observed], return_counts=True)
    entries, exits = np.sort(observations.entry_hours), np.sort(observations.exit_hours)
    # entry < t <= exit
    at_risk = np.searchsorted(entries, ages, side="left") - np.searchsorted(exits, ages, side="left")
    emptied = counts >= at_risk
    if emptied.any():
        last = ages.size - 1
        keep = ~emptied | (np.arange(ages.size) == last)
        ages, counts, at_risk = ages[keep], counts[keep], at_risk[keep]
    survival = np.cumprod(1.0 - counts / at_risk, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(counts / (at_risk * (at_risk - counts.astype(np.float64))))
        error = np.where(survival > 0.0, survival * np.sqrt(greenwood), 0.0)
    return KaplanMeier(ages, survival, error, at_risk.astype(np.int64), counts.astype(np.int64))


def empirical_lifetime(observations: Observations) -> Empirical:
    """The Kaplan–Meier estimate as a lifetime to draw from.

    Where the longest observation is censored, the tail is exponential from its age on, with the last hazard that the
    data give: the last `TAIL_EVENTS` reclaims (or all, if fewer) over the node-hours at risk since just before them.
    `Empirical.tail_share` is the share of lifetimes that rests on this.
    """
    estimate = kaplan_meier(observations)
    longest = float(observations.exit_hours.max())
    survivals = tuple(float(s) for s in estimate.survival)
    ages = tuple(float(age) for age in estimate.ages_hours)
    if survivals and survivals[-1] <= 0.0:
        if longest <= ages[-1]:
            return Empirical(ages, (*survivals[:-1], 0.0), tail_start_hours=ages[-1])
        # Only truncation can empty the risk set before the longest life ends: that last step says nothing.
        ages, survivals = ages[:-1], survivals[:-1]
    rate = last_hazard_per_hour(observations)
    return Empirical(ages, survivals, tail_start_hours=longest, tail_rate_per_hour=rate)


def last_hazard_per_hour(observations: Observations, events: int = TAIL_EVENTS) -> float:
    """Reclaims per node-hour over the ages of the last `events` reclaims; 0 where none was ever seen."""
    ages = np.sort(observations.exit_hours[observations.observed])
    if ages.size == 0:
        return 0.0
    below = ages[ages < ages[-min(events, ages.size)]]
    start = float(below[-1]) if below.size else 0.0
    count, exposure = _between(observations, start, math.inf)
    return count / exposure if exposure > 0.0 else observations.rate_per_hour


@dataclass(frozen=True, slots=True)
class HazardBin:
    """Reclaims and node-hours at risk within [start, end) hours of age, with an exact 95 % interval of the rate."""

    start_hours: float
    end_hours: float
    events: int
    exposure_hours: float
    low_per_hour: float
    high_per_hour: float

    @property
    def rate_per_hour(self) -> float:
        """Occurrence over exposure; NaN where nobody was at risk."""
        return self.events / self.exposure_hours if self.exposure_hours > 0.0 else math.nan


def hazard_by_age(observations: Observations, edges_hours: Sequence[float]) -> tuple[HazardBin, ...]:
    """Occurrence/exposure hazard in the bins between ascending `edges_hours`; 95 % intervals of a Poisson count."""
    from scipy.stats import chi2

    bins = []
    for start, end in itertools.pairwise(edges_hours):
        events, exposure = _between(observations, start, end)
        low = chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
        high = chi2.ppf(0.975, 2 * events + 2) / 2
        scale = 1.0 / exposure if exposure > 0.0 else math.nan
        bins.append(HazardBin(start, end, events, exposure, float(low * scale), float(high * scale)))
    return tuple(bins)


def _between(observations: Observations, start: float, end: float) -> tuple[int, float]:
    """Reclaims at ages in (start, end] and node-hours at risk between them."""
    exits, entries = observations.exit_hours, observations.entry_hours
    events = int((observations.observed & (exits > start) & (exits <= end)).sum())
    return events, float(np.maximum(np.minimum(exits, end) - np.maximum(entries, start), 0.0).sum())
