"""The interval rules and save policies that both halves share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from harness.policy import (
    AnyOf,
    EverySteps,
    EveryWorkSeconds,
    OnNotice,
    SaveContext,
    daly_interval_seconds,
    exact_exponential_interval_seconds,
    interval_steps,
    young_interval_seconds,
)

# J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22 (2006), Figs 3-5:
# MTBF, stall, published optimum, exact optimum of his cost function, all in minutes.
DALY_2006 = [(1440.0, 5.0, 117.0, 116.7), (360.0, 5.0, 57.0, 56.7), (15.0, 5.0, 9.1, 9.2)]


@pytest.mark.parametrize(("mtbf", "stall", "published", "exact"), DALY_2006)
def test_rules_reproduce_daly(mtbf: float, stall: float, published: float, exact: float) -> None:
    """Daly's closed form gives the optimum he prints; the exact rule gives the exact one, both to their last digit."""
    digit = 0.05 if published < 10 else 0.5
    assert daly_interval_seconds(stall * 60, mtbf * 60) / 60 == pytest.approx(published, abs=digit + 1e-9)
    assert exact_exponential_interval_seconds(stall * 60, mtbf * 60) / 60 == pytest.approx(exact, abs=0.05 + 1e-9)


@given(
    stall=st.floats(1e-3, 1e4),
    mtbf=st.floats(60.0, 1e7),
)
def test_exact_rule_is_lambert_w(stall: float, mtbf: float) -> None:
    """τ = M(1 + W₀(−e^(−δ/M−1))), by scipy's W where that is well conditioned."""
    ours = exact_exponential_interval_seconds(stall, mtbf)
    if stall / mtbf > 1e-6:
        theirs = mtbf * (1.0 + lambertw(-math.exp(-stall / mtbf - 1.0)).real)
        assert ours == pytest.approx(theirs, rel=1e-6)
    else:  # first order: Young
        assert ours == pytest.approx(young_interval_seconds(stall, mtbf), rel=2e-3)


@pytest.mark.parametrize(("stall", "mtbf"), [(5.0, 3600.0), (300.0, 900.0), (60.0, 22_000.0), (4000.0, 1000.0)])
def test_exact_rule_minimises_the_expected_time(stall: float, mtbf: float) -> None:
    """No other interval has a lower expected time per unit of work."""
    found = minimize_scalar(
        lambda tau: math.expm1((tau + stall) / mtbf) / tau, bounds=(1e-3, 3 * mtbf), method="bounded"
    )
    assert exact_exponential_interval_seconds(stall, mtbf) == pytest.approx(found.x, rel=1e-3)


def test_rules_at_their_edges() -> None:
    """Free checkpoints are taken all the time; a stall beyond 2·M makes Daly's rule M itself; nonsense is refused."""
    assert exact_exponential_interval_seconds(0.0, 3600.0) == 0.0
    assert young_interval_seconds(0.0, 3600.0) == 0.0
    assert daly_interval_seconds(7200.0, 3600.0) == 3600.0
    for rule in (young_interval_seconds, daly_interval_seconds, exact_exponential_interval_seconds):
        for stall, mtbf in ((-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, math.nan), (math.inf, 1.0)):
            with pytest.raises(ValueError, match="must be"):
                rule(stall, mtbf)


def test_interval_steps_rounds_and_never_reaches_zero() -> None:
    """Seconds of work become whole steps of the measured step time, at least one."""
    assert interval_steps(900.0, 0.5) == 1800
    assert interval_steps(1.0, 0.7) == 1
    assert interval_steps(0.1, 5.0) == 1
    with pytest.raises(ValueError, match="positive"):
        interval_steps(math.nan, 1.0)


def test_policies_compose() -> None:
    """Each policy looks at its own part of the context; `AnyOf` saves when one of them would."""
    context = SaveContext(step=10, work_seconds=100.0, last_save_step=5, last_save_work_seconds=40.0)
    assert EverySteps(5).should_save(context)
    assert not EverySteps(6).should_save(context)
    assert EveryWorkSeconds(60.0).should_save(context)
    assert not EveryWorkSeconds(60.1).should_save(context)
    assert not OnNotice().should_save(context)
    both = AnyOf((EverySteps(6), OnNotice()))
    assert not both.should_save(context)
    noticed = SaveContext(10, 100.0, 5, 40.0, notice_active=True)
    assert both.should_save(noticed)
