"""Deadline policies in the Monte Carlo model: equal to the tick replay where the two meet, arithmetic elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InvalidInputError
from simulator import draws
from simulator.lifetimes import Exponential, TraceReplay
from simulator.provision import ConstantProvision, ExponentialProvision
from simulator.reference import fates, simulate_run
from simulator.reference.policy import PolicyJob
from simulator.replay import Job, Market, replay
from simulator.runs import PARTS, QUANTITIES
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from tests.simulator.random_specs import specs

TICK_HOURS = 0.125  # a binary fraction: ticks are exact in hours and in seconds


def up_intervals(available: np.ndarray) -> list[tuple[float, float]]:
    """Runs of ones as (start, end) in hours."""
    padded = np.concatenate([[False], available, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded)) * TICK_HOURS
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize("policy", ["greedy", "uniform-progress"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("restart_ticks", [0, 1, 3])
def test_equal_to_the_tick_replay(
    policy: str, share: float, restart_ticks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses that are acted on at once, nothing to pay for checkpoints, changes on ticks: the same bill, to the cent.

    The offset into the trace is held at 0 here; two implementations of the loop, one decision function.
    """
    original = draws.uniforms

    def no_offset(seed: int, run: int, node: int, acquisition: int, stream: int, other: int = 0) -> tuple[float, float]:
        first, second = original(seed, run, node, acquisition, stream, other)
        return first, 0.0 if stream == draws.STREAM_RUN else second

    monkeypatch.setattr(fates.draws, "uniforms", no_offset)
    generator = np.random.default_rng(int(share * 10) + 100 * restart_ticks)
    work, deadline = 80 * TICK_HOURS, 110 * TICK_HOURS
    kinds: set[str] = set()
    for _ in range(25):
        # spells of about eight ticks, up with probability `share`
        spells = generator.random(100) < share
        available = np.repeat(spells, generator.integers(1, 16, size=100))[:400]
        if not available.any():
            continue
        market = Market(
            available=available, spot_usd_per_hour=np.full(available.size, 1.0), tick_seconds=TICK_HOURS * 3600.0
        )
        job = Job(
            work_seconds=work * 3600.0,
            deadline_seconds=deadline * 3600.0,
            restart_seconds=restart_ticks * TICK_HOURS * 3600.0,
            on_demand_usd_per_hour=3.0,
        )
        (window,) = replay(market, job, policy)
        spec = Spec(
            work_hours=work,
            deadline_hours=deadline,
            startup_hours=restart_ticks * TICK_HOURS,
            policy=policy,
            decision_hours=TICK_HOURS,
            price=PriceSeries.constant(1.0),
            on_demand_usd_per_hour=3.0,
            lifetime=TraceReplay.from_intervals(up_intervals(available), available.size * TICK_HOURS),
            notice_success=1.0,
        )
        result = simulate_run(spec, 1, 0)
        assert result.cost_usd == pytest.approx(window.cost_usd, abs=0.005)
        assert result.makespan_hours == pytest.approx(window.finish_hours, abs=1e-6)
        assert result.on_demand_hours == pytest.approx(window.on_demand_hours, abs=1e-6)
        assert result.waiting_hours == pytest.approx(window.waiting_hours, abs=1e-6)
        kinds |= {"on-demand"} if window.on_demand_hours else set()
        kinds |= {"spot"} if window.spot_hours else set()
        kinds |= {"waiting"} if window.waiting_hours else set()
    assert kinds == {"spot", "on-demand", "waiting"}, "the traces did not exercise all three"


def test_on_demand_is_arithmetic() -> None:
    """Rule 9: no reclaim, no wait, the same startup, only a final checkpoint; every node at the on-demand price."""
    spec = Spec(
        work_hours=10.0,
        nodes=4,
        min_nodes=2,
        policy="on-demand",
        startup_hours=0.25,
        stall_hours=0.1,
        persist_hours=0.5,
        interval_hours=1.0,
        lifetime=Exponential(3.0),
        provision=ConstantProvision(7.0),
        price=PriceSeries.constant(1.0),
        on_demand_usd_per_hour=5.0,
        usd_per_1000_puts=1000.0,
    )
    runs = simulate(spec, runs=2, seed=1)
    assert runs.makespan_hours == pytest.approx(10.85)
    assert runs.storage_usd == pytest.approx(1.0)
    assert runs.cost_usd == pytest.approx(4 * 10.85 * 5.0 + 1.0)
    assert runs.on_demand_hours == pytest.approx(4 * 10.85)
    assert runs.parts_sum() == pytest.approx(10.85)


@settings(max_examples=100, deadline=None)
@given(spec=specs("one"), seed=st.integers(0, 2**64 - 1))
def test_spot_only_through_the_policy_is_the_ordinary_job(spec: Spec, seed: int) -> None:
    """Taking spot whenever it is there, as a policy, gives the run without policies, number by number."""
    as_policy, ordinary = PolicyJob(spec, seed, 3).simulate(), simulate_run(spec, seed, 3)
    for name in QUANTITIES:
        assert getattr(as_policy, name) == pytest.approx(getattr(ordinary, name), rel=1e-11, abs=1e-9), name


