"""The fast engine equals the reference, run by run: two readings of docs/model.md fed the same draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import simulate_fast
from simulator.lifetimes import Bathtub, Empirical, Exponential, TraceReplay, Weibull
from simulator.provision import ConstantProvision, EmpiricalProvision, ExponentialProvision
from simulator.reference import simulate_run
from simulator.runs import QUANTITIES, Runs
from simulator.spec import PriceSeries, Spec
from tests.simulator.random_specs import policy_specs, specs

RELATIVE = 1e-9


def assert_engines_agree(spec: Spec, seed: int, runs: int, first_run: int = 0) -> Runs:
    """Every quantity of every run to 1e-9, relative to the quantity or to the makespan's rounding; the fast ones."""
    fast = simulate_fast(spec, runs, seed, first_run)
    results = [simulate_run(spec, seed, run) for run in range(first_run, first_run + runs)]
    reference = Runs.from_results(spec, seed, results, first_run=first_run)
    for name in QUANTITIES:
        ours, theirs = getattr(reference, name), getattr(fast, name)
        scale = reference.cost_usd if name.endswith("usd") else reference.makespan_hours
        off = np.abs(ours - theirs) > RELATIVE * np.maximum(np.abs(ours), scale)
        first = int(np.argmax(off))
        assert not off.any(), f"{name} of run {first_run + first}: reference {ours[first]!r}, fast {theirs[first]!r}"
    return fast


FLEETS = ["one", "rigid", "elastic"]


@pytest.mark.parametrize("fleet", FLEETS)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_engines_agree_on_any_spec(fleet: str, data: st.DataObject) -> None:
    """Random specs with every rule on and off, random seeds."""
    spec = data.draw(specs(fleet))
    assert_engines_agree(spec, data.draw(st.integers(0, 2**64 - 1)), runs=4, first_run=data.draw(st.integers(0, 10**6)))


