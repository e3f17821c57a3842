"""What must happen to the answer when the question changes: true for every spec, run by run unless said otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision, Provision
from simulator.reference import simulate_run
from simulator.runs import QUANTITIES, RunResult
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from simulator.statistics import summarize
from tests.simulator.random_specs import specs

any_fleet = st.sampled_from(["one", "rigid", "elastic"]).flatmap(specs)
seeds = st.integers(0, 2**64 - 1)
EXAMPLES = settings(max_examples=60, deadline=None)


def assert_same(one: RunResult, other: RunResult, *except_for: str) -> None:
    for name in QUANTITIES:
        if name not in except_for:
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9, abs=1e-9), name


def slower_lifetime(lifetime: Lifetime, factor: float) -> Lifetime:
    match lifetime:
        case Exponential():
            return Exponential(lifetime.rate_per_hour / factor)
        case Weibull():
            return Weibull(lifetime.shape, lifetime.scale_hours * factor)
        case Bathtub(cap_hours=float(cap)):
            return Bathtub(
                lifetime.a,
                lifetime.tau1_hours * factor,
                lifetime.b_hours * factor,
                lifetime.tau2_hours * factor,
                cap * factor,
            )
    raise AssertionError(f"random specs have no {lifetime}")


def slower_provision(provision: Provision, factor: float) -> Provision:
    if isinstance(provision, ConstantProvision):
        return ConstantProvision(provision.hours * factor)
    assert isinstance(provision, ExponentialProvision)
    return ExponentialProvision(provision.mean_hours * factor)


@EXAMPLES
@given(spec=any_fleet, seed=seeds, factor=st.sampled_from([0.5, 4.0]))
def test_time_has_no_unit(spec: Spec, seed: int, factor: float) -> None:
    """All durations times a factor: all hours times that factor, the same events (no refund: an hour is an hour)."""
    spec = dataclasses.replace(spec, first_hour_refund=False, price=PriceSeries.constant(2.0))
    hours = {
        field.name: getattr(spec, field.name) * factor
        for field in dataclasses.fields(spec)
        if field.name.endswith("_hours") and isinstance(getattr(spec, field.name), float)
    }
    scaled = dataclasses.replace(
        spec,
        **hours,
        lifetime=slower_lifetime(spec.lifetime, factor),
        provision=slower_provision(spec.provision, factor),
        usd_per_1000_puts=spec.usd_per_1000_puts * factor,
        usd_per_1000_gets=spec.usd_per_1000_gets * factor,
    )
    one, other = simulate_run(spec, seed, 0), simulate_run(scaled, seed, 0)
    for name in QUANTITIES:
        expected = getattr(one, name) * (1.0 if name in {"interruptions", "reclaimed_nodes"} else factor)
        assert getattr(other, name) == pytest.approx(expected, rel=1e-8, abs=1e-8), name


@EXAMPLES
@given(spec=any_fleet, seed=seeds)
def test_the_bill_is_linear_in_the_price(spec: Spec, seed: int) -> None:
    """Tripled prices triple what the nodes cost, and change nothing else."""
    price = PriceSeries(spec.price.start_hours, tuple(3.0 * usd for usd in spec.price.usd_per_hour))
    one, other = simulate_run(spec, seed, 0), simulate_run(dataclasses.replace(spec, price=price), seed, 0)
    assert_same(one, other, "cost_usd")
    assert other.cost_usd - other.storage_usd == pytest.approx(3.0 * (one.cost_usd - one.storage_usd), abs=1e-9)


@EXAMPLES
@given(spec=any_fleet, seed=seeds)
def test_a_refund_only_lowers_the_bill(spec: Spec, seed: int) -> None:
    """Same run, never dearer."""
    without = simulate_run(dataclasses.replace(spec, first_hour_refund=False), seed, 0)
    refunded = simulate_run(dataclasses.replace(spec, first_hour_refund=True), seed, 0)
    assert_same(without, refunded, "cost_usd", "billed_hours")
    assert refunded.cost_usd <= without.cost_usd + 1e-9
    assert refunded.billed_hours <= without.billed_hours + 1e-9


@EXAMPLES
@given(spec=specs("one"), seed=seeds, more=st.floats(0.01, 5.0))
def test_a_longer_wait_moves_everything_else_as_it_is(spec: Spec, seed: int, more: float) -> None:
    """One node: each acquisition waits that much longer, unbilled; nothing else changes but the date."""
    spec = dataclasses.replace(spec, provision=ConstantProvision(0.1), price=PriceSeries.constant(3.0))
    one = simulate_run(spec, seed, 0)
    other = simulate_run(dataclasses.replace(spec, provision=ConstantProvision(0.1 + more)), seed, 0)
    waits = one.interruptions + 1
    assert other.waiting_hours == pytest.approx(waits * (0.1 + more))
    assert other.makespan_hours == pytest.approx(one.makespan_hours + waits * more)
    assert_same(one, other, "waiting_hours", "makespan_hours", "storage_usd", "cost_usd")
    assert other.cost_usd - other.storage_usd == pytest.approx(one.cost_usd - one.storage_usd)


@EXAMPLES
@given(spec=any_fleet, seed=seeds)
def test_old_copies_matter_only_if_copies_can_be_bad(spec: Spec, seed: int) -> None:
    """Without corruption, `keep_last` changes the storage bill and nothing else, and more copies cost more."""
    spec = dataclasses.replace(spec, corruption=0.0)
    few = simulate_run(dataclasses.replace(spec, keep_last=1), seed, 0)
    many = simulate_run(dataclasses.replace(spec, keep_last=5), seed, 0)
    assert_same(few, many, "storage_usd", "cost_usd")
    assert many.storage_usd >= few.storage_usd - 1e-12


@EXAMPLES
@given(spec=any_fleet, seed=seeds)
def test_a_notice_that_does_not_fit_is_as_none(spec: Spec, seed: int) -> None:
    """Never acted on, or too short for the emergency save: as if there were no notice (rule 4)."""
    none = simulate_run(dataclasses.replace(spec, notice_hours=0.0, notice_success=0.0), seed, 0)
    assert_same(none, simulate_run(dataclasses.replace(spec, notice_success=0.0), seed, 0))
    too_short = dataclasses.replace(spec, notice_success=1.0, emergency_hours=spec.notice_hours + 0.001)
    assert_same(none, simulate_run(too_short, seed, 0))


@EXAMPLES
@given(spec=specs("rigid"), seed=seeds)
def test_what_is_elastic_does_not_touch_a_rigid_fleet(spec: Spec, seed: int) -> None:
    """`detect`, `rendezvous` and `scaling` do not apply (rule 8); a deadline changes no run (rule 9)."""
    other = dataclasses.replace(spec, detect_hours=3.0, rendezvous_hours=2.0, scaling=0.3, deadline_hours=0.1)
    assert_same(simulate_run(spec, seed, 0), simulate_run(other, seed, 0))


@EXAMPLES
@given(spec=specs("one"), seed=seeds, success=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_a_save_at_the_last_moment_never_delays(spec: Spec, seed: int, success: tuple[float, float]) -> None:
    """One node, saves that take no time at the reclaim itself: the more often they work, the earlier the end.

    Each life then gains the same progress, and keeps all of it or less.  (A notice with a length may delay: the node
    idles through it.)
    """
    spec = dataclasses.replace(spec, notice_hours=0.0, emergency_hours=0.0, corruption=0.0)
    rarely, often = (
        simulate_run(dataclasses.replace(spec, notice_success=p), seed, 0).makespan_hours for p in sorted(success)
    )
    assert often <= rarely + 1e-9


BASE = Spec(
    work_hours=20.0,
    interval_hours=0.5,
    stall_hours=0.02,
    persist_hours=0.1,
    startup_hours=0.1,
    lifetime=Exponential(0.3),
    provision=ConstantProvision(0.1),
    price=PriceSeries.constant(1.0),
)

WORSE: dict[str, dict[str, Any]] = {
    "more hazard": {"lifetime": Exponential(0.4)},
    "more hazard, Weibull": {"lifetime": Weibull(1.0, 1 / 0.4)},
    "corruption": {"corruption": 0.2},
    "a longer startup": {"startup_hours": 0.15},
    "a longer stall": {"stall_hours": 0.03},
    "a longer persist": {"persist_hours": 0.3},
    "slowdown": {"persist_slowdown": 0.3},
}


@pytest.mark.parametrize("change", WORSE)
def test_worse_conditions_cost_more_in_expectation(change: str) -> None:
    """On common random numbers, paired: dearer and later by more than 6 standard errors (and 0.3 % at least).

    Not a property of single runs: a shorter life may happen to end just after a checkpoint.
    """
    runs, seed = 8000, 42
    base = simulate(BASE, runs=runs, seed=seed)
    worse = simulate(dataclasses.replace(BASE, **WORSE[change]), runs=runs, seed=seed)
    for quantity in ("makespan_hours", "cost_usd"):
        difference = summarize(getattr(worse, quantity) - getattr(base, quantity))
        assert difference.mean > 6.0 * difference.standard_error
        assert difference.mean > 0.003 * getattr(base, quantity).mean()


def test_bulk_one_is_one_node_that_is_paid_several_times() -> None:
    """A rigid fleet that always goes together, with marginal lifetimes, is one node in law (rule 8).

    4.5 standard errors of the difference of two independent samples: false-failure rate 7·10⁻⁶ each; a fleet whose
    loss rate were not divided would have four times the interruptions.
    """
    fleet = dataclasses.replace(BASE, nodes=4, bulk=1.0, work_hours=5.0)
    many = simulate(fleet, runs=1500, seed=1, engine="reference")
    one = simulate(dataclasses.replace(BASE, work_hours=5.0), runs=1500, seed=2, engine="reference")
    for quantity in ("makespan_hours", "interruptions", "lost_work_hours"):
        a, b = many.summary(quantity), one.summary(quantity)
        error = (a.standard_error**2 + b.standard_error**2) ** 0.5
        assert abs(a.mean - b.mean) < 4.5 * error
    assert many.reclaimed_nodes == pytest.approx(4 * many.interruptions)
    assert many.billed_hours == pytest.approx(4 * (many.makespan_hours - many.waiting_hours))
