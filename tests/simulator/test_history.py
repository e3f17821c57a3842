"""A run with known interruptions: arithmetic on paper."""

from __future__ import annotations

import math

import pytest

from harness.errors import InvalidInputError
from simulator.reference.history import Life, simulate_history
from simulator.spec import Spec

SPEC = Spec(work_hours=2.0, interval_hours=0.5, stall_hours=0.01, persist_hours=0.02, emergency_hours=0.03)


def test_without_a_loss() -> None:
    """Wait, startup, work, three periodic stalls and the final save."""
    found = simulate_history(SPEC, [Life(wait_hours=0.2, up_hours=math.inf, startup_hours=0.1)])
    assert found.makespan_hours == pytest.approx(0.2 + 0.1 + 2.0 + 3 * 0.01 + 0.01 + 0.02)
    assert (found.interruptions, found.lost_work_hours) == (0, 0)


def test_a_silent_loss_costs_what_is_not_durable_and_each_life_its_own_startup() -> None:
    """Lost 0.3 h after the start of the second save's upload: 1.0 h is durable."""
    up = 0.1 + 1.0 + 2 * 0.01 + 0.3
    lives = [Life(0.0, up, startup_hours=0.1), Life(0.4, math.inf, startup_hours=0.2)]
    found = simulate_history(SPEC, lives)
    assert found.lost_work_hours == pytest.approx(0.3)
    assert found.makespan_hours == pytest.approx(up + 0.4 + 0.2 + 1.0 + 0.01 + 0.03)
    assert found.interruptions == 1
    assert found.waiting_hours == pytest.approx(0.4)


def test_an_upload_in_flight_dies_with_the_node() -> None:
    """Lost 0.01 h after the stall, half-way through the upload: the interval before it is lost, too."""
    up = 0.1 + 0.5 + 0.01 + 0.01
    found = simulate_history(SPEC, [Life(0.0, up, 0.1), Life(0.0, math.inf, 0.1)])
    assert found.lost_work_hours == pytest.approx(0.5 + 0.01)


def test_a_notice_that_was_acted_on_loses_nothing() -> None:
    """Training stops at the notice; the rest of the life is idle."""
    notice = 0.1 + 0.4
    lives = [Life(0.0, notice + 0.05, 0.1, notice_at_hours=notice), Life(0.0, math.inf, 0.1)]
    found = simulate_history(SPEC, lives)
    assert found.lost_work_hours == 0
    assert found.notice_idle_hours == pytest.approx(0.05)
    assert found.makespan_hours == pytest.approx(notice + 0.05 + 0.1 + 1.6 + 3 * 0.01 + 0.03)


def test_a_run_that_the_lives_do_not_reach_the_end_of_goes_on() -> None:
    """After the last loss the job starts once more, at once."""
    found = simulate_history(SPEC, [Life(0.0, 0.3, 0.1)])
    assert found.interruptions == 1
    assert found.lost_work_hours == pytest.approx(0.2)
    assert found.makespan_hours == pytest.approx(0.3 + 0.1 + 2.0 + 4 * 0.01 + 0.02)


@pytest.mark.parametrize(
    ("nodes", "lives", "says"),
    [
        (2, [Life(0.0, 1.0, 0.0)], "nodes: got"),
        (1, [], "lives: got"),
    ],
)
def test_bad_input(nodes: int, lives: list[Life], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        simulate_history(Spec(work_hours=1.0, nodes=nodes), lives)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((-1.0, 1.0, 0.0), "wait_hours"),
        ((0.0, math.nan, 0.0), "up_hours"),
        ((0.0, 1.0, math.inf), "startup_hours"),
        ((0.0, 1.0, 0.0, 2.0), "notice_at_hours"),
    ],
)
def test_bad_lives(values: tuple[float, ...], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Life(*values)
