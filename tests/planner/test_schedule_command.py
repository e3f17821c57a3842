"""`planner schedule`: exactly the fates of a simulated run or of a trace, in the format that chaos reads."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.chaos.schedule import Schedule, load_schedule
from planner.documents import schema_path
from planner.schedule import Pace, fates_of_run, fates_of_trace, schedule_of
from simulator import draws
from simulator.lifetimes import Exponential
from simulator.provision import ConstantProvision
from simulator.reference import simulate_run
from simulator.spec import Spec
from simulator.traces import CapacitySeries
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
RATE = 0.5
NODES = ("--rate-per-hour", "0.5", "--nodes", "2", "--provision-hours", "0.1", "--bulk", "0", "--horizon-hours", "24")
COUNTS = [0, 1, 2, 2, 1, 2, 0, 2, 2, 2]


def a_spec(**changes: Any) -> Spec:
    """A fleet of two that is interrupted every hour or so."""
    values: dict[str, Any] = {
        "work_hours": 20.0,
        "interval_hours": 0.25,
        "lifetime": Exponential(RATE),
        "nodes": 2,
        "provision": ConstantProvision(0.1),
        "startup_hours": 0.05,
    }
    return Spec(**(values | changes))


def read(outcome: Outcome) -> list[dict[str, Any]]:
    """The interruptions of a `--json`, checked against the published schema and by the reader of the other half."""
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("schedule").read_text(encoding="utf-8")))
    Schedule.model_validate(document)
    found: list[dict[str, Any]] = document["interruptions"]
    return found


def test_a_schedule_is_the_simulators_own_fate(planner: Planner) -> None:
    """The first loss of each node is its first lifetime, the second follows a wait and the second lifetime."""
    rows = read(planner("schedule", *NODES, "--seed", "7", "--run", "3", "--notice-seconds", "0", "--json"))
    for node in (0, 1):
        lives = [-math.log(draws.uniforms(7, 3, node, n, draws.STREAM_ACQUISITION)[0]) / RATE for n in (0, 1)]
        times = [row["at_seconds"] for row in rows if row["node"] == node]
        assert times[:2] == pytest.approx([lives[0] * 3600, (sum(lives) + 0.1) * 3600], abs=2e-3)
    assert {row["kind"] for row in rows} == {"kill"}
    assert max(row["at_seconds"] for row in rows) <= 24 * 3600


@pytest.mark.parametrize("min_nodes", [2, 1])
def test_every_reclaimed_node_is_there_once(min_nodes: int) -> None:
    """As many as the run reports, rigid and elastic, with and without a notice, bulk losses included."""
    spec = a_spec(min_nodes=min_nodes, bulk=0.3, notice_hours=1 / 60, notice_success=0.5, emergency_hours=0.005)
    for run in range(5):
        fates = fates_of_run(spec, 1, run)
        assert len(fates) == simulate_run(spec, 1, run).reclaimed_nodes
        notices = [fate.notice_hours for fate in fates]
        assert {0.0, *notices} == {0.0} | {n for n in notices if 0.0 < n <= 1 / 60 + 1e-9}
        assert 0.0 in notices
        assert any(n == pytest.approx(1 / 60) for n in notices)


def test_pace_scales_time_but_not_notices() -> None:
    """A loss takes place at its scaled moment, its notice before it, and not before the node is there."""
    spec = a_spec(notice_hours=1 / 60, notice_success=1.0)
    fates = fates_of_run(spec, 1, 0)
    real, fast = schedule_of(fates, Pace()), schedule_of(fates, Pace(hours_per_second=0.01))
    by_loss = sorted(fates, key=lambda fate: (fate.lost_hours, fate.node))
    for schedule, scale in ((real, 3600.0), (fast, 100.0)):
        ends = sorted((item.at_seconds or 0.0) + (item.notice_seconds or 0.0) for item in schedule.interruptions)
        assert ends == pytest.approx([fate.lost_hours * scale for fate in by_loss], abs=2e-3)
    assert {item.notice_seconds for item in real.interruptions} >= {60.0}
    assert all(0.0 < (item.notice_seconds or 0.0) <= 60.0 for item in fast.interruptions)


def test_steps_are_positions_that_come_once() -> None:
    """The step of the job's progress, or the first new one where lost work is done again; at once stays at once."""
    spec = a_spec(lifetime=Exponential(3.0), bulk=0.5, work_hours=10.0)
    fates = fates_of_run(spec, 1, 0)
    rows = schedule_of(fates, Pace(step_seconds=60.0)).interruptions
    assert len(rows) == len(fates) > 20
    exact = 0
    for one, two, before, after in zip(fates, fates[1:], rows, rows[1:], strict=False):
        assert before.at_step is not None
        assert after.at_step is not None
        assert (after.at_step == before.at_step) == (one.begins_hours == two.begins_hours)
        exact += after.at_step == math.floor(two.progress_hours * 60.0 + 1e-9)
    assert exact > len(rows) / 4
    assert any(a.at_step == b.at_step for a, b in itertools.pairwise(rows)), "no bulk loss: nothing tested"


