"""What a notice's time is used for, and saving early on risk: decisions by hand-computed cases, then for real."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.config import NoticesConfig
from harness.emergency import LEAVING_SECONDS, Outlook, Plan, SaveSpeeds, combine, decide
from harness.errors import InvalidInputError
from harness.policy import AnyOf, EverySteps, EveryWorkSeconds, HazardTable, OnNotice, OnRisk, SaveContext
from harness.run import Run
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointDurable, EmergencySaved, Restored
from harness.validation import parse
from tests.harness.run_support import train, write_config

MEASURED: dict[str, Any] = {"snapshot_seconds": 3.0, "local_seconds": 10.0, "persist_seconds": 60.0}
"""A save takes 63 s until it is durable, 13 s until it is on the node's own disk."""


@pytest.mark.parametrize(
    ("outlook", "budget", "action", "expected", "fits"),
    [
        # Nothing in flight: 3 + 60 s remote, 3 + 10 s local.
        (Outlook(seconds_left=120, **MEASURED), 100, "remote", 63, True),
        (Outlook(seconds_left=63 + LEAVING_SECONDS, **MEASURED), 100, "remote", 63, True),
        (Outlook(seconds_left=63 + LEAVING_SECONDS - 0.1, **MEASURED), 100, "local", 13, True),
        (Outlook(seconds_left=120, **MEASURED), 62, "local", 13, True),  # the budget counts like the notice
        (Outlook(seconds_left=5, **MEASURED), 100, "local", 13, False),
        (Outlook(seconds_left=0, **MEASURED), 100, "local", 13, False),  # AWS hibernate
        # 40 s into an upload of 60: 20 s for it, and 20 + 63 s for it and this step.
        (Outlook(seconds_left=120, in_flight_step=90, in_flight_seconds=40, **MEASURED), 100, "remote", 83, True),
        (Outlook(seconds_left=80, in_flight_step=90, in_flight_seconds=40, **MEASURED), 100, "finish-upload", 20, True),
        (Outlook(seconds_left=21, in_flight_step=90, in_flight_seconds=40, **MEASURED), 9, "finish-upload", 20, False),
        # Later than expected: due at any moment.
        (Outlook(seconds_left=5, in_flight_step=90, in_flight_seconds=70, **MEASURED), 100, "finish-upload", 0, True),
        # The save in flight is the step that everybody is at.
        (Outlook(seconds_left=25, in_flight_step=100, in_flight_seconds=40, **MEASURED), 100, "remote", 20, True),
        # Nothing is known: everything is tried.
        (Outlook(), 30, "remote", 0, True),
        (Outlook(seconds_left=0), 30, "remote", 0, True),
    ],
)
def test_the_most_valuable_thing_that_fits(
    outlook: Outlook, budget: float, action: str, expected: float, fits: bool
) -> None:
    """All remote, else the upload in flight, else local; by what was measured."""
    plan = decide(outlook, step=100, budget_seconds=budget)
    assert (str(plan.action), plan.fits) == (action, fits), plan.why
    assert plan.expected_seconds == pytest.approx(expected)
    assert ("no save of this run" in plan.why) == (outlook.persist_seconds is None)


def test_more_time_is_never_worth_less() -> None:
    """Over the time left, the choice only gets better: nothing that fits, finish or local, remote."""
    value = {"remote": 2, "finish-upload": 1, "local": 1}

    def worth(plan: Plan) -> int:
        return value[plan.action] * plan.fits

    for in_flight in (None, 90):
        plans = [
            decide(
                Outlook(float(left), in_flight_step=in_flight, in_flight_seconds=12, **MEASURED),
                step=100,
                budget_seconds=500,
            )
            for left in range(200)
        ]
        worths = [worth(plan) for plan in plans]
        assert worths == sorted(worths)
        assert set(worths) == {0, 1, 2}


