"""The adaptive policy: its beliefs, its table against a plain recursion, and what it must never do."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.adaptive import new_table
from simulator.adaptive.availability import (
    DOWN_OLD,
    DOWN_YOUNG,
    PRIOR_HOURS,
    PRIOR_RATE_PER_HOUR,
    STATES,
    UP_OLD,
    UP_YOUNG,
    observe,
    rates_per_hour,
    state_of,
)
from simulator.adaptive.table import solve, step_hours, transition
from simulator.policies import NONE, ON_DEMAND, SPOT
from simulator.replay import Job, Market, WindowResult, replay

# -- what it believes ------------------------------------------------------------------------------------------------


def test_states_turn_old_at_45_minutes() -> None:
    assert [state_of(True, 0.0), state_of(True, 0.7499), state_of(True, 0.75)] == [UP_YOUNG, UP_YOUNG, UP_OLD]
    assert [state_of(False, 0.0), state_of(False, 0.75)] == [DOWN_YOUNG, DOWN_OLD]


def test_counting_of_changes_and_hours() -> None:
    """Up for 1.5 h, lost, down for 0.5 h: a half hour counts for the age at its start, the loss for the old state."""
    changes, exposure = np.zeros(STATES), np.zeros(STATES)
    age = 0.0
    for was, available in ((True, True), (True, True), (True, False), (False, False)):
        age = observe(changes, exposure, was, age, 0.5, available)
    assert age == 0.5  # of the new, unavailable state
    np.testing.assert_array_equal(changes, [0, 1, 0, 0])
    np.testing.assert_array_equal(exposure, [1.0, 0.5, 0.5, 0.0])


def test_rates_are_posterior_means() -> None:
    """(prior events + events) / (prior hours + hours); with nothing seen, the prior itself."""
    rates = np.zeros(STATES)
    rates_per_hour(np.zeros(STATES), np.zeros(STATES), rates)
    np.testing.assert_allclose(rates, PRIOR_RATE_PER_HOUR)
    rates_per_hour(np.array([3.0, 0, 0, 0]), np.array([5.0, 0, 30.0, 0]), rates)
    assert rates[UP_YOUNG] == pytest.approx((1.2 * PRIOR_HOURS + 3) / (PRIOR_HOURS + 5))
    assert rates[DOWN_YOUNG] == pytest.approx(1.2 * PRIOR_HOURS / (PRIOR_HOURS + 30))


def test_transitions_are_competing_risks() -> None:
    """A young state ages (4/3 per hour) or ends (rate λ): 1 − e^{−(λ+4/3)Δ} is shared in proportion; old ones end."""
    age, leave, older, other = transition(UP_YOUNG, 2.0, 0.3)
    moved = 1 - math.exp(-(2.0 + 4 / 3) * 0.3)
    assert (age, leave) == pytest.approx((moved * (4 / 3) / (10 / 3), moved * 2.0 / (10 / 3)))
    assert (older, other) == (UP_OLD, DOWN_YOUNG)
    assert transition(DOWN_OLD, 0.5, 1.0) == pytest.approx((0.0, 1 - math.exp(-0.5), DOWN_OLD, UP_YOUNG))
    assert transition(UP_OLD, 0.0, 1.0)[:2] == (0.0, 0.0)


# -- its table -------------------------------------------------------------------------------------------------------


def test_table_matches_a_plain_recursion() -> None:
    """The same recursion, written forwards with memoised calls and exact slack, gives every value of a small table.

    A restart is 1.5 steps of slack here, so that the interpolation between steps is exercised too.
    """
    work, deadline, restart, decision = 2.0, 4.0, 0.375, 0.5
    spot_price, on_demand_price = 1.0, 3.0
    rates = np.array([0.9, 0.2, 1.1, 0.3])
    step = step_hours(deadline, restart, decision)
    assert step == 0.5
    grain = step / 2
    table = new_table(work, deadline, restart, decision)
    assert table.shape == (9, STATES, 3, 10)
    solve(table, rates, spot_price, on_demand_price, restart, step, decision)

    @functools.cache
    def best(n: int, state: int, kind: int, j: int) -> float:
        remaining = n * step - j * grain
        if remaining <= 0 or n == 0:
            return 0.0
        stay_on_demand = (remaining + (0.0 if kind == ON_DEMAND else restart)) * on_demand_price
        if kind != SPOT and j * grain < 2 * restart + decision:
            return stay_on_demand
        options = [stay_on_demand]
        for choice, price in ((SPOT, spot_price), (ON_DEMAND, on_demand_price)):
            if choice == SPOT and state in (DOWN_YOUNG, DOWN_OLD):
                continue
            if choice == kind:
                options.append(price * min(step, remaining) + after(n - 1, state, choice, j))
            elif j >= 2:
                options.append(
                    price * min(step, remaining + restart)
                    + 0.5 * after(n - 1, state, choice, j - 1)
                    + 0.5 * after(n - 1, state, choice, j - 2)
                )
        if j >= 2:
            options.append(after(n - 1, state, NONE, j - 2))
        return min(options)

    def after(n: int, state: int, kind: int, j: int) -> float:
        age, leave, older, other = transition(state, rates[state], step)
        then = NONE if kind == SPOT else kind
        return float(
            (1 - age - leave) * best(n, state, kind, j)
            + age * best(n, older, kind, j)
            + leave * best(n, other, then, j)
        )

    different = 0
    for n in range(9):
        for state in range(STATES):
            for kind in (NONE, SPOT, ON_DEMAND):
                if kind == SPOT and state >= DOWN_YOUNG:
                    continue
                for j in range(10):
                    assert table[n, state, kind, j] == pytest.approx(best(n, state, kind, j), abs=1e-12)
                    remaining = max(n * step - j * grain, 0.0)
                    different += table[n, state, kind, j] < (remaining - 1e-9) * on_demand_price
    assert different > 100, "nothing but on-demand in the table: it would not show anything"


def test_spot_that_never_goes_away_costs_the_spot_price() -> None:
    """No losses: one restart and the work, at the spot price, from anywhere with enough slack."""
    table = new_table(4.0, 8.0, 0.25, 0.05)
    solve(table, np.array([0.0, 0.0, 1.0, 1.0]), 1.0, 3.0, 0.25, 0.25, 0.05)
    slack_steps = table.shape[3] - 2
    assert table[-1, UP_OLD, NONE, slack_steps] == pytest.approx(8.0 - slack_steps * 0.125 + 0.25)


def test_spot_that_is_dearer_is_not_worth_anything() -> None:
    """At or above the on-demand price the table is the on-demand cost everywhere."""
    table = new_table(4.0, 8.0, 0.25, 0.05)
    solve(table, np.array(PRIOR_RATE_PER_HOUR), 3.0, 3.0, 0.25, 0.25, 0.05)
    for n in range(1, table.shape[0]):
        for j in range(table.shape[3]):
            remaining = n * 0.25 - j * 0.125
            expected = (remaining + 0.25) * 3.0 if remaining > 0 else 0.0
            for state in range(STATES):
                assert table[n, state, NONE, j] == pytest.approx(expected)


# -- what it does ----------------------------------------------------------------------------------------------------

TICK = 300.0


@st.composite
def markets(draw: st.DrawFn, ticks: int = 240) -> Market:
    """20 h of runs of any length, chosen by an adversary, at prices below and above the on-demand price of 3 USD/h."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=120))
    available = np.resize(np.repeat(np.arange(len(lengths)) % 2 == draw(st.integers(0, 1)), lengths), ticks)
    levels = draw(st.lists(st.floats(0.1, 4.0), min_size=1, max_size=8))
    prices = np.repeat(np.array(levels), math.ceil(ticks / len(levels)))[:ticks]
    return Market(available, prices, TICK)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Deadlines from tight (some that nobody can meet) to loose; restarts shorter and longer than a tick."""
    work = draw(st.integers(600, 30_000))
    slack = draw(st.integers(0, 30_000))
    restart = draw(st.sampled_from([0, 60, 299, 300, 301, 720, 1800]))
    return Job(
        work_seconds=float(work),
        deadline_seconds=float(work + slack),
        restart_seconds=float(restart),
        on_demand_usd_per_hour=3.0,
    )


def one(market: Market, job: Job, policy: str) -> WindowResult:
    (result,) = replay(market, job, policy)
    return result


@settings(max_examples=300, deadline=None, derandomize=True)
@given(market=markets(), job=jobs())
def test_no_deadline_is_missed_that_others_meet(market: Market, job: Job) -> None:
    """Whatever the market does: if uniform progress, greedy or on-demand is in time, so is the adaptive policy."""
    ours = one(market, job, "adaptive")
    for policy in ("uniform-progress", "greedy", "on-demand"):
        assert ours.met_deadline or not one(market, job, policy).met_deadline, policy


@settings(max_examples=150, deadline=None, derandomize=True)
@given(market=markets(), job=jobs(), cut=st.integers(0, 239), other=markets())
def test_it_does_not_look_into_the_future(market: Market, job: Job, cut: int, other: Market) -> None:
    """Another future from tick `cut` on leaves every choice before it as it was."""
    changed = Market(
        np.concatenate((market.available[:cut], other.available[cut:])),
        np.concatenate((market.spot_usd_per_hour[:cut], other.spot_usd_per_hour[cut:])),
        TICK,
    )
    ours, theirs = one(market, job, "adaptive").plan[:cut], one(changed, job, "adaptive").plan[:cut]
    both = min(ours.size, theirs.size)
    np.testing.assert_array_equal(ours[:both], theirs[:both])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(market=markets(), job=jobs())
def test_bookkeeping_of_every_plan(market: Market, job: Job) -> None:
    """Spot only where there is spot, hours add up to the last tick, the bill is what the plan says."""
    result = one(market, job, "adaptive")
    ticks = result.plan.size
    assert not np.any((result.plan == SPOT) & ~market.available[:ticks])
    assert result.spot_hours + result.on_demand_hours + result.waiting_hours == pytest.approx(ticks * TICK / 3600)
    price = np.where(result.plan == SPOT, market.spot_usd_per_hour[:ticks], 3.0) * (result.plan != NONE)
    assert result.cost_usd == pytest.approx(price.sum() * TICK / 3600)


def market_of(available: list[bool], price: float) -> Market:
    return Market(np.array(available), np.full(len(available), price), TICK)


def test_the_safety_net_binds_and_holds() -> None:
    """Spot never comes: it waits at first, and starts on-demand at the last tick at which two restarts still fit."""
    job = Job(work_seconds=7200.0, deadline_seconds=36000.0, restart_seconds=300.0, on_demand_usd_per_hour=3.0)
    result = one(market_of([False] * 120, 0.5), job, "adaptive")
    assert result.met_deadline
    first = int(np.argmax(result.plan == ON_DEMAND))
    # ⌈(7200 + 600)/300⌉ = 26 ticks needed, of 120: on-demand from tick 94 at the latest.
    assert 0 < first <= 94
    assert np.all(result.plan[:first] == NONE)
    assert np.all(result.plan[first:] == ON_DEMAND)


def test_spot_at_or_above_the_on_demand_price_is_not_waited_for() -> None:
    """It runs on-demand from the first tick, spot there or not."""
    job = Job(work_seconds=7200.0, deadline_seconds=36000.0, restart_seconds=300.0, on_demand_usd_per_hour=3.0)
    for price in (3.0, 3.5):
        result = one(market_of(([True] * 6 + [False] * 6) * 10, price), job, "adaptive")
        assert np.all(result.plan == ON_DEMAND)


def test_steady_spot_is_simply_used() -> None:
    job = Job(work_seconds=7200.0, deadline_seconds=9000.0, restart_seconds=300.0, on_demand_usd_per_hour=3.0)
    result = one(market_of([True] * 40, 1.0), job, "adaptive")
    assert np.all(result.plan == SPOT)
    assert result.cost_usd == pytest.approx(25 * 300 / 3600)


def test_it_learns_that_spot_is_fleeting() -> None:
    """In a market whose spot lasts ten minutes (a restart takes five), it soon takes less of it."""
    job = Job(work_seconds=20 * 3600.0, deadline_seconds=26 * 3600.0, restart_seconds=300.0, on_demand_usd_per_hour=3.0)
    available = ([True] * 2 + [False] * 4) * 60
    result = one(market_of(available, 2.0), job, "adaptive")
    spot = np.flatnonzero(result.plan == SPOT)
    greedy = one(market_of(available, 2.0), job, "greedy")
    assert spot.size < greedy.ticks_of(SPOT) / 2
    assert np.count_nonzero(spot >= 80) < np.count_nonzero(spot < 80) / 3
    assert result.cost_usd < greedy.cost_usd
    assert result.met_deadline
