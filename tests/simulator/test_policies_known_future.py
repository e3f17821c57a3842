"""The floor that the policy benchmark compares with: least cost with the future known, against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from benchmarks.known_future import known_future_cost_usd
from simulator.policies import NONE, ON_DEMAND, POLICY_NAMES, SPOT, overhead_after
from simulator.replay import Job, Market, replay

TICK = 100.0


def cheapest_plan(market: Market, job: Job) -> float:
    """All plans of spot, on-demand and waiting, one choice per tick, by the replay's own rules."""
    best = math.inf
    ticks = int(job.deadline_seconds // TICK)
    for plan in itertools.product((NONE, SPOT, ON_DEMAND), repeat=ticks):
        done = overhead = cost = 0.0
        current = NONE
        for k, choice in enumerate(plan):
            spot = bool(market.available[k])
            if choice == SPOT and not spot:
                break
            if choice != NONE:
                overhead = overhead_after(choice, current, spot, overhead, job.restart_seconds)
                done += min(max(TICK - overhead, 0.0), job.work_seconds - done)
                overhead = max(overhead - TICK, 0.0)
                price = job.on_demand_usd_per_hour if choice == ON_DEMAND else market.spot_usd_per_hour[k]
                cost += price * TICK / 3600
                if job.work_seconds - done <= 1e-3:
                    best = min(best, cost)
                    break
            current = choice
    return best


@pytest.mark.parametrize("seed", range(6))
def test_floor_is_what_brute_force_finds(seed: int) -> None:
    """3⁸ plans per case; markets and jobs drawn by a fixed seed."""
    random = np.random.default_rng(seed)
    market = Market(random.random(8) < 0.6, random.choice([0.5, 1.0, 4.0], size=8), TICK)
    job = Job(
        work_seconds=float(random.choice([250, 300, 450])),
        deadline_seconds=800.0,
        restart_seconds=float(random.choice([0, 50, 150])),
        on_demand_usd_per_hour=3.0,
    )
    assert known_future_cost_usd(market, job) == pytest.approx(cheapest_plan(market, job))


def test_no_policy_is_cheaper_than_the_floor() -> None:
    """On two hundred ticks of a flickering market the floor is below all of them, and not by nothing."""
    random = np.random.default_rng(7)
    market = Market(np.repeat(random.random(40) < 0.5, 5), np.full(200, 1.0), TICK)
    job = Job(work_seconds=9000.0, deadline_seconds=15000.0, restart_seconds=200.0, on_demand_usd_per_hour=3.0)
    floor = known_future_cost_usd(market, job)
    costs = {policy: replay(market, job, policy)[0] for policy in POLICY_NAMES}
    assert all(result.cost_usd >= floor - 1e-9 for result in costs.values() if result.met_deadline)
    assert sum(result.met_deadline for result in costs.values()) >= 4
    assert floor < 0.9 * costs["on-demand"].cost_usd