def test_the_job_knows_what_its_processes_know() -> None:
    """The least time left, the slowest speeds, the newest upload; what nobody knows stays unknown."""
    one = Outlook(seconds_left=None, snapshot_seconds=1.0, in_flight_step=8, in_flight_seconds=4.0)
    two = Outlook(seconds_left=30.0, snapshot_seconds=2.0, persist_seconds=7.0)
    assert combine([one, two]) == Outlook(30.0, 2.0, None, 7.0, 8, 4.0)
    assert combine([Outlook(), Outlook()]) == Outlook()


def test_speeds_are_this_runs_own() -> None:
    """From events: the plan's figures until there are measured ones, then the slowest of the last three saves."""
    speeds = SaveSpeeds(planned=Outlook(snapshot_seconds=9.0, persist_seconds=99.0))
    before = speeds.outlook(seconds_left=None, in_flight=None, now_monotonic=0.0)
    assert (before.snapshot_seconds, before.local_seconds, before.persist_seconds) == (9.0, None, 99.0)
    for number, persist in enumerate([50.0, 20.0, 30.0, 25.0]):
        name = f"step-{number}"
        # 4 s of standstill, 3 of them waiting for the save before.
        speeds.on_event("checkpoint_started", {"checkpoint": name, "stall_seconds": 4.0, "waited_seconds": 3.0}, 100.0)
        speeds.on_event("checkpoint_local", {"checkpoint": name, "stall_seconds": 4.0, "seconds": 10.0}, 106.0)
        speeds.on_event("checkpoint_durable", {"checkpoint": name, "persist_seconds": persist}, 125.0)
    after = speeds.outlook(seconds_left=5.0, in_flight=("step-3", 3), now_monotonic=107.0)
    assert after == Outlook(5.0, 1.0, 6.0, 30.0, 3, 7.0)
    assert speeds.local_name == "step-3"


SLOW_MIB_PER_SECOND = 0.02


