"""Maximum likelihood recovers what it was given, with honest standard errors, under censoring and truncation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator.fitting import compare, fit_bathtub, fit_exponential, fit_weibull
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from simulator.traces import Observations


def observed(lifetime: Lifetime, lives: int, seed: int, *, mean_stop: float, entry: float = 0.0) -> Observations:
    """Lives of `lifetime`, a third of them seen only from ages up to `entry` on, stopped by users at random."""
    rng = np.random.default_rng(seed)
    life = np.array([lifetime.inverse_cumulative_hazard(e) for e in rng.exponential(size=lives)])
    since = np.where(rng.random(lives) < 1 / 3, rng.uniform(0.0, entry, lives), 0.0)
    life, since = life[life > since], since[life > since]
    stop = since + rng.exponential(mean_stop, life.size)
    return Observations.of(np.minimum(life, stop), life <= stop, since)


def test_exponential_is_events_over_exposure() -> None:
    """Closed form, its error, its likelihood."""
    fit = fit_exponential(Observations.of([1.0, 2.0, 5.0], [True, True, False]))
    assert fit.parameters["rate_per_hour"] == pytest.approx(0.25)
    assert fit.standard_errors["rate_per_hour"] == pytest.approx(math.sqrt(2) / 8)
    assert fit.log_likelihood == pytest.approx(2 * math.log(0.25) - 2)
    assert fit.aic == pytest.approx(2 - 2 * fit.log_likelihood)


def test_no_reclaim_is_no_proof_of_none() -> None:
    """Ten quiet hours: half an event, said so; the other distributions say why they cannot be fitted."""
    found = compare(Observations.of([4.0, 6.0], False))
    assert found.best.parameters["rate_per_hour"] == pytest.approx(0.05)
    assert "no reclaim" in found.best.notes[0]
    assert set(found.failures) == {"weibull", "bathtub"}


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.2])
def test_weibull_is_recovered_under_censoring_and_truncation(shape: float) -> None:
    """Both parameters within 4.5 standard errors (false-failure rate 1e-5 each), errors small enough to see 20 %."""
    fit = fit_weibull(observed(Weibull(shape, 3.0), 4000, 3, mean_stop=4.0, entry=2.0))
    for name, true in (("shape", shape), ("scale_hours", 3.0)):
        error = fit.standard_errors[name]
        assert error is not None
        assert error < 0.04 * true
        assert abs(fit.parameters[name] - true) < 4.5 * error


def test_standard_errors_are_the_spread_over_repeated_samples() -> None:
    """120 samples of 200 lives: the spread of the estimates over the mean stated error is 1 within 0.3.

    The ratio of a standard deviation from 120 values has a relative error of 6.5 %: 0.3 is 4.6 of them (4e-6).
    """
    fits = [fit_weibull(observed(Weibull(0.7, 3.0), 200, seed, mean_stop=6.0)) for seed in range(120)]
    for name in ("shape", "scale_hours"):
        spread = np.std([fit.parameters[name] for fit in fits], ddof=1)
        stated = np.mean([fit.standard_errors[name] for fit in fits])  # type: ignore[misc]
        assert 0.7 < spread / stated < 1.3


def test_bathtub_is_recovered_with_its_cap() -> None:
    """Google-like lives capped at 24 h: all four parameters within 4.5 standard errors."""
    true = Bathtub(a=0.3, tau1_hours=1.5, b_hours=32.0, tau2_hours=8.0, cap_hours=24.0)
    fit = fit_bathtub(observed(true, 3000, 5, mean_stop=20.0), cap_hours=24.0)
    assert isinstance(fit.lifetime, Bathtub)
    assert fit.lifetime.cap_hours == 24.0
    for name in fit.parameters:
        error = fit.standard_errors[name]
        assert error is not None
        assert abs(fit.parameters[name] - getattr(true, name)) < 4.5 * error
    assert fit.standard_errors["tau1_hours"] < 0.2  # type: ignore[operator]


def test_aic_picks_the_distribution_that_made_the_data() -> None:
    """1,500 lives of each kind; the gap in AIC to the wrong ones is far beyond 10."""
    for lifetime, name in (
        (Weibull(0.5, 3.0), "weibull"),
        (Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8), "bathtub"),
    ):
        found = compare(observed(lifetime, 1500, 9, mean_stop=30.0))
        assert found.best.distribution == name
        assert found.fits[1].aic - found.best.aic > 10
    exponential = compare(observed(Exponential(0.3), 1500, 9, mean_stop=10.0))
    rate = exponential.fits[[f.distribution for f in exponential.fits].index("exponential")]
    assert rate.aic - exponential.best.aic < 4


def test_a_spike_on_the_longest_life_is_no_fit() -> None:
    """Ten thousand would-be optima have τ₂ → 0 at the longest life; the search keeps τ₂ to 2 % of it or more."""
    observations = observed(Weibull(0.8, 2.0), 60, 1, mean_stop=1e9)
    fit = fit_bathtub(observations)
    assert fit.parameters["tau2_hours"] >= 0.02 * observations.exit_hours.max() * 0.999
    assert all(error is None for error in fit.standard_errors.values()) == bool(fit.notes)


def test_too_little_data_is_said_to_be() -> None:
    """Fewer reclaims than the parameters need, or a cap below everything."""
    few = Observations.of([1.0, 1.0, 2.0], [True, True, False])
    with pytest.raises(InvalidInputError, match="two different ages"):
        fit_weibull(few)
    with pytest.raises(InvalidInputError, match="eight reclaims"):
        fit_bathtub(few)
    with pytest.raises(InvalidInputError, match="cap_hours"):
        compare(few, cap_hours=0.0)