def test_a_trace_takes_the_nodes_that_it_took(planner: Planner, tmp_path: Path) -> None:
    """From the first moment at which both are there; what is up when the log ends has not been taken."""
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": COUNTS}), encoding="utf-8")
    arguments = ("schedule", "--trace", str(trace), "--nodes", "2", "--json")
    rows = read(planner(*arguments, "--notice-seconds", "30"))
    assert [(row["node"], row["at_seconds"], row["notice_seconds"]) for row in rows] == [
        (1, 1170.0, 30.0),
        (0, 2370.0, 30.0),
        (1, 2370.0, 30.0),
    ]
    steps = read(planner(*arguments, "--step-seconds", "10"))
    assert [(row["node"], row["at_step"], row["kind"]) for row in steps] == [
        (1, 120, "kill"),
        (0, 240, "kill"),
        (1, 240, "kill"),
    ]
    assert read(planner(*arguments, "--start-hours", "1")) == []


def test_a_notice_is_not_longer_than_the_life() -> None:
    """Rule 4: a node that lives for ten minutes has ten minutes' notice at most."""
    series = CapacitySeries.regular([1, 1, 0, 1, 0, 0], 1 / 6)
    fates = fates_of_trace(series, 1, notice_hours=0.25)
    assert [fate.begins_hours for fate in fates] == pytest.approx([1 / 3 - 0.25, 0.5])
    assert [fate.notice_hours for fate in fates] == pytest.approx([0.25, 1 / 6])


@pytest.mark.parametrize("name", ["chaos.yaml", "chaos.json"])
def test_the_file_is_what_chaos_reads(planner: Planner, tmp_path: Path, name: str) -> None:
    """Written whole, and the same as `--json`."""
    rows = read(planner("schedule", *NODES, "--json", "--out", str(tmp_path / name)))
    assert [item.model_dump(exclude_none=True) for item in load_schedule(tmp_path / name).interruptions] == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_the_plan_in_harness_yaml(planner: Planner, tmp_path: Path) -> None:
    """A plan's own nodes, rate and interval; another seed is another fate."""
    plan = ("--instance", "p4d.24xlarge", "--zone", "use1-az2", "--work-hours", "20", "--checkpoint-gib", "50")
    emitted = planner("emit", *plan, "--interval-seconds", "900", "--runs", "100", "--output", str(tmp_path))
    assert emitted.code == 0, emitted.err
    config = str(tmp_path / "harness.yaml")
    rows = read(planner("schedule", config, "--json"))
    assert rows == read(planner("schedule", *plan, "--interval-seconds", "900", "--json"))
    assert rows
    assert rows != read(planner("schedule", config, "--seed", "2", "--json"))
    refused = planner("schedule", config, "--nodes", "3")
    assert (refused.code, refused.err.split(":")[1]) == (2, " --nodes")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rate-per-hour", "1"), "--horizon-hours: got 'nothing'"),
        ((*NODES, "--run", "-1"), "--run: got -1"),
        ((*NODES, "--time-scale", "0"), "--time-scale: got 0, expected a number > 0"),
        ((*NODES, "--step-seconds", "nan"), "--step-seconds: got 'nan'"),
        ((*NODES, "--start-hours", "1"), "--start-hours: got 1, expected a --trace"),
        ((*NODES, "--out", "schedule.txt"), ".yaml, .yml or .json"),
        (("--horizon-hours", "1"), "--rate-per-hour: got 'nothing'"),
        (("--trace", "TRACE", "--nodes", "3"), "--nodes: got 3, expected at most 2"),
        (("--trace", "TRACE", "--work-hours", "3"), "--work-hours: got 3, expected beside --trace only"),
        (("--trace", "TRACE", "--run", "0"), "--run: got 0, expected no run beside --trace"),
        (("--trace", "absent.json"), "an existing file"),
        (("--trace", "LIVES"), "--trace: got 'a file of lifetimes'"),
    ],
)
def test_nonsense_is_refused(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    """One line that names the flag, and nothing written."""
    monkeypatch.chdir(tmp_path)
    Path("TRACE").write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": COUNTS}), encoding="utf-8")
    Path("LIVES").write_text("lifetime_hours,end_event\n3.0,preempted\n", encoding="utf-8")
    outcome = planner("schedule", *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LIVES", "TRACE"]
