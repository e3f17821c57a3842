"""Lifetimes: every answer follows from the cumulative hazard, and both engines draw with the same formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from harness.errors import InvalidInputError
from simulator.lifetimes import Bathtub, Empirical, Exponential, Lifetime, TraceReplay, Weibull, kernels
from simulator.provision import ConstantProvision, EmpiricalProvision, ExponentialProvision, Provision

GOOGLE = Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8)
CAPPED = Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8, cap_hours=23.0)
SMOOTH: list[Lifetime] = [
    Exponential(0.1625),
    Weibull(0.62, 1.5),
    Weibull(2.5, 30.0),
    GOOGLE,
    CAPPED,
    Bathtub(a=1.3, tau1_hours=2.0, b_hours=30.0, tau2_hours=1.0),
]
STEPS = Empirical((1.0, 2.0, 4.0), (0.75, 0.5, 0.2), tail_start_hours=5.0, tail_rate_per_hour=0.4)
ENDS = Empirical((1.0, 2.0, 4.0), (0.75, 0.5, 0.0), tail_start_hours=4.0)
TRACE = TraceReplay((1.0, 5.0, 9.0), (3.0, 6.0, 9.5), 10.0)
ALL = [*SMOOTH, STEPS, ENDS]


@pytest.mark.parametrize("lifetime", SMOOTH, ids=repr)
def test_a_drawn_lifetime_has_the_cumulative_hazard_it_was_drawn_for(lifetime: Lifetime) -> None:
    """inverse(H) is a true inverse up to the end of life, to rounding."""
    for h in (1e-6, 1e-3, 0.1, 0.5, 0.59, 0.6, 1.0, 3.0, 10.0, 30.0):
        age = lifetime.inverse_cumulative_hazard(h)
        if lifetime.cumulative_hazard(age) == math.inf:
            assert age == lifetime.end_hours  # type: ignore[attr-defined]
        else:
            # Where H is steep in the age (late bathtub), the age itself is the well-conditioned side.
            slack = 4e-15 * age * lifetime.hazard(age)
            assert lifetime.cumulative_hazard(age) == pytest.approx(h, rel=1e-9, abs=slack + 1e-15)


@pytest.mark.parametrize("lifetime", SMOOTH, ids=repr)
@pytest.mark.parametrize("age", [0.0, 0.3, 2.0, 20.0])
def test_remaining_life_is_the_area_under_the_survival_function(lifetime: Lifetime, age: float) -> None:
    """Closed forms of the conditional mean equal numerical integration."""
    end = getattr(lifetime, "end_hours", math.inf)
    if age >= end:
        assert lifetime.mean_remaining_hours(age) == 0.0
        return
    points = np.concatenate([[age], np.geomspace(max(age, 1e-6) * 1.001, min(end, 5000.0), 60)])
    area = sum(
        integrate.quad(lifetime.survival, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in itertools.pairwise(points)
    )
    assert lifetime.mean_remaining_hours(age) == pytest.approx(area / lifetime.survival(age), rel=1e-7)
    if age == 0.0:
        assert lifetime.mean_hours == lifetime.mean_remaining_hours(0.0)


@pytest.mark.parametrize("lifetime", SMOOTH, ids=repr)
@pytest.mark.parametrize("age", [0.2, 1.0, 7.0, 22.0])
def test_hazard_is_the_slope_of_the_cumulative_hazard(lifetime: Lifetime, age: float) -> None:
    """Central difference of H."""
    if age >= getattr(lifetime, "end_hours", math.inf):
        assert lifetime.hazard(age) == math.inf
        return
    step = 1e-5
    slope = (lifetime.cumulative_hazard(age + step) - lifetime.cumulative_hazard(age - step)) / (2 * step)
    assert lifetime.hazard(age) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("lifetime", ALL, ids=repr)
def test_quantile_and_cdf_agree(lifetime: Lifetime) -> None:
    """F(quantile(p)) reaches p, and not before the quantile."""
    for p in (0.01, 0.3, 0.5, 0.77, 0.9):
        q = lifetime.quantile(p)
        assert lifetime.cdf(q) >= p - 1e-9
        assert lifetime.cdf(q * (1 - 1e-6)) <= p + 1e-9


@pytest.mark.parametrize("lifetime", ALL, ids=repr)
def test_samples_follow_the_cdf(lifetime: Lifetime) -> None:
    """Drawn lifetimes against the cdf, Kolmogorov–Smirnov; false-failure rate 1e-6, sees a gap of 0.03.

    With n = 20,000 the bound is sqrt(ln(2/1e-6)/(2n)) = 0.019 (Dvoretzky–Kiefer–Wolfowitz, valid for step functions
    too): a distribution that is off by twice that somewhere fails with probability over 0.99.
    """
    n = 20_000
    sample = np.sort([lifetime.inverse_cumulative_hazard(e) for e in np.random.default_rng(5).exponential(size=n)])
    grid = np.unique(sample)
    exact = np.array([lifetime.cdf(x) for x in grid])
    assert np.abs(np.searchsorted(sample, grid, side="right") / n - exact).max() < math.sqrt(math.log(2e6) / (2 * n))


def test_weibull_of_shape_one_is_exponential() -> None:
    """Two formulas for one distribution."""
    weibull, exponential = Weibull(1.0, 4.0), Exponential(0.25)
    for h in (0.0, 0.1, 3.0):
        assert weibull.inverse_cumulative_hazard(h) == pytest.approx(exponential.inverse_cumulative_hazard(h))
    assert weibull.mean_remaining_hours(7.0) == pytest.approx(4.0, rel=1e-12)
    assert weibull.hazard(3.0) == pytest.approx(0.25)


def test_a_probability_per_hour_is_the_chance_of_a_reclaim_within_one_hour() -> None:
    """Rate −ln(1 − p), not p."""
    assert Exponential.from_probability_per_hour(0.15).cdf(1.0) == pytest.approx(0.15, rel=1e-14)


def test_zero_rate_never_reclaims() -> None:
    """Rate 0 is no special value to callers."""
    never = Exponential(0.0)
    assert never.inverse_cumulative_hazard(5.0) == never.mean_hours == never.mean_remaining_hours(3.0) == math.inf
    assert never.survival(1e9) == 1.0


def test_the_cap_takes_whoever_is_left_and_nobody_outlives_it() -> None:
    """At 23 h, F(23) = 0.579: 42 % of nodes live exactly to the cap, whatever their hazard would have said."""
    f = 0.45 * (1 - math.exp(-23.0) + math.exp(-1.0 / 0.8))
    assert CAPPED.cdf(22.999999) == pytest.approx(f, abs=1e-6)
    assert CAPPED.cdf(23.0) == 1.0
    assert CAPPED.quantile(f + 1e-6) == 23.0
    assert CAPPED.quantile(f - 1e-3) < 23.0
    assert CAPPED.mean_remaining_hours(23.0) == 0.0
    assert CAPPED.hazard(23.0) == math.inf


def test_without_a_cap_life_ends_where_f_reaches_one() -> None:
    """The published F is taken as it stands: A·(1 + e^((t−b)/τ₂)) = 1 near b + τ₂·ln(1/A − 1)."""
    assert GOOGLE.end_hours == pytest.approx(24.0 + 0.8 * math.log(1 / 0.45 - 1), abs=1e-9)
    assert GOOGLE.cdf(GOOGLE.end_hours) == 1.0
    assert GOOGLE.inverse_cumulative_hazard(math.inf) == GOOGLE.end_hours
    later = Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8, cap_hours=100.0)
    assert later.end_hours == GOOGLE.end_hours


def test_a_share_that_is_gone_on_arrival_is_an_atom_at_zero() -> None:
    """F(0) = A·e^(−b/τ₂) is not swept away by rescaling."""
    atom = Bathtub(a=0.5, tau1_hours=1.0, b_hours=2.0, tau2_hours=1.0)
    share = 0.5 * math.exp(-2.0)
    assert atom.cdf(0.0) == pytest.approx(share)
    assert atom.quantile(share * 0.99) == 0.0
    assert atom.quantile(share * 1.01) > 0.0


@settings(max_examples=150, deadline=None)
@given(
    a=st.floats(0.05, 5.0),
    tau1=st.floats(0.05, 20.0),
    b=st.floats(0.0, 40.0),
    tau2=st.floats(0.05, 10.0),
    cap=st.none() | st.floats(0.5, 50.0),
    h=st.floats(0.0, 40.0),
)
def test_the_bathtub_inverse_converges_everywhere(
    a: float, tau1: float, b: float, tau2: float, cap: float | None, h: float
) -> None:
    """Within [0, end], and F there is what was asked for, for any parameters that make a distribution."""
    if a * math.exp(-b / tau2) >= 1.0:
        with pytest.raises(InvalidInputError, match="b_hours"):
            Bathtub(a, tau1, b, tau2, cap)
        return
    lifetime = Bathtub(a, tau1, b, tau2, cap)
    age = lifetime.inverse_cumulative_hazard(h)
    assert 0.0 <= age <= lifetime.end_hours
    wanted = -math.expm1(-h)
    if 0.0 < age < lifetime.end_hours:
        assert kernels.bathtub_cdf(age, a, tau1, b, tau2) == pytest.approx(wanted, abs=1e-12 * max(1.0, a))


def test_empirical_steps_and_tail_are_what_was_measured() -> None:
    """Survival is the step function; the tail starts where the data end, with its own rate."""
    assert [STEPS.survival(t) for t in (0.0, 0.99, 1.0, 3.9, 4.0, 5.0)] == [1.0, 1.0, 0.75, 0.5, 0.2, 0.2]
    assert STEPS.survival(7.5) == pytest.approx(0.2 * math.exp(-1.0))
    assert STEPS.tail_share == 0.2
    # Area by hand: 1 + 0.75 + 0.5·2 + 0.2·1 + 0.2/0.4.
    assert STEPS.mean_hours == pytest.approx(3.45)
    assert STEPS.mean_remaining_hours(3.0) == pytest.approx((0.5 + 0.2 + 0.5) / 0.5)
    assert STEPS.mean_remaining_hours(8.0) == pytest.approx(2.5)
    assert STEPS.hazard(1.5) == pytest.approx(math.log(1.5))
    assert STEPS.hazard(6.0) == 0.4
    assert ENDS.mean_hours == pytest.approx(1 + 0.75 + 1.0)
    assert ENDS.inverse_cumulative_hazard(50.0) == 4.0
    assert ENDS.mean_remaining_hours(4.0) == 0.0


def test_an_empirical_life_without_a_reclaim_ever_seen_is_its_tail() -> None:
    """No step at all: only the tail; at rate 0 it never ends."""
    tail = Empirical((), (), tail_start_hours=10.0, tail_rate_per_hour=0.5)
    assert tail.mean_hours == pytest.approx(12.0)
    assert tail.inverse_cumulative_hazard(1.0) == pytest.approx(12.0)
    assert Empirical((), (), tail_start_hours=10.0).mean_hours == math.inf


def test_a_replayed_trace_waits_for_capacity_and_lives_to_the_next_loss() -> None:
    """Moments inside, between, at the edges of intervals, and after the wrap."""
    cases = {0.0: (1.0, 2.0), 1.0: (0.0, 2.0), 2.5: (0.0, 0.5), 3.0: (2.0, 1.0), 9.5: (1.5, 2.0), 15.5: (0.0, 0.5)}
    for now, (wait, life) in cases.items():
        assert TRACE.wait_hours(now) == pytest.approx(wait)
        assert TRACE.lifetime_hours(now + wait) == pytest.approx(life)
    assert TRACE.availability == pytest.approx(0.35)


def test_a_request_at_the_moment_of_a_loss_is_not_answered_by_what_is_just_going() -> None:
    """Rounding must not make lifetimes of 1e-16 h: that would be a loop without progress."""
    back_to_back = TraceReplay((0.0, 0.1), (0.1, 0.3), 0.7)
    now, losses = 0.0, 0
    while now < 69.5:
        now += back_to_back.wait_hours(now)
        life = back_to_back.lifetime_hours(now)
        assert life > 0.05
        now += life
        losses += 1
    assert losses == 200


def test_capacity_over_the_seam_is_no_loss() -> None:
    """Up at the end and at the beginning: one interval that wraps; up throughout: for ever."""
    seam = TraceReplay.from_intervals([(0.0, 2.0), (8.0, 10.0)], 10.0)
    assert seam.lifetime_hours(9.0) == pytest.approx(3.0)
    assert seam.lifetime_hours(11.0) == pytest.approx(1.0)
    assert seam.availability == pytest.approx(0.4)
    assert seam.mean_hours == pytest.approx(2.0)
    always = TraceReplay.from_intervals([(0.0, 10.0)], 10.0)
    assert always.lifetime_hours(3.0) == always.mean_hours == math.inf
    assert always.wait_hours(1234.5) == 0.0


def test_a_trace_seen_from_a_random_moment() -> None:
    """Length-biased residual life: lengths 2, 1, 0.5 give S(1) = 1/3.5 and mean (4 + 1 + 0.25)/2/3.5."""
    assert TRACE.survival(1.0) == pytest.approx(1 / 3.5)
    assert TRACE.mean_hours == pytest.approx(0.75)
    assert TRACE.hazard(0.75) == pytest.approx(2 / 1.5)
    for p in (0.1, 0.5, 0.9):
        assert TRACE.cdf(TRACE.quantile(p)) == pytest.approx(p)


def test_packed_lifetimes_drawn_by_compiled_code_are_the_same_lifetimes() -> None:
    """The fast engine's draws equal the reference's to 1e-13, for every distribution and wait."""
    from simulator.engine.fates import lifetime_hours, wait_hours

    draws = [*np.random.default_rng(11).exponential(size=200).tolist(), 0.0, 1e-300, 37.0, 500.0]
    for lifetime in ALL:
        kind, params = lifetime.packed()
        for h in draws:
            assert lifetime_hours(kind, params, h, 0.0) == pytest.approx(
                lifetime.inverse_cumulative_hazard(h), rel=1e-13
            )
    kind, params = TRACE.packed()
    assert kind == kernels.TRACE
    for now in np.random.default_rng(12).uniform(0, 1e4, 200):
        assert wait_hours(kernels.PROVISION_CONSTANT, np.zeros(1), 0.5, kind, params, now) == TRACE.wait_hours(now)
        assert lifetime_hours(kind, params, 0.0, now) == TRACE.lifetime_hours(now)
    waits: list[Provision] = [ConstantProvision(0.1), ExponentialProvision(0.5), EmpiricalProvision.from_waits([1, 3])]
    never = Exponential(0.0).packed()
    for wait in waits:
        kind, params = wait.packed()
        for u in (1e-16, 0.25, 0.5, 0.500001, 1 - 1e-16):
            assert wait_hours(kind, params, u, *never, 0.0) == pytest.approx(wait.wait_hours(u), rel=1e-15)


def test_measured_waits_are_drawn_with_their_frequencies() -> None:
    """Each measured wait by its share, boundaries included; the mean is theirs."""
    provision = EmpiricalProvision.from_waits([2.0, 1.0, 2.0, 4.0])
    assert [provision.wait_hours(u) for u in (0.01, 0.25, 0.26, 0.75, 0.76, 0.99)] == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    assert provision.expected_hours == pytest.approx(2.25)
    assert ExponentialProvision(0.5).wait_hours(math.exp(-3)) == pytest.approx(1.5)
    assert ExponentialProvision(0.0).wait_hours(0.2) == 0.0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Exponential(-1.0), "rate_per_hour"),
        (lambda: Exponential(math.nan), "rate_per_hour"),
        (lambda: Exponential.from_probability_per_hour(1.0), "probability_per_hour"),
        (lambda: Weibull(0.0, 1.0), "shape"),
        (lambda: Weibull(1.0, math.inf), "scale_hours"),
        (lambda: Bathtub(-0.4, 1.0, 24.0, 0.8), "lifetime.a"),
        (lambda: Bathtub(0.4, 1.0, 24.0, 0.8, cap_hours=0.0), "cap_hours"),
        (lambda: Bathtub(2.0, 1.0, 0.1, 0.8), "b_hours"),
        (lambda: Empirical((2.0, 1.0), (0.5, 0.2), 3.0), "empirical"),
        (lambda: Empirical((1.0, 2.0), (0.5, 0.5), 3.0), "empirical"),
        (lambda: Empirical((1.0,), (0.5,), 0.5), "tail_start_hours"),
        (lambda: TraceReplay.from_intervals([], 10.0), "no interval with capacity"),
        (lambda: TraceReplay((1.0, 2.0), (3.0, 4.0), 10.0), "trace"),
        (lambda: ConstantProvision(-0.1), "provision.hours"),
        (lambda: ExponentialProvision(math.inf), "provision.mean_hours"),
        (lambda: EmpiricalProvision.from_waits([]), "no waits"),
        (lambda: GOOGLE.quantile(1.5), "quantile"),
    ],
)
def test_what_is_no_distribution_is_refused_by_name(make: object, field: str) -> None:
    """Negative, NaN, infinite, out of order: an error that names the field."""
    with pytest.raises(InvalidInputError, match=field):
        make()  # type: ignore[operator]
