"""Summaries and intervals: exact small cases, coverage as a statistic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import InvalidInputError
from simulator.statistics import mean_and_error, quantiles, summarize, wilson_interval


def test_summary_of_five_numbers() -> None:
    """Mean, n − 1 standard error and linearly interpolated quantiles, by hand."""
    summary = summarize([1.0, 2.0, 3.0, 4.0, 10.0])
    assert summary.mean == 4.0
    assert summary.standard_error == pytest.approx(math.sqrt(12.5 / 5), rel=1e-15)
    # position (n − 1)·p: 0.2, 2, 3.6, 3.8, 3.96
    expected = (1.2, 3.0, 7.6, 8.8, 9.76)
    assert (summary.p5, summary.p50, summary.p90, summary.p95, summary.p99) == pytest.approx(expected, rel=1e-14)
    assert list(summary.as_dict()) == ["mean", "standard_error", "p5", "p50", "p90", "p95", "p99"]


def test_quantiles_and_errors_are_numpys() -> None:
    """Quantiles to the last bit, whatever the size; the error to rounding."""
    generator = np.random.default_rng(5)
    probabilities = (0.0, 0.05, 0.3, 0.5, 0.9, 0.95, 0.99, 1.0)
    for size in (1, 2, 3, 5, 20, 100, 101, 997):
        sample = generator.exponential(size=size)
        assert quantiles(sample, probabilities) == np.quantile(sample, probabilities, method="linear").tolist()
        if size > 1:
            expected = (sample.mean(), sample.std(ddof=1) / math.sqrt(size))
            assert mean_and_error(sample) == pytest.approx(expected, rel=1e-13)


def test_one_value_has_no_error_and_no_value_is_refused() -> None:
    """A single run is its own summary; an empty sample is named."""
    one = summarize([3.0])
    assert (one.mean, one.standard_error, one.p99) == (3.0, 0.0, 3.0)
    with pytest.raises(InvalidInputError, match="runs"):
        summarize([])


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 3), (50, 200), (7, 9), (999, 1000)])
def test_wilson_interval_is_scipys(successes: int, n: int) -> None:
    """Against scipy's independent implementation, the ends included."""
    reference = stats.binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    ours = wilson_interval(successes, n)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), rel=1e-12, abs=1e-15)
    assert ours.mean == successes / n
    assert 0.0 <= ours.low <= ours.mean <= ours.high <= 1.0


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    """More successes than trials, or no trials."""
    with pytest.raises(InvalidInputError, match="successes"):
        wilson_interval(successes, n)


def test_standard_error_covers_at_the_stated_rate() -> None:
    """mean ± 1.96·SE covers the true mean in about 95 % of 2,000 samples.

    Binomial standard deviation 0.5 points: the band of ±2.5 points is 5 of them (false-failure rate below 10⁻⁶), and
    a standard error wrong by a factor √2 (coverage 83 % or 99.4 %) would fail.
    """
    generator = np.random.default_rng(20261124)
    samples = generator.normal(2.0, 3.0, size=(2000, 100))
    covered = sum(abs((s := summarize(row)).mean - 2.0) <= 1.96 * s.standard_error for row in samples)
    assert 0.925 <= covered / 2000 <= 0.975