@given(spec=policy_specs(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_engines_agree_under_any_policy(spec: Spec, seed: int) -> None:
    """Rule 9 on random specs: the same decisions at the same moments."""
    assert_engines_agree(spec, seed, runs=4)


EVERYTHING: dict[str, Any] = {
    "work_hours": 12.0,
    "interval_hours": 0.4,
    "stall_hours": 0.01,
    "persist_hours": 0.25,
    "persist_slowdown": 0.3,
    "startup_hours": 0.1,
    "notice_hours": 0.05,
    "notice_success": 0.6,
    "emergency_hours": 0.04,
    "corruption": 0.3,
    "keep_last": 2,
    "first_hour_refund": True,
    "lifetime": Exponential(0.8),
    "provision": ExponentialProvision(0.2),
    "price": PriceSeries((0.0, 1.0, 2.5, 7.0), (3.0, 1.0, 8.0, 2.0)),
    "checkpoint_gib": 40.0,
    "storage_usd_per_gib_month": 0.5,
    "usd_per_1000_puts": 5.0,
    "usd_per_1000_gets": 0.4,
    "shards": 8,
}

GAPS = TraceReplay.from_intervals([(0.0, 1.3), (1.3, 2.0), (2.75, 6.0), (8.0, 9.0)], 9.0)

HARD: dict[str, dict[str, Any]] = {
    "everything": {},
    "rising hazard": {"lifetime": Weibull(2.5, 1.5)},
    "falling hazard": {"lifetime": Weibull(0.5, 1.0)},
    "a platform cap, reached by most": {
        "lifetime": Bathtub(a=0.2, tau1_hours=0.5, b_hours=24.0, tau2_hours=0.8, cap_hours=3.0), "notice_success": 1.0,
    },
    "a cap at the hour of the refund": {
        "lifetime": Bathtub(a=0.2, tau1_hours=0.5, b_hours=24.0, tau2_hours=0.8, cap_hours=1.0),
        "provision": ConstantProvision(0.1),
    },
    "measured lives": {"lifetime": Empirical((0.5, 1.0, 2.0, 4.0), (0.8, 0.6, 0.3, 0.1), 5.0, 0.4)},
    "measured waits": {"provision": EmpiricalProvision.from_waits([0.0, 0.1, 0.1, 2.0])},
    "a trace": {"lifetime": GAPS},
    "a trace without waits": {"lifetime": GAPS, "provision": ConstantProvision(0.0), "startup_hours": 0.0},
    "an uncertain rate": {"rate_events": 3.0, "rate_exposure_hours": 5.0},
    "an uncertain shape": {"lifetime": Weibull(0.7, 2.0), "rate_events": 3.0, "rate_exposure_hours": 5.0},
    "only the final checkpoint": {"interval_hours": math.inf, "work_hours": 2.0},
    "an upload as long as the interval": {"interval_hours": 0.25, "persist_slowdown": 0.0},
    "uploads longer than the interval": {"interval_hours": 0.1, "persist_hours": 0.35},
    "uploads that end as the work does": {
        "interval_hours": 0.25, "persist_hours": 0.5, "work_hours": 5.0, "stall_hours": 0.0, "persist_slowdown": 0.0,
        "notice_success": 0.0, "lifetime": Exponential(0.2),
    },
    "an interval that divides the work": {"interval_hours": 0.5, "notice_success": 0.0},
    "a thousand intervals a life": {
        "interval_hours": 1e-3, "work_hours": 3.0, "stall_hours": 1e-5, "persist_hours": 1e-4, "persist_slowdown": 0.5,
    },
    "a notice longer than most lives": {"notice_hours": 2.0, "notice_success": 0.9, "emergency_hours": 0.3},
    "an emergency as long as the notice": {"notice_hours": 0.25, "emergency_hours": 0.25, "notice_success": 1.0},
    "one copy, always bad": {"keep_last": 1, "corruption": 1.0, "lifetime": Exponential(0.3), "work_hours": 3.0},
    "many copies, often bad": {"keep_last": 9, "corruption": 0.8, "interval_hours": 0.1},
    "saves that are read before they are durable": {
        "keep_last": 1, "notice_hours": 0.2, "emergency_hours": 0.2, "startup_hours": 0.0, "persist_hours": 0.0,
        "interval_hours": 0.02, "stall_hours": 0.0, "provision": ConstantProvision(0.0), "lifetime": Exponential(2.0),
        "work_hours": 3.0, "detect_hours": 0.0, "rendezvous_hours": 0.0, "bulk": 0.0, "corruption": 0.0,
    },
    "several reclaims at one moment, and no time to react": {
        "lifetime": Bathtub(a=0.1, tau1_hours=0.5, b_hours=24.0, tau2_hours=0.8, cap_hours=0.5),
        "provision": ConstantProvision(0.1), "notice_success": 0.0, "detect_hours": 0.0, "rendezvous_hours": 0.0,
        "corruption": 0.0, "startup_hours": 0.0, "interval_hours": 0.1, "persist_hours": 0.05, "work_hours": 3.0,
    },
    "no overhead at all": {
        "stall_hours": 0.0, "persist_hours": 0.0, "startup_hours": 0.0, "notice_hours": 0.0, "emergency_hours": 0.0,
        "provision": ConstantProvision(0.0),
    },
}  # fmt: skip


SHAPES: dict[str, dict[str, Any]] = {
    "one": {},
    "rigid": {"nodes": 3, "bulk": 0.2},
    "elastic": {
        "nodes": 4,
        "min_nodes": 2,
        "bulk": 0.2,
        "scaling": 0.8,
        "detect_hours": 0.02,
        "rendezvous_hours": 0.03,
    },
}


@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("case", HARD)
def test_engines_agree_on_hard_cases(case: str, fleet: str) -> None:
    """Where two readings of the rules, or two ways of rounding, would show."""
    values = EVERYTHING | SHAPES[fleet] | HARD[case]
    if isinstance(values["lifetime"], TraceReplay | Bathtub):
        # Several nodes may end at one moment, and rounding says whose event comes first: no draws for each other.
        values["bulk"] = 0.0
    runs = 60 if fleet == "one" else 15
    assert_engines_agree(Spec(**values), seed=20261124, runs=runs)


@pytest.mark.parametrize("policy", ["greedy", "uniform-progress", "on-demand"])
def test_engines_agree_under_policies_on_hard_cases(policy: str) -> None:
    """The same cases, with capacity that is missing about half of the time; spot, on-demand and waits all occur."""
    spot = on_demand = waiting = 0.0
    for case in HARD.values():
        values = EVERYTHING | {"provision": ExponentialProvision(1.0)} | case
        spec = Spec(
            **values,
            policy=policy,
            deadline_hours=1.7 * values["work_hours"],
            decision_hours=0.05,
            on_demand_usd_per_hour=20.0,
        )
        runs = assert_engines_agree(spec, seed=20261124, runs=6)
        on_demand += float(runs.on_demand_hours.sum())
        spot += float((runs.billed_hours - runs.on_demand_hours).sum())
        waiting += float(runs.waiting_hours.sum())
    assert on_demand > 0.0
    if policy != "on-demand":
        assert min(spot, waiting) > 30.0


def test_engines_agree_on_a_fleet_on_demand() -> None:
    """Every node at the on-demand price, whatever the market does."""
    values = EVERYTHING | SHAPES["elastic"]
    assert_engines_agree(Spec(**values, policy="on-demand", on_demand_usd_per_hour=20.0), seed=7, runs=2)


def test_engines_agree_at_the_ends_of_the_ranges() -> None:
    """The largest seed and the last run have the same draws in both."""
    assert_engines_agree(Spec(**EVERYTHING), seed=2**64 - 1, runs=3, first_run=2**32 - 3)


def test_engines_agree_on_a_newcomer_that_is_ready_as_a_stall_ends() -> None:
    """Rounding once put it before the stall's end, which saved the stall of its own."""
    values = EVERYTHING | {
        "work_hours": 2.5, "interval_hours": 0.1, "stall_hours": 0.05, "persist_hours": 0.0, "persist_slowdown": 0.0,
        "notice_hours": 0.1, "notice_success": 1.0, "emergency_hours": 0.1, "nodes": 3, "min_nodes": 1,
        "lifetime": Bathtub(a=0.2, tau1_hours=0.5, b_hours=24.0, tau2_hours=0.8, cap_hours=3.0),
        "provision": ConstantProvision(0.5), "detect_hours": 0.1, "rendezvous_hours": 0.0,
    }  # fmt: skip
    assert_engines_agree(Spec(**values), seed=940199, runs=1, first_run=6)
