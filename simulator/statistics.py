"""What a sample says, and how sure it is: the numbers under every result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from harness.errors import InvalidInputError

QUANTILES = (0.05, 0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean with its Monte Carlo standard error, and quantiles, in the unit of the values."""

    mean: float
    standard_error: float
    """Sample standard deviation (n - 1) over √n; 0 for one value."""
    p5: float
    p50: float
    p90: float
    p95: float
    p99: float

    def as_dict(self) -> dict[str, float]:
        """The keys of the `--json` contract."""
        return asdict(self)


class MeanAndError(Protocol):
    """An estimate of a mean that is better than the sample's own (`simulator.controls.Estimate`)."""

    @property
    def mean(self) -> float: ...

    @property
    def standard_error(self) -> float: ...


def summarize(values: ArrayLike, estimate: MeanAndError | None = None) -> Summary:
    """The summary of a sample (any shape, flattened); mean and error are those of `estimate` where one is given.

    Quantiles interpolate linearly between order statistics: NumPy's 'linear', type 7 of Hyndman and Fan, Sample
    quantiles in statistical packages, The American Statistician 50(4), 1996.  An empty sample raises InvalidInputError.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0:
        raise InvalidInputError("runs", 0, "at least one run to summarize")
    if estimate is not None:
        mean, error = estimate.mean, estimate.standard_error
    else:
        mean, error = mean_and_error(sample)
    return Summary(mean, error, *quantiles(sample, QUANTILES))


def mean_and_error(sample: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of a sample, shape (n,), and its standard error with n - 1; 0 for one value.

    Two passes, as NumPy's `std`, without what that does for arrays of more dimensions.
    """
    mean = float(sample.mean())
    if sample.size == 1:
        return mean, 0.0
    deviations = sample - mean
    return mean, math.sqrt(float(deviations @ deviations) / (sample.size - 1) / sample.size)


def quantiles(sample: NDArray[np.float64], probabilities: Sequence[float]) -> list[float]:
    """NumPy's 'linear' quantiles of a sample of finite values, shape (n,), bit by bit, in a quarter of its time for
    the samples of a search for an interval.
    """
    last = sample.size - 1
    places = [last * p for p in probabilities]
    lower = [int(place) for place in places]
    ordered = np.partition(sample, sorted({*lower, *(min(index + 1, last) for index in lower)}))
    found = []
    for place, index in zip(places, lower, strict=True):
        low, high, part = float(ordered[index]), float(ordered[min(index + 1, last)]), place - index
        found.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part))
    return found


@dataclass(frozen=True, slots=True)
class Proportion:
    """An estimated probability with its confidence interval."""

    mean: float
    low: float
    high: float


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Proportion:
    """Wilson's score interval for a proportion: good down to 0 and up to n successes.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidInputError("successes", f"{successes} of {n}", "0 <= successes <= n with n >= 1")
    if not 0.0 < confidence < 1.0:
        raise InvalidInputError("confidence", confidence, "a number between 0 and 1")
    z = float(ndtri(0.5 + confidence / 2.0))
    p = successes / n
    scale = 1.0 + z * z / n
    centre = (p + z * z / (2.0 * n)) / scale
    half = z / scale * math.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n))
    # At 0 and n successes the bounds are exactly 0 and 1; rounding must not push them past that.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Proportion(p, low, high)