@settings(max_examples=100, deadline=None)
@given(
    spec=specs("one"),
    policy=st.sampled_from(["greedy", "uniform-progress"]),
    slack=st.floats(0.5, 3.0),
    seed=st.integers(0, 2**64 - 1),
)
def test_parts_add_up_whatever_runs(spec: Spec, policy: str, slack: float, seed: int) -> None:
    """Random jobs under deadline policies: parts, bounds of the bill, on-demand hours within the billed ones."""
    spec = dataclasses.replace(
        spec, policy=policy, deadline_hours=slack * spec.work_hours, decision_hours=0.05, on_demand_usd_per_hour=20.0
    )
    result = simulate_run(spec, seed, 0)
    parts = spec.work_hours + sum(getattr(result, name) for name in PARTS)
    assert result.makespan_hours == pytest.approx(parts, rel=1e-10)
    assert 0.0 <= result.on_demand_hours <= result.billed_hours + 1e-12
    assert result.billed_hours <= result.makespan_hours + 1e-9
    spot_hours = result.billed_hours - result.on_demand_hours
    bill = result.cost_usd - result.storage_usd - 20.0 * result.on_demand_hours
    prices = spec.price.usd_per_hour
    assert min(prices) * spot_hours - 1e-9 <= bill <= max(prices) * spot_hours + 1e-9


def test_leaving_on_demand_saves_first() -> None:
    """Greedy leaves on-demand when spot comes: stall + persist on the old node, then a startup, and nothing is lost."""
    # Spot comes after 3 h and stays.  The line to the deadline is crossed at once (work without capacity), so the
    # node of the first hours is on-demand; it is 0.25 h in startup, then trains.
    spec = Spec(
        work_hours=6.0,
        deadline_hours=8.6,
        policy="greedy",
        decision_hours=0.01,
        startup_hours=0.25,
        stall_hours=0.1,
        persist_hours=0.2,
        provision=ConstantProvision(3.0),
        price=PriceSeries.constant(1.0),
        on_demand_usd_per_hour=10.0,
    )
    result = simulate_run(spec, 1, 0)
    assert result.lost_work_hours == 0.0
    assert result.on_demand_hours > 1.0
    # Every start costs a startup.  Greedy wants to leave whenever it is ahead of the line: each time a save, and the
    # final checkpoint; by the time a save is done it may be behind the line and stay.
    starts, saves = result.startup_hours / 0.25, result.checkpoint_hours / 0.3
    assert starts == pytest.approx(round(starts))
    assert saves == pytest.approx(round(saves))
    assert 2 <= round(starts) <= round(saves)
    assert result.makespan_hours <= 8.6


@pytest.mark.parametrize("policy", ["greedy", "uniform-progress"])
def test_the_save_before_leaving_on_demand_is_no_trap(policy: str) -> None:
    """Capacity comes after six minutes, when an on-demand node runs already: it is left for spot, once, not saved on
    and on because each save makes the job late for leaving.

    Nearly all hours are spot hours; a policy that never left would pay three times as much.
    """
    spec = Spec(
        work_hours=100.0,
        deadline_hours=115.0,
        policy=policy,
        interval_hours=0.5,
        stall_hours=20 / 3600,
        persist_hours=60 / 3600,
        startup_hours=300 / 3600,
        lifetime=Exponential(0.05),
        provision=ConstantProvision(0.1),
        price=PriceSeries.constant(8.0),
        on_demand_usd_per_hour=24.0,
    )
    runs = simulate(spec, runs=500, seed=3)
    assert float(runs.on_demand_hours.mean()) < 0.1 * float(runs.makespan_hours.mean())
    assert float(runs.cost_usd.mean()) < 0.5 * 24.0 * 100.0


def test_policies_meet_a_deadline_that_spot_alone_misses() -> None:
    """A tight deadline on a bad market: spot-only misses it mostly, uniform progress and greedy seldom.

    200 runs each on common fates: shares differ by 0.5 where their standard errors are 0.03.  Greedy misses some,
    because it stays on spot while the last hour may still be rolled back.
    """
    values: dict[str, Any] = {
        "work_hours": 10.0,
        "deadline_hours": 14.0,
        "interval_hours": 0.25,
        "stall_hours": 0.005,
        "startup_hours": 0.1,
        "decision_hours": 0.05,
        "lifetime": Exponential(1.0),
        "provision": ExponentialProvision(1.0),
        "price": PriceSeries.constant(1.0),
        "on_demand_usd_per_hour": 3.0,
    }
    met: dict[str, float] = {}
    cost: dict[str, float] = {}
    for policy in ("spot-only", "greedy", "uniform-progress", "on-demand"):
        runs = simulate(Spec(**values, policy=policy), runs=200, seed=8)
        assert runs.deadline_probability is not None
        met[policy] = runs.deadline_probability.mean
        cost[policy] = float(runs.cost_usd.mean())
    assert met["spot-only"] < 0.3
    assert met["greedy"] > 0.8
    assert met["uniform-progress"] > 0.95
    assert met["on-demand"] == 1.0
    assert cost["spot-only"] < cost["uniform-progress"] < cost["on-demand"]


def test_deadline_policies_are_for_one_node() -> None:
    """A fleet under greedy or uniform progress is refused, not guessed at."""
    with pytest.raises(InvalidInputError, match="nodes"):
        Spec(work_hours=1.0, nodes=2, policy="greedy", deadline_hours=2.0)
