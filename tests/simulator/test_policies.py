"""One decision at a time: the rules of the deadline policies and every tie, by hand-computed numbers."""

from __future__ import annotations

from itertools import product

import numba
import pytest

from simulator.policies import (
    GREEDY,
    NONE,
    ON_DEMAND,
    ON_DEMAND_ONLY,
    POLICY_CODES,
    SPOT,
    SPOT_ONLY,
    UNIFORM_PROGRESS,
    decide,
    overhead_after,
)

# A job on which every threshold is a whole number: 1000 s of work in 2000 s, restarts of 100 s, steps of 50 s.
WORK, DEADLINE, RESTART, STEP = 1000.0, 2000.0, 100.0, 50.0


def choose(policy: int, elapsed: float, done: float, current: int, spot: bool, overhead_left: float = 0.0) -> int:
    return decide(policy, elapsed, done, overhead_left, current, spot, WORK, DEADLINE, RESTART, STEP)


@pytest.mark.parametrize("current", [NONE, SPOT, ON_DEMAND])
@pytest.mark.parametrize("spot", [False, True])
def test_the_plain_policies_ignore_the_clock(current: int, spot: bool) -> None:
    """Spot-only takes spot or waits, on-demand never changes, even with no time left."""
    for elapsed in (0.0, 1999.0, 5000.0):
        assert choose(SPOT_ONLY, elapsed, 0.0, current, spot) == (SPOT if spot else NONE)
        assert choose(ON_DEMAND_ONLY, elapsed, 0.0, current, spot) == ON_DEMAND


@pytest.mark.parametrize("policy", [GREEDY, UNIFORM_PROGRESS])
def test_wish_is_strict(policy: int) -> None:
    """Rule 3: on the line (c = t·C/R) wait; anything behind it takes on-demand; spot beats both."""
    assert choose(policy, 400.0, 200.0, NONE, False) == NONE
    assert choose(policy, 400.0, 199.999, NONE, False) == ON_DEMAND
    assert choose(policy, 400.0, 0.0, NONE, True) == SPOT
    assert choose(policy, 0.0, 0.0, NONE, False) == NONE


def test_rounding_noise_is_a_tie() -> None:
    """Hours that were converted to seconds carry noise around 1e-11 s; that must not tip a tie."""
    assert choose(GREEDY, 400.0, 200.0 - 1e-9, NONE, False) == NONE
    assert choose(UNIFORM_PROGRESS, 400.0, 300.0 + 1e-9, ON_DEMAND, True) == ON_DEMAND


def test_a_lost_spot_instance_counts_as_nothing() -> None:
    """Rule 2: after a loss the wish is that of somebody who runs nothing: wait when ahead, on-demand when behind."""
    assert choose(UNIFORM_PROGRESS, 400.0, 300.0, SPOT, False) == NONE
    assert choose(UNIFORM_PROGRESS, 400.0, 100.0, SPOT, False) == ON_DEMAND


def test_uniform_progress_leaves_on_demand_only_when_two_restarts_ahead() -> None:
    """Rule 4: the threshold at t = 400 is (400 + 200)·½ = 300, and it is strict; greedy leaves at once."""
    assert choose(UNIFORM_PROGRESS, 400.0, 300.0, ON_DEMAND, True) == ON_DEMAND
    assert choose(UNIFORM_PROGRESS, 400.0, 300.001, ON_DEMAND, True) == SPOT
    assert choose(UNIFORM_PROGRESS, 400.0, 900.0, ON_DEMAND, False) == ON_DEMAND
    assert choose(GREEDY, 400.0, 100.0, ON_DEMAND, True) == SPOT
    assert choose(GREEDY, 400.0, 200.0, ON_DEMAND, False) == NONE


@pytest.mark.parametrize("policy", [GREEDY, UNIFORM_PROGRESS])
def test_safety_net_with_two_restarts_for_those_not_on_spot(policy: int) -> None:
    """Rule 5: at c = 500, ⌈(500 + 200)/50⌉ = 14 steps; with 14 left on-demand even with spot there, with 15 not."""
    for current in (NONE, ON_DEMAND):
        assert choose(policy, 1300.0, 500.0, current, True) == ON_DEMAND
    # One step earlier, at c = 500 and t = 1250, greedy takes spot; uniform progress does so from nothing.
    assert choose(policy, 1250.0, 500.0, NONE, True) == SPOT
    # Whole steps are counted: 649 s of needs are 13 steps of 50, and 1301 s elapsed leave only 13.
    assert choose(policy, 1301.0, 551.0, NONE, True) == ON_DEMAND


@pytest.mark.parametrize("policy", [GREEDY, UNIFORM_PROGRESS])
def test_safety_net_with_one_restart_for_those_on_spot(policy: int) -> None:
    """Rule 5: ⌈(500 + 100)/50⌉ = 12 steps: a spot instance that makes progress is kept, one that starts up is not."""
    assert choose(policy, 1400.0, 500.0, SPOT, True, overhead_left=0.0) == SPOT
    assert choose(policy, 1400.0, 500.0, SPOT, True, overhead_left=1.0) == ON_DEMAND
    assert choose(policy, 1400.0, 500.0, SPOT, False) == ON_DEMAND
    assert choose(policy, 1350.0, 500.0, SPOT, True, overhead_left=1.0) == SPOT


@pytest.mark.parametrize(
    ("choice", "current", "spot", "left", "expected"),
    [
        (SPOT, NONE, True, 30.0, 100.0),  # set, not added
        (SPOT, SPOT, True, 30.0, 30.0),
        (SPOT, ON_DEMAND, True, 0.0, 100.0),
        (ON_DEMAND, SPOT, False, 0.0, 100.0),
        (ON_DEMAND, ON_DEMAND, False, 20.0, 20.0),
        (NONE, SPOT, False, 30.0, 30.0),  # waiting changes nothing
        (NONE, ON_DEMAND, False, 0.0, 0.0),
    ],
)
def test_overhead(choice: int, current: int, spot: bool, left: float, expected: float) -> None:
    """Rule 6: each new instance owes one whole restart; waiting and staying owe what they owed."""
    assert overhead_after(choice, current, spot, left, RESTART) == expected


def test_compiled_and_interpreted_decisions_are_the_same() -> None:
    """`numba.njit(decide)` compiles the function unchanged and decides alike, ties included."""
    compiled = numba.njit(decide)
    cases = product(
        POLICY_CODES.values(),
        range(0, 2001, 50),
        range(0, 1001, 100),
        (NONE, SPOT, ON_DEMAND),
        (False, True),
        (0.0, 60.0),
    )
    seen = set()
    for policy, elapsed, done, current, spot, left in cases:
        arguments = (policy, float(elapsed), float(done), left, current, spot, WORK, DEADLINE, RESTART, STEP)
        plain = decide(*arguments)
        assert compiled(*arguments) == plain, arguments
        seen.add(plain)
    assert seen == {NONE, SPOT, ON_DEMAND}


def test_a_step_count_that_is_a_whole_number_stays_one() -> None:
    """(R − t)/g computed from hours may come out as 14.999…; it counts as 15."""
    deadline, step = 15 * 0.07 * 3600.0, 0.07 * 3600.0
    assert deadline / step < 15.0, "the case would not show anything"
    assert decide(GREEDY, 0.0, 0.0, 0.0, NONE, True, 13 * step, deadline, step / 2, step) == SPOT
    assert decide(GREEDY, 0.0, 0.0, 0.0, NONE, True, 14 * step, deadline, step / 2, step) == ON_DEMAND
