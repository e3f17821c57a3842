"""Re-tuning the checkpoint interval from what a run measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import IntervalConfig, PlanConfig
from harness.emergency import SaveSpeeds
from harness.errors import InvalidInputError
from harness.policy import exact_exponential_interval_seconds
from harness.report import render_report, report_document
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointDurable, IntervalTuned
from harness.timing import StepTimer
from harness.tuning import History, RunHistory, Tuned, posterior_rate_per_node_hour, tuned_interval
from harness.validation import parse
from tests.harness.run_support import sigterm_at, train, write_config

PLAN = PlanConfig(stall_seconds=4.0, rate_per_hour=0.2, nodes=2)
INTERVAL = IntervalConfig(seconds=1800.0, low_seconds=1200.0, high_seconds=2700.0, retune=True)
NOTHING = History()


def tuned(interval: IntervalConfig = INTERVAL, plan: PlanConfig = PLAN, **measured: Any) -> Tuned | None:
    known: dict[str, Any] = {"nodes": 2, "stall_seconds": 0.0, "persist_seconds": 0.0, "history": NOTHING}
    return tuned_interval(interval, plan, **{**known, **measured})


def seconds(**measured: Any) -> float:
    found = tuned(**measured)
    assert found is not None
    return found.interval_seconds


def test_what_was_planned_stays_while_it_holds() -> None:
    """Nothing measured, or what was planned, or so little else that the plateau covers it: the planned interval."""
    assert seconds() == 1800.0
    assert seconds(stall_seconds=4.0, persist_seconds=60.0) == 1800.0
    assert seconds(stall_seconds=5.0) == 1800.0
    # As many losses as the plan expects: the posterior is the planned rate.
    assert seconds(history=History(losses=2, node_hours=10.0)) == 1800.0


def test_another_stall_and_another_rate_move_it_as_the_exact_rule_does() -> None:
    """A 16th of the stall: about a quarter of the interval.  9 losses in 5 node-hours, with the prior's one: 1 /h."""
    planned = exact_exponential_interval_seconds(4.0, 3600 / 0.4)
    cheap = exact_exponential_interval_seconds(0.25, 3600 / 0.4)
    assert seconds(stall_seconds=0.25) == pytest.approx(1800 * cheap / planned)
    assert seconds(stall_seconds=0.25) == pytest.approx(450, rel=0.02)
    history = History(losses=9, node_hours=5.0)
    assert posterior_rate_per_node_hour(0.2, history) == pytest.approx(1.0)
    often = exact_exponential_interval_seconds(4.0, 3600 / 2.0)
    assert seconds(history=history) == pytest.approx(1800 * often / planned)
    # Half the fleet is lost half as often.
    alone = exact_exponential_interval_seconds(4.0, 3600 / 1.0)
    assert seconds(nodes=1, history=history) == pytest.approx(1800 * alone / planned)


def test_its_bounds() -> None:
    """Never below the time until durable, never more than tenfold away; nothing without a plan or when not asked."""
    assert seconds(stall_seconds=0.25, persist_seconds=700.0) == 700.0
    assert seconds(stall_seconds=1e-6) == 180.0
    assert seconds(stall_seconds=3600.0) <= 18000.0
    assert tuned(INTERVAL.model_copy(update={"retune": False}), stall_seconds=1.0) is None
    assert tuned(plan=PlanConfig(), stall_seconds=1.0) is None
    with pytest.raises(InvalidInputError, match="a fixed number of steps is not re-tuned"):
        parse(IntervalConfig, {"steps": 10, "retune": True}, source="x")


@given(
    stall=st.floats(1e-3, 1e3),
    more=st.floats(1.0, 100.0),
    losses=st.integers(0, 50),
    hours=st.floats(0.0, 1e4),
    nodes=st.integers(1, 64),
)
def test_dearer_saves_come_less_often_and_losses_more_often(
    stall: float, more: float, losses: int, hours: float, nodes: int
) -> None:
    """Monotone in each, whatever the other, outside the plateau, which is one step of the function."""
    bare = INTERVAL.model_copy(update={"low_seconds": None, "high_seconds": None})
    now = History(losses, hours)

    def at(stall: float, history: History) -> float:
        found = tuned(bare, nodes=nodes, stall_seconds=stall, history=history)
        assert found is not None
        return found.interval_seconds

    assert at(stall * more, now) >= at(stall, now) * (1 - 1e-9)
    assert at(stall, History(losses + 1, hours)) <= at(stall, now) * (1 + 1e-9)


def test_history_counts_what_nobody_asked_for() -> None:
    """Two attempts later: two losses; after a stop by the user or with a node more, one of them is none."""
    begun = RunHistory(nodes=2)
    assert begun.at(100, 36.0) == History(0, 2.0)
    begun.stopped = True
    stopped = begun.remembered(100, 36.0)
    begun.stopped = False
    saved = begun.remembered(100, 36.0)
    for remembered, grown, losses in ((saved, False, 2), (saved, True, 1), (stopped, False, 1), ({}, False, 2)):
        history = RunHistory(nodes=1)
        history.adopt(remembered, step=100, attempts=2, grown=grown)
        assert history.at(150, 72.0) == History(losses, (2.0 if remembered else 0.0) + 1.0)


def test_a_run_adapts_and_remembers_its_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 1 s and saves of 0.1 s, as the run is told; the plan said 10 s and 36 losses an hour."""

    def step_done(timer: StepTimer) -> None:
        timer._steps += 1
        timer.step_seconds = 1.0

    monkeypatch.setattr(StepTimer, "step_done", step_done)
    monkeypatch.setattr(SaveSpeeds, "snapshot_seconds", 0.1)
    plan = {"stall_seconds": 10.0, "rate_per_hour": 36.0, "nodes": 1}
    config = write_config(
        tmp_path, checkpoint={"interval": {"steps": None, "seconds": 50.0, "retune": True}, "keep_last": 9}, plan=plan
    )
    assert train(config, steps=40, at_step=sigterm_at(25)).code == 75
    assert train(config, steps=40).code == 0

    events = read_telemetry(tmp_path / "node-0").events
    changes = [event for event in events if isinstance(event, IntervalTuned)]
    first, second = changes[0], next(event for event in changes if event.attempt_id != changes[0].attempt_id)
    assert first.previous_seconds == 50.0
    expected = tuned_interval(
        IntervalConfig(seconds=50.0, retune=True), PlanConfig(**plan), nodes=1, stall_seconds=0.1,
        persist_seconds=0.0, history=History(0, first.step / 3600),
    )  # fmt: skip
    assert expected is not None
    assert first.interval_seconds == pytest.approx(expected.interval_seconds)
    # The loss that was resumed from counts: two instead of one, over the node-hours of both attempts.
    assert second.fleet_rate_per_hour == pytest.approx(2 / (1 / 36 + second.step / 3600))
    periodic = [e.step for e in events if isinstance(e, CheckpointDurable) and e.reason == "periodic"]
    assert len(periodic) >= 4, "at the planned interval there would be none in 40 steps"
    report = report_document([tmp_path / "node-0"])
    row = next(row for row in report.comparisons if row.quantity == "interval, re-tuned")
    assert (row.predicted, row.measured) == (50.0, changes[-1].interval_seconds)
    assert "interval, re-tuned" in render_report(report)
