"""Cost against interval: the optimum, the plateau, the rules and their regret, where exact answers exist."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.errors import InvalidInputError
from harness.policy import daly_interval_seconds, exact_exponential_interval_seconds, young_interval_seconds
from simulator import sweep as module
from simulator.controls import control_spec, controls_for
from simulator.exact import expected_makespan_hours
from simulator.lifetimes import Exponential, Weibull
from simulator.provision import ConstantProvision
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from simulator.sweep import sweep

RATE = 0.15
SYNCHRONOUS = Spec(
    work_hours=100.0,
    stall_hours=1 / 12,
    startup_hours=1 / 12,
    lifetime=Exponential(RATE),
    price=PriceSeries.constant(8.0),
)


def exact_makespan(interval_hours: float) -> float:
    return expected_makespan_hours(
        work_hours=100.0, interval_hours=interval_hours, stall_hours=1 / 12, startup_hours=1 / 12, rate_per_hour=RATE
    )


def test_optimum_of_the_synchronous_exponential_job() -> None:
    """The search finds an interval whose exact expectation is within 0.05 % of the best one's.

    The exact curve is evaluated on a fine grid; the rules' exact intervals lie inside the plateau, "15 minutes" far
    outside, and its regret is the exact one within 4.42 standard errors (1e-5).
    """
    found = sweep(SYNCHRONOUS, runs=20_000, seed=1)
    best = min(exact_makespan(interval) for interval in np.geomspace(0.5, 2.0, 2001))
    optimum = found.optimum
    assert exact_makespan(optimum.interval_hours) < best * 1.0005
    exact_rule = found.rules_hours["exact_exponential"]
    assert exact_rule is not None
    assert optimum.low_hours <= exact_rule <= optimum.high_hours
    assert optimum.high_hours - optimum.low_hours < 1.0
    regret = exact_makespan(0.25) / exact_makespan(optimum.interval_hours) - 1.0
    error = found.regret_standard_error["fifteen_minutes"]
    assert abs(found.regret["fifteen_minutes"] - regret) < 4.42 * error + 1e-9
    assert error < 0.01 * regret
    assert found.complete


def test_points_are_the_exact_curve_within_their_errors() -> None:
    """Every reported mean, control variates included, is right to 4.9 of its own standard errors (4 points, 4e-6)."""
    found = sweep(SYNCHRONOUS, runs=20_000, seed=7, intervals_hours=[2.0, 0.25, 0.5, 3.0])
    assert [point.interval_hours for point in found.points] == [0.25, 0.5, 2.0, 3.0]
    for point in found.points:
        exact = exact_makespan(point.interval_hours)
        assert abs(point.makespan.mean - exact) < 4.9 * point.makespan.standard_error
        assert point.cost.mean == pytest.approx(8.0 * point.makespan.mean, rel=1e-9)
        assert point.variance_ratio > 2.0  # 20,000 runs as good as 40,000


def test_control_variates_state_their_error_truly() -> None:
    """Over 60 seeds the exact value lies within 1.96 stated errors about 95 % of the time.

    Binomial(60, 0.95): fewer than 49 has probability 2e-5.  An error that is too small by 1.7 would be caught.
    """
    spec = replace(SYNCHRONOUS, interval_hours=0.4, work_hours=20.0)
    exact = expected_makespan_hours(
        work_hours=20.0, interval_hours=0.4, stall_hours=1 / 12, startup_hours=1 / 12, rate_per_hour=RATE
    )
    control = control_spec(spec)
    assert control is not None
    inside = 0
    for seed in range(60):
        controls = controls_for(spec, seed, 2000, simulate(control, runs=2000, seed=seed))
        estimate = controls.estimate(simulate(spec, runs=2000, seed=seed).makespan_hours)
        inside += abs(estimate.mean - exact) < 1.96 * estimate.standard_error
    assert inside >= 49


def test_without_reclaims_no_checkpoint_is_best() -> None:
    """Zero hazard is arithmetic: each checkpoint costs its stall, so one at the end is best, exactly."""
    found = sweep(replace(SYNCHRONOUS, lifetime=Exponential(0.0)), runs=50, seed=1)
    assert found.optimum.interval_hours == 100.0
    assert found.optimum.high_hours == 100.0
    assert found.optimum.makespan.mean == pytest.approx(100.0 + 1 / 6, rel=1e-12)
    assert found.optimum.makespan.standard_error == 0.0
    assert found.regret["fifteen_minutes"] == pytest.approx(399 / 12 / (100.0 + 1 / 6), rel=1e-9)
    assert found.rules_hours["young"] == math.inf


def test_rules_are_those_of_the_policy_module() -> None:
    """Stall as checkpoint cost, mean lifetime as MTBF; a fleet is interrupted by any of its nodes."""
    rules = module.rule_intervals_hours(SYNCHRONOUS)
    mtbf, stall = 3600.0 / RATE, 300.0
    assert rules == pytest.approx(
        {
            "young": young_interval_seconds(stall, mtbf) / 3600.0,
            "daly": daly_interval_seconds(stall, mtbf) / 3600.0,
            "exact_exponential": exact_exponential_interval_seconds(stall, mtbf) / 3600.0,
            "fifteen_minutes": 0.25,
        }
    )
    assert module.rule_intervals_hours(replace(SYNCHRONOUS, lifetime=Weibull(0.7, 5.0)))["exact_exponential"] is None
    fleet = replace(SYNCHRONOUS, nodes=4, bulk=0.5)
    assert module.mean_time_between_interruptions_hours(fleet) == pytest.approx(2.5 / 4 / RATE)


def test_without_a_price_the_makespan_decides() -> None:
    """Cost 0 everywhere would make every interval the best one."""
    free = replace(SYNCHRONOUS, price=PriceSeries.constant(0.0))
    found = sweep(free, runs=2000, seed=1)
    assert found.objective == "makespan_hours"
    assert 0.7 < found.optimum.interval_hours < 1.5
    assert found.regret["fifteen_minutes"] > 0.1


def test_asynchronous_saving_prefers_short_intervals() -> None:
    """With no stall, only lost work counts: the optimum is as short as one upload allows (rule 3)."""
    found = sweep(replace(SYNCHRONOUS, stall_hours=0.0, persist_hours=0.1), runs=2000, seed=1)
    assert found.optimum.low_hours == pytest.approx(0.1)
    assert "young" not in found.regret  # an interval of 0 is none


def test_a_short_job_divides_its_work() -> None:
    """Two hours at an interval of about one: the best splits the work evenly, no sliver before the end."""
    found = sweep(replace(SYNCHRONOUS, work_hours=2.0), runs=5000, seed=1)
    segments = 2.0 / found.optimum.interval_hours
    assert segments == pytest.approx(round(segments), abs=0.06)


def test_intervals_that_cannot_finish_are_set_aside() -> None:
    """At 3 reclaims an hour long intervals never become durable: the sweep says so and finds the short ones."""
    hot = replace(SYNCHRONOUS, lifetime=Exponential(3.0), work_hours=20.0)
    found = sweep(hot, runs=300, seed=1)
    assert found.optimum.high_hours < 1.0
    assert max(point.interval_hours for point in found.points) < 10.0


def test_a_job_that_no_interval_saves() -> None:
    """Nodes that never outlive their startup: the error names what would have to change."""
    with pytest.raises(InvalidInputError):
        sweep(replace(SYNCHRONOUS, lifetime=Exponential(300.0), startup_hours=1.0), runs=10, seed=1)


@pytest.mark.parametrize(("name", "value"), [("tolerance", 0.0), ("tolerance", math.nan), ("intervals_hours", [])])
def test_bad_input(name: str, value: object) -> None:
    """Refused with the name of the argument."""
    with pytest.raises(InvalidInputError, match=name):
        sweep(SYNCHRONOUS, runs=10, seed=1, **{name: value})  # type: ignore[arg-type]


def test_interrupted_search_reports_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the fifth simulation: the points so far, `complete` False."""
    calls = 0

    def stopped(spec: Spec, **arguments: int) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return simulate(spec, **arguments)

    monkeypatch.setattr(module, "simulate", stopped)
    found = sweep(SYNCHRONOUS, runs=200, seed=1)
    assert calls == 5
    assert not found.complete
    assert len(found.points) == 2  # the control, the first interval, the second one in a pilot and the rest
    assert found.optimum.low_hours <= found.optimum.interval_hours <= found.optimum.high_hours


def test_nothing_known_yet_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before any interval is done goes to the caller."""

    def stopped(spec: Spec, **arguments: int) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "simulate", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(SYNCHRONOUS, runs=200, seed=1)


def test_sweep_of_a_fleet() -> None:
    """A rigid fleet of four saves more often than one node: its interruptions are four times as frequent."""
    alone = sweep(SYNCHRONOUS, runs=1000, seed=1)
    fleet = sweep(replace(SYNCHRONOUS, nodes=4, provision=ConstantProvision(0.1)), runs=1000, seed=1)
    assert fleet.optimum.high_hours < alone.optimum.low_hours