def test_what_does_not_fit_is_kept_on_the_nodes_disk_and_uploaded_by_the_next_launch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A notice of 4 s, a target that takes far longer: the step is saved locally, said so, and nothing is lost.

    The provider kept the disk, so the next launch finishes the upload.
    """
    notice = tmp_path / "notice"
    sections: dict[str, Any] = {
        "checkpoint": {"interval": {"steps": 100}},
        "notices": {"sources": [{"kind": "file", "address": str(notice)}], "poll_seconds": 0.01},
        "plan": {"persist_seconds": 30.0, "stall_seconds": 0.1},
    }
    limited = {"bandwidth_limit_mib_per_second": SLOW_MIB_PER_SECOND, **sections["checkpoint"]}
    config = write_config(tmp_path, **{**sections, "checkpoint": limited})

    def announce(run: Run) -> None:
        if run.step == 5:
            notice.write_text(json.dumps({"seconds": 4}))
            while run._board.heard_monotonic is None:
                run._attempt.clock.wait(run._board.stop, 0.01)

    assert train(config, steps=12, at_step=announce).code == 75
    notice.unlink()
    events = read_telemetry(tmp_path / "node-0").events
    (saved,) = [event for event in events if isinstance(event, EmergencySaved)]
    assert (saved.action, saved.fits, saved.durable, saved.local, saved.durable_step) == (
        "local",
        True,
        False,
        True,
        None,
    )
    assert saved.seconds_left is not None
    assert 0 < saved.seconds_left <= 4 - LEAVING_SECONDS
    assert [event for event in events if isinstance(event, CheckpointDurable)] == []
    assert "saving this step on the nodes' own disks" in capsys.readouterr().err

    config = write_config(tmp_path, **sections)
    assert train(config, steps=12).code == 0
    restored = [event for event in read_telemetry(tmp_path / "node-0").events if isinstance(event, Restored)]
    assert [event.step for event in restored] == [0, saved.step]


# ---- saving early on risk


def context(
    work: float, *, saved: float = 0.0, hazard: float = 0.0, step: int = 0, notice: bool = False
) -> SaveContext:
    return SaveContext(step, work, 0, saved, notice_active=notice, hazard_per_hour=hazard)


def test_a_hazard_table_is_a_step_function() -> None:
    """Each rate holds from its age on; the first one before it, too."""
    table = HazardTable((0.5, 2.0, 20.0), (1.76, 0.18, 5.0))
    assert [table.rate_per_hour(age) for age in (0.0, 0.5, 1.99, 2.0, 19.0, 20.0, 1e6)] == [
        1.76, 1.76, 1.76, 0.18, 0.18, 5.0, 5.0,
    ]  # fmt: skip
    for ages, rates in (
        ((), ()),
        ((1.0,), (1.0, 2.0)),
        ((2.0, 1.0), (1.0, 1.0)),
        ((1.0,), (-1.0,)),
        ((1.0,), (math.inf,)),
    ):
        with pytest.raises(ValueError, match="hazard table"):
            HazardTable(ages, rates)


def test_risk_pays_at_youngs_interval_of_the_hazard_now() -> None:
    """δ = 8 s: at 1 per hour √(2·8·3600) = 240 s, at a quarter 480 s, at none never, never below the floor."""
    policy = OnRisk(8.0)
    assert [policy.should_save(context(work, hazard=1.0)) for work in (239.0, 240.0)] == [False, True]
    assert [policy.should_save(context(work, hazard=0.25)) for work in (479.0, 480.0)] == [False, True]
    assert [policy.should_save(context(1000 + work, saved=1000, hazard=1.0)) for work in (239.0, 240.0)] == [
        False,
        True,
    ]
    assert not policy.should_save(context(1e9, hazard=0.0))
    floor = OnRisk(8.0, minimum_seconds=300.0)
    assert [floor.should_save(context(work, hazard=1.0)) for work in (299.0, 300.0)] == [False, True]


def test_policies_compose() -> None:
    """Any of: every 10 steps, every 600 s, on notice, on risk; each one alone makes it save."""
    policy = AnyOf((EverySteps(10), EveryWorkSeconds(600.0), OnNotice(), OnRisk(8.0)))
    assert not policy.should_save(context(200.0, hazard=1.0, step=9))
    assert policy.should_save(context(200.0, step=10))
    assert policy.should_save(context(600.0, step=9))
    assert policy.should_save(context(1.0, step=9, notice=True))
    assert policy.should_save(context(240.0, hazard=1.0, step=9))


def test_a_young_node_saves_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same config on a node of a safe age keeps to the interval; of a dangerous one it saves early."""
    age = 0.0
    monkeypatch.setattr("harness.boundary.node_age_hours", lambda: age)
    # 3600 losses per hour and a floor of 0: √(2·δ) seconds of work, a few steps of this model at most.
    risk = {
        "stall_seconds": 1e-9,
        "hazard": [{"age_hours": 0, "rate_per_hour": 3.6e12}, {"age_hours": 2, "rate_per_hour": 0}],
    }
    reasons: dict[float, list[str]] = {}
    for age in (1.0, 3.0):
        folder = tmp_path / str(age)
        config = write_config(folder, checkpoint={"interval": {"steps": 100}}, notices={"risk": risk})
        assert train(config, steps=12).code == 0
        made = [event for event in read_telemetry(folder / "node-0").events if isinstance(event, CheckpointDurable)]
        reasons[age] = [event.reason for event in made]
    assert reasons[3.0] == ["final"]
    assert reasons[1.0].count("risk") >= 5


def test_risk_in_the_config_is_checked() -> None:
    """Ages increase, rates are not negative; signals of schedulers have names."""
    good = {"stall_seconds": 4, "hazard": [{"age_hours": 0, "rate_per_hour": 1}]}
    assert parse(NoticesConfig, {"risk": good}, source="x").risk is not None
    bad = {**good, "hazard": [{"age_hours": 1, "rate_per_hour": 1}, {"age_hours": 1, "rate_per_hour": 2}]}
    with pytest.raises(InvalidInputError, match="ages that increase"):
        parse(NoticesConfig, {"risk": bad}, source="x")
    with pytest.raises(InvalidInputError, match="SIGUSR1, SIGUSR2"):
        parse(NoticesConfig, {"sources": [{"kind": "signal", "address": "SIGKILL"}]}, source="x")
