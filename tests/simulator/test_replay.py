"""Tick replay on small synthetic traces, by hand: one test per rule of docs/deadline-policy.md, and the ties."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator.replay import Job, Market, WindowResult, replay

LETTERS = {"-": False, "s": True}


def market(trace: str, prices: list[float] | float = 1.0, tick_seconds: float = 100.0) -> Market:
    """`trace`: one letter per tick, s = spot is there."""
    available = np.array([LETTERS[letter] for letter in trace])
    return Market(available, np.broadcast_to(np.asarray(prices, dtype=float), available.shape).copy(), tick_seconds)


def job(work: float, deadline: float, restart: float = 0.0, on_demand: float = 3.6) -> Job:
    return Job(work_seconds=work, deadline_seconds=deadline, restart_seconds=restart, on_demand_usd_per_hour=on_demand)


def run(trace: str, the_job: Job, policy: str, **options: object) -> WindowResult:
    prices = options.pop("prices", 1.0)
    (result,) = replay(market(trace, prices), the_job, policy, **options)  # type: ignore[arg-type]
    return result


def plan_of(result: WindowResult) -> str:
    return "".join("NSO"[choice] for choice in result.plan)


def test_availability_is_known_before_deciding() -> None:
    """Rule 1: spot that appears in tick 1 is used in tick 1."""
    assert plan_of(run("-s---", job(100, 500), "spot-only")) == "NS"


def test_the_tick_before_a_loss_counts_and_is_paid_and_on_demand_may_follow_at_once() -> None:
    """Rule 2: tick 0 gives 100 - 62 = 38 s; behind the line (39.2 s) after the loss, on-demand starts in tick 1."""
    result = run("s-----", job(200, 510, restart=62), "greedy")
    assert plan_of(result) == "SOOO"
    assert result.finish_seconds == 100.0 + 62.0 + (200.0 - 38.0)
    assert result.cost_usd == pytest.approx((1 * 1.0 + 3 * 3.6) * 100 / 3600)


def test_the_wish_waits_on_the_line() -> None:
    """Rule 3: C/R = 1/2, no spot: tick 0 waits (0 = 0), ticks 1-2 are behind, tick 3 waits (c = 200 > 150)..."""
    result = run("-" * 20, job(1000, 2000), "greedy")
    # c after k ticks against 50·k: on-demand when c < 50·k.  k=1: 0 < 50 O; k=2: 100 = 100 waits; k=3: 100 < 150 O; ...
    assert plan_of(result) == "NO" * 10
    assert result.finish_seconds == 2000.0
    assert result.met_deadline


def test_uniform_progress_stays_on_demand_where_greedy_leaves() -> None:
    """Rule 4: at t = 200, c = 100, the threshold with d = 0 is (200)·½ = 100: strict, so uniform progress stays."""
    trace = "--s" + "-" * 17
    assert plan_of(run(trace, job(1000, 2000), "greedy")).startswith("NOSN")
    assert plan_of(run(trace, job(1000, 2000), "uniform-progress")).startswith("NOOO")
    # Further ahead (it never stops while there is no spot), it takes spot: t = 400, c = 300 > 200.
    assert plan_of(run("----s" + "-" * 15, job(1000, 2000), "uniform-progress")).startswith("NOOOS")


def test_the_safety_net_takes_on_demand_even_with_spot_there() -> None:
    """Rule 5: 3 ticks of work and 2·50 s are 4 ticks; of 4 left none may be spent on a spot start."""
    assert plan_of(run("ssss", job(300, 400, restart=50), "greedy")) == "OOOO"
    # With one tick more it starts on spot; at tick 1 (c = 50, r = 0) ⌈(250 + 50)/100⌉ = 3 of 4 left: it stays.
    assert plan_of(run("sssss", job(300, 500, restart=50), "greedy")) == "SSSS"
    # A start-up that is not over when the net binds is abandoned: restart 150, c = 0, r = 50 at tick 1.
    assert plan_of(run("ss" + "-" * 6, job(300, 700, restart=150), "greedy"))[:2] == "SS"
    assert plan_of(run("ss" + "-" * 6, job(300, 600, restart=149), "greedy"))[:2] == "OO"


def test_overhead_is_set_not_added_and_a_waiting_tick_keeps_it() -> None:
    """Rule 6: each start owes 150 s.  Two lost starts of one tick each make no progress; the third one does."""
    result = run("s-s-sss-", job(150, 800, restart=150), "spot-only")
    # Starts at ticks 0, 2, 4; from tick 4: 150 s overhead, then 50 s in tick 5, 100 s in tick 6: done at 700 s.
    assert plan_of(result) == "SNSNSSS"
    assert result.finish_seconds == 700.0
    assert result.launches == 3


def test_progress_starts_within_the_tick_in_which_the_overhead_ends() -> None:
    """Rule 7: overhead 250 s spans ticks 0-2, of which the last gives 50 s; the last tick is used in part."""
    result = run("-" * 8, job(100, 800, restart=250), "on-demand")
    assert plan_of(result) == "OOOO"
    assert result.finish_seconds == 350.0


def test_every_tick_is_paid_whole_at_its_own_price_or_the_next_one() -> None:
    """Rule 8: 150 s of spot are two ticks; ticks cost 1 and 2 USD/h, or 2 and 5 with the original's quirk."""
    prices = [1.0, 2.0, 5.0]
    same = run("sss", job(150, 300), "spot-only", prices=prices)
    assert same.cost_usd == pytest.approx((1.0 + 2.0) * 100 / 3600)
    following = run("sss", job(150, 300), "spot-only", prices=prices, spot_price_tick="next")
    assert following.cost_usd == pytest.approx((2.0 + 5.0) * 100 / 3600)
    assert same.finish_seconds == following.finish_seconds == 150.0


