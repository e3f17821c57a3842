"""Exact results agree with each other, with published numbers and with arithmetic; engines are held against them next.

Daly's rows are from J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS
22(3), 2006, figures 3–5: 500 h of work, restart 10 min, stall 5 min.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InvalidInputError
from harness.policy import exact_exponential_interval_seconds
from simulator.exact import (
    daly_wall_hours,
    expected_makespan_hours,
    expected_totals,
    expected_totals_without_rollback,
    segment_lengths,
)
from simulator.exact.fleet_chain import solve_fleet
from simulator.exact.renewal import solve_renewal
from simulator.lifetimes import Bathtub, Exponential, TraceReplay, Weibull

DALY_ROWS = [
    # MTBF (min), published optimum (min), exact optimum (min), expected wall hours at the exact optimum
    (1440.0, 117.0, 116.7, 547.88),
    (360.0, 57.0, 56.7, 610.22),
    (15.0, 9.1, 9.2, 2504.16),
]


@pytest.mark.parametrize(("mtbf", "published", "optimum", "wall"), DALY_ROWS)
def test_dalys_formula_gives_dalys_rows(mtbf: float, published: float, optimum: float, wall: float) -> None:
    """To the rounding of the table: wall hours to 0.01 at the unrounded optimum, the optimum to 0.1 min."""
    tau = exact_exponential_interval_seconds(300.0, mtbf * 60.0)
    assert round(tau / 60.0, 1) == optimum
    assert tau / 60.0 == pytest.approx(published, abs=0.5)
    found = daly_wall_hours(
        work_hours=500.0,
        interval_hours=tau / 3600.0,
        stall_hours=5 / 60,
        restart_hours=10 / 60,
        mtbf_hours=mtbf / 60,
    )
    assert found == pytest.approx(wall, abs=0.0051)


@pytest.mark.parametrize("mtbf_minutes", [row[0] for row in DALY_ROWS])
@pytest.mark.parametrize("segments", [1, 7, 250])
def test_whole_segments_are_dalys_formula_plus_the_first_start(mtbf_minutes: float, segments: int) -> None:
    """Where work is a whole multiple of the interval and waits are 0, the two must coincide exactly."""
    m = mtbf_minutes / 60.0
    tau, stall, restart = 0.15, 5 / 60, 10 / 60
    ours = expected_makespan_hours(
        work_hours=segments * tau, interval_hours=tau, stall_hours=stall, startup_hours=restart, rate_per_hour=1 / m
    )
    daly = daly_wall_hours(
        work_hours=segments * tau, interval_hours=tau, stall_hours=stall, restart_hours=restart, mtbf_hours=m
    )
    first_start = m * math.expm1(restart / m)
    assert ours == pytest.approx(daly + first_start, rel=1e-12)


@pytest.mark.parametrize(
    ("work", "interval", "expected"),
    [
        (10.0, 3.0, (3, 3.1, 1.1)),
        (9.0, 3.0, (2, 3.1, 3.1)),  # a whole multiple: no empty last segment
        (0.3, 0.1, (2, 0.2, 0.2)),  # although 3 × 0.1 > 0.3 in floating point
        (2.0, 2.0, (0, 0.0, 2.1)),
        (2.0, math.inf, (0, 0.0, 2.1)),
    ],
)
def test_segments(work: float, interval: float, expected: tuple[int, float, float]) -> None:
    """How many whole segments, how long, and what the last one is."""
    assert segment_lengths(work, interval, 0.1) == pytest.approx(expected)


def test_without_hazard_the_makespan_is_arithmetic() -> None:
    """Wait + startup + work + one stall per checkpoint."""
    common = {"work_hours": 10.0, "interval_hours": 3.0, "stall_hours": 0.1, "startup_hours": 0.5}
    assert expected_makespan_hours(**common, rate_per_hour=0.0, provision_hours=0.2) == pytest.approx(11.1)
    assert expected_makespan_hours(**common, rate_per_hour=1e-9, provision_hours=0.2) == pytest.approx(11.1, abs=1e-6)
    solution = solve_renewal(lifetime=Exponential(0.0), **common, provision_hours=0.2)
    assert solution.makespan_hours == pytest.approx(11.1)
    assert solution.makespan_standard_deviation_hours == pytest.approx(0.0, abs=1e-6)
    assert solution.interruptions == 0.0


@settings(max_examples=25, deadline=None)
@given(
    work=st.floats(0.5, 30.0),
    interval=st.floats(0.3, 40.0),
    stall=st.floats(0.0, 0.5),
    startup=st.floats(0.0, 1.0),
    rate=st.floats(0.01, 1.0),
    wait=st.floats(0.0, 2.0),
)
def test_renewal_solver_equals_the_closed_form_for_exponential_lives(
    work: float, interval: float, stall: float, startup: float, rate: float, wait: float
) -> None:
    """Two derivations (memory over acquisitions; no memory over segments) of makespan, interruptions and refund."""
    common = {
        "work_hours": work,
        "interval_hours": interval,
        "stall_hours": stall,
        "startup_hours": startup,
        "provision_hours": wait,
    }
    closed = expected_totals(**common, rate_per_hour=rate)
    for lifetime in (Exponential(rate), Weibull(1.0, 1.0 / rate)):
        solved = solve_renewal(lifetime=lifetime, **common)
        assert solved.makespan_hours == pytest.approx(closed.makespan_hours, rel=1e-7)
        assert solved.interruptions == pytest.approx(closed.interruptions, rel=1e-7, abs=1e-9)
        assert solved.refunded_hours == pytest.approx(closed.refunded_hours, rel=1e-7, abs=1e-9)
        assert solved.up_hours == pytest.approx(closed.up_hours, rel=1e-7)


def test_spread_of_a_run_in_one_piece_is_that_of_a_restarted_exponential() -> None:
    """One segment of length s, no startup: T = s + Σ of N lost tries, Var T by hand.

    N is geometric with p = e^(−λs); a lost try is exponential truncated at s, with mean m and second moment q:
    Var T = E[N]·(q − m²) + Var[N]·m².
    """
    rate, s = 0.7, 2.0
    p = math.exp(-rate * s)
    m = (1 / rate - p * (s + 1 / rate)) / (1 - p)
    q = (2 / rate**2 - p * (s**2 + 2 * s / rate + 2 / rate**2)) / (1 - p)
    variance = (1 - p) / p * (q - m * m) + (1 - p) / p**2 * m * m
    solved = solve_renewal(
        lifetime=Exponential(rate), work_hours=s, interval_hours=math.inf, stall_hours=0.0, startup_hours=0.0
    )
    assert solved.makespan_standard_deviation_hours == pytest.approx(math.sqrt(variance), rel=1e-8)


def test_a_cap_forces_a_reclaim_exactly_when_the_platform_says() -> None:
    """With (almost) no other hazard, 50 h of work under a 24 h cap needs three nodes, and time is arithmetic.

    Startup 1 h, checkpoints of no cost every 2 h: 22 of 23 h are kept on each of the first two nodes.
    """
    lifetime = Bathtub(a=1e-12, tau1_hours=1.0, b_hours=100.0, tau2_hours=1.0, cap_hours=24.0)
    solved = solve_renewal(
        lifetime=lifetime, work_hours=50.0, interval_hours=2.0, stall_hours=0.0, startup_hours=1.0, provision_hours=0.5
    )
    assert solved.interruptions == pytest.approx(2.0)
    assert solved.makespan_hours == pytest.approx(3 * 0.5 + 2 * 24.0 + 1.0 + 6.0)
    # Durable exactly at the reclaim is durable: 23 h of work in steps of 23 h leave nothing to repeat.
    exact = solve_renewal(lifetime=lifetime, work_hours=46.0, interval_hours=23.0, stall_hours=0.0, startup_hours=1.0)
    assert exact.makespan_hours == pytest.approx(48.0)


def test_a_segment_that_nobody_outlives_is_named() -> None:
    """A job that cannot finish is an error, not an endless computation."""
    lifetime = Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8, cap_hours=24.0)
    with pytest.raises(InvalidInputError, match="interval_hours"):
        solve_renewal(lifetime=lifetime, work_hours=100.0, interval_hours=30.0, stall_hours=0.1, startup_hours=0.1)


def test_a_replayed_trace_is_no_renewal() -> None:
    """Its lives depend on when they begin: refused, not answered wrongly."""
    trace = TraceReplay.from_intervals([(0.0, 2.0), (3.0, 5.0)], 6.0)
    with pytest.raises(InvalidInputError, match="replayed trace"):
        solve_renewal(lifetime=trace, work_hours=1.0, interval_hours=1.0, stall_hours=0.0, startup_hours=0.0)


def test_an_expectation_beyond_floats_is_infinite_not_an_error() -> None:
    """e^(λ·segment) overflows: the caller sees inf and can say what would have to change."""
    found = expected_makespan_hours(
        work_hours=1000.0, interval_hours=math.inf, stall_hours=0.0, startup_hours=0.1, rate_per_hour=1.0
    )
    assert found == math.inf


def test_refund_with_an_hour_longer_than_the_run() -> None:
    """If every node that is reclaimed is refunded, the run's last node is all that is paid."""
    totals = expected_totals(
        work_hours=0.4, interval_hours=math.inf, stall_hours=0.1, startup_hours=0.2, rate_per_hour=2.0
    )
    assert totals.billed_hours_with_refund == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("field", ["work_hours", "stall_hours", "rate_per_hour"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_values_that_are_no_durations_are_named(field: str, value: float) -> None:
    """Negative, NaN, infinite."""
    arguments = {
        "work_hours": 1.0,
        "interval_hours": 1.0,
        "stall_hours": 0.0,
        "startup_hours": 0.0,
        "rate_per_hour": 0.1,
    }
    with pytest.raises(InvalidInputError, match=field):
        expected_makespan_hours(**(arguments | {field: value}))


def test_without_rollback_and_without_notice_time_nothing_is_idle() -> None:
    """Notice and emergency of no length: makespan = starts + work, interruptions = λ × hours up."""
    found = expected_totals_without_rollback(
        work_hours=10.0,
        rate_per_hour=0.3,
        startup_hours=0.2,
        notice_hours=0.0,
        emergency_hours=0.0,
        provision_hours=0.4,
    )
    start = 0.4 * math.exp(0.06) + math.expm1(0.06) / 0.3
    assert found.makespan_hours == pytest.approx(10.0 + 4.0 * start)
    up = found.makespan_hours - found.waiting_hours
    assert found.interruptions == pytest.approx(0.3 * up)
    with pytest.raises(InvalidInputError, match="emergency_hours"):
        expected_totals_without_rollback(
            work_hours=1.0, rate_per_hour=0.1, startup_hours=0.1, notice_hours=0.2, emergency_hours=0.15
        )


def test_a_fleet_of_one_without_delays_is_arithmetic() -> None:
    """W hours up, λ·W reclaims, each followed by a mean wait."""
    found = solve_fleet(work_hours=50.0, rate_per_hour=0.2, mean_provision_hours=0.5, nodes=1)
    assert found.makespan_hours == pytest.approx(50.0 + 0.5 * (1 + 10.0))
    assert found.interruptions == pytest.approx(10.0)
    assert found.billed_hours == pytest.approx(50.0)
    assert found.reduced_fleet_hours == pytest.approx(0.0)


@pytest.mark.parametrize("bulk", [0.0, 0.3])
def test_parts_of_the_fleet_add_up_and_losses_per_node_hour_are_marginal(bulk: float) -> None:
    """makespan = work + waiting + reduced fleet; with all losses single, reclaimed = λ × node-hours."""
    found = solve_fleet(work_hours=30.0, rate_per_hour=0.2, mean_provision_hours=0.7, nodes=2, scaling=0.8, bulk=bulk)
    assert found.makespan_hours == pytest.approx(30.0 + found.waiting_hours + found.reduced_fleet_hours, rel=1e-10)
    if bulk == 0.0:
        assert found.interruptions == pytest.approx(0.2 * found.billed_hours, rel=1e-10)
        assert found.reclaimed_nodes == pytest.approx(found.interruptions)
    else:
        assert found.interruptions < found.reclaimed_nodes < 0.2 * found.billed_hours


def test_a_long_run_of_two_nodes_has_its_stationary_speed() -> None:
    """Per hour of work, a long run takes 1/Σ π_k·r_k with π the binomial stationary law."""
    rate, wait = 0.5, 1.0
    up = (1 / wait) / (rate + 1 / wait)
    speed = 2 * up * (1 - up) * 0.5**0.9 + up**2
    arguments = {"rate_per_hour": rate, "mean_provision_hours": wait, "nodes": 2, "scaling": 0.9}
    longer = solve_fleet(work_hours=400.0, **arguments).makespan_hours  # type: ignore[arg-type]
    shorter = solve_fleet(work_hours=300.0, **arguments).makespan_hours  # type: ignore[arg-type]
    assert (longer - shorter) / 100.0 == pytest.approx(1 / speed, rel=1e-9)


def test_the_fleet_against_a_plain_simulation_of_its_chain() -> None:
    """Three nodes, bulk, a minimum of two: the solver against 4,000 sampled paths of the same chain.

    z-test at 5.5 standard errors (false-failure rate 4e-8); it sees a gap of about 1.5 % of the makespan.
    """
    rate, wait, bulk, work = 0.4, 0.6, 0.25, 8.0
    rng = np.random.default_rng(3)
    totals = []
    for _ in range(4000):
        time, done, up = 0.0, 0.0, 0
        while True:
            arrive, go = (3 - up) / wait, up * rate / (1 + 2 * bulk)
            step = rng.exponential() / (arrive + go)
            speed = up / 3 if up >= 2 else 0.0
            if speed and done + speed * step >= work:
                totals.append(time + (work - done) / speed)
                break
            time, done = time + step, done + speed * step
            up += 1 if rng.random() < arrive / (arrive + go) else -1 - rng.binomial(up - 1, bulk)
    found = solve_fleet(
        work_hours=work, rate_per_hour=rate, mean_provision_hours=wait, nodes=3, min_nodes=2, bulk=bulk
    ).makespan_hours
    error = np.std(totals) / math.sqrt(len(totals))
    assert error < 0.003 * found
    assert abs(np.mean(totals) - found) < 5.5 * error