def test_next_tick_price_of_the_last_tick_is_the_last_price() -> None:
    """Rule 8, at the trace's end: there is no next price, the last one holds; a window's end is not the trace's."""
    prices = [1.0, 2.0, 5.0]
    result = run("sss", job(300, 300), "spot-only", prices=prices, spot_price_tick="next")
    assert result.cost_usd == pytest.approx((2.0 + 5.0 + 5.0) * 100 / 3600)
    result = run("sss", job(200, 200), "spot-only", prices=prices, spot_price_tick="next", window_ticks=2)
    assert result.cost_usd == pytest.approx((2.0 + 5.0) * 100 / 3600)


def test_done_within_a_millisecond() -> None:
    """Rule 9: 100.0009 s of work are done at the first boundary, 100.0011 s are not."""
    assert len(run("---", job(100.0009, 300), "on-demand").plan) == 1
    assert len(run("---", job(100.0011, 300), "on-demand").plan) == 2


def test_spot_only_may_miss_the_deadline_or_never_finish() -> None:
    """Spot-only has no net: late is reported as late, unfinished as unfinished, with what was paid."""
    late = run("s----s", job(200, 400), "spot-only")
    assert (late.finish_seconds, late.met_deadline) == (600.0, False)
    never = run("s-----", job(200, 400), "spot-only")
    assert (never.finish_seconds, never.finish_hours, never.met_deadline) == (None, None, False)
    assert never.cost_usd == pytest.approx(100 / 3600)
    assert never.spot_hours == pytest.approx(100 / 3600)
    assert never.waiting_hours == pytest.approx(500 / 3600)


def test_an_impossible_deadline_is_missed_by_on_demand_too() -> None:
    """Work plus one restart does not fit: every policy with a net runs on-demand throughout and is late alike."""
    results = [run("s" * 10, job(500, 520, restart=50), policy) for policy in ("on-demand", "greedy")]
    for result in results:
        assert plan_of(result) == "OOOOOO"
        assert not result.met_deadline


def test_windows_start_where_asked_and_know_nothing_of_each_other() -> None:
    """Windows may overlap; each starts afresh with its own clock, and reports its start."""
    results = replay(market("s-ss-s"), job(100, 200), "spot-only", starts=[4, 0, 2], window_ticks=2)
    assert [result.start_tick for result in results] == [4, 0, 2]
    assert [plan_of(result) for result in results] == ["NS", "S", "S"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"starts": [7]}, "window_start"),
        ({"starts": [-1]}, "window_start"),
        ({"starts": [4], "window_ticks": 4}, "window_start"),
        ({"starts": [0], "window_ticks": 2}, "window_ticks"),
        ({"starts": [5]}, "window_start"),  # what is left of the trace does not hold the deadline
        ({"spot_price_tick": "last"}, "spot_price_tick"),
    ],
)
def test_windows_that_cannot_be_replayed(options: dict[str, object], field: str) -> None:
    """A window outside the trace, or one too short for the deadline, names what would fit."""
    with pytest.raises(InvalidInputError) as caught:
        replay(market("sssssss"), job(200, 300), "greedy", **options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="uniform-progress'\\?"):
        replay(market("sss"), job(200, 300), "uniform_progress")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0.0, 1.0, 0.0, 1.0), "work_hours"),
        ((float("nan"), 1.0, 0.0, 1.0), "work_hours"),
        ((2.0, 1.0, 0.0, 1.0), "deadline_hours"),
        ((2.0, float("inf"), 0.0, 1.0), "deadline_hours"),
        ((1.0, 1.0, -0.1, 1.0), "restart_hours"),
        ((1.0, 1.0, 0.1, -1.0), "on_demand_usd_per_hour"),
        ((1.0, 1.0, 0.1, float("inf")), "on_demand_usd_per_hour"),
    ],
)
def test_jobs_that_make_no_sense(arguments: tuple[float, float, float, float], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Job.from_hours(*arguments)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("available", "prices", "tick"),
    [
        (np.zeros(0, dtype=bool), np.zeros(0), 1.0),
        (np.zeros(3, dtype=bool), np.zeros(2), 1.0),
        (np.zeros(3, dtype=bool), np.array([0.0, np.nan, 0.0]), 1.0),
        (np.zeros(3, dtype=bool), np.array([0.0, -1.0, 0.0]), 1.0),
        (np.zeros(3, dtype=bool), np.zeros(3), 0.0),
        (np.zeros(3, dtype=np.int8), np.zeros(3), 1.0),
    ],
)
def test_markets_that_make_no_sense(available: np.ndarray, prices: np.ndarray, tick: float) -> None:
    with pytest.raises(InvalidInputError):
        Market(available, prices, tick)
