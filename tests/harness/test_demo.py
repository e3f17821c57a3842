"""The demonstration end to end: real torchrun agents, real files, real signals; every fault fired."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.checkpoint.names import parse_checkpoint_name
from harness.config import CheckpointConfig, NoticesConfig, NoticeSource, PlanConfig, RunConfig, TelemetryConfig
from harness.config import TorchrunConfig as Torchrun
from harness.report import Report
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import EmergencySaved, NoticeReceived, Restored
from tests.harness.run_support import ROOT, example

STEPS = 100


def plan_config() -> RunConfig:
    """What a planner emits for a p4d: nothing in it fits this machine."""
    return RunConfig(
        run_id="p4d-demo",
        seed=11,
        torchrun=Torchrun(nnodes="1:1", nproc_per_node=8, shutdown_timeout_seconds=65),
        checkpoint=CheckpointConfig(directory=Path("/nowhere/local"), remote="s3://nobody/prefix"),
        notices=NoticesConfig(
            sources=(NoticeSource(kind="aws"), NoticeSource(kind="sigterm")), emergency_budget_seconds=55.0
        ),
        telemetry=TelemetryConfig(directory=Path("/nowhere/telemetry")),
        plan=PlanConfig(instance="p4d.24xlarge", zone="use1-az2", nodes=1, goodput_mean=0.93, stall_seconds=3.6),
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demonstration(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    """Notice, silent loss, finish: same step saved by both ranks, bounded loss, weights equal bit for bit."""
    plan = tmp_path / "plan.yaml"
    example("demo").write_config(plan_config(), plan)
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", plan, "--folder", folder, "--steps", str(STEPS)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    logs = "\n".join(f"== {log.name}\n{log.read_text()}" for log in sorted((folder / "logs").glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert "equal, bit for bit" in done.stdout
    assert "The simulator on this run's own 2 interruptions and measured durations" in done.stdout

    report = Report.model_validate(json.loads((folder / "report.json").read_text()))
    record_property("attempt_startup_seconds", [attempt.startup_seconds for attempt in report.attempts])
    record_property("wall_seconds", report.wall_seconds)
    first, second, third = report.attempts
    assert [first.end, second.end, third.end] == ["notice", "peer-lost", "finished"]
    assert [first.generation, second.generation, third.generation] == [1, 2, 3]
    assert (report.notices, report.notices_acted_on, report.interruptions) == (1, 1, 2)
    # The notice lost nothing; the silent loss cost what came after the last durable checkpoint, and no more.
    assert first.to_step == second.from_step
    assert third.restored is not None
    assert (parse_checkpoint_name(third.restored) or (0, 0))[0] == third.from_step
    # (Equal on a machine so fast that launch 2 fits into one interval: the emergency save is then the last one.)
    assert second.from_step <= third.from_step < second.to_step
    assert report.lost_steps == second.to_step - third.from_step
    assert report.executed_steps == STEPS + report.lost_steps
    assert report.final_loss is not None
    assert report.first_loss is not None
    assert report.final_loss < report.first_loss - 1.0
    assert report.predicted_for == "1 × p4d.24xlarge use1-az2"
    assert {row.quantity: row.predicted for row in report.comparisons}["stall"] == 3.6

    events = read_telemetry(folder / "bucket", folder / "node-0", folder / "node-1").events
    assert [(event.node, event.source) for event in events if isinstance(event, NoticeReceived)] == [(1, "aws")]
    saved = [event for event in events if isinstance(event, EmergencySaved)]
    assert sorted((event.node, event.step, event.durable) for event in saved) == [
        (0, first.to_step, True),
        (1, first.to_step, True),
    ]
    # A node whose disk is new restores from the durable target alone.
    sources = {(e.generation, e.node): e.source for e in events if isinstance(e, Restored) and e.checkpoint}
    assert sources[2, 1] == sources[3, 1] == "remote"
    # Three lives of node 1's disk and one of node 0's: four files, and the bucket has a copy of each.
    copies = {path.name for path in (folder / "bucket" / "p4d-demo" / "telemetry").iterdir()}
    assert len(copies) == 4
    assert {Path(file).name for file in report.files} == copies


def test_only_what_a_laptop_must_change_is_changed(tmp_path: Path) -> None:
    """Every other value of the plan's config reaches the run as it was written."""
    demo = example("demo")
    plan = plan_config()
    overrides = demo.laptop_overrides(tmp_path, 29500, 2000)
    before, after = plan.model_dump(mode="json"), demo.adapt(plan, overrides).model_dump(mode="json")
    changed = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in before.items()
        for key in (value if isinstance(value, dict) else [section])
        if (value[key] if isinstance(value, dict) else value)
        != (after[section][key] if isinstance(value, dict) else after[section])
    }
    assert changed <= set(overrides)
    assert {"torchrun.nnodes", "torchrun.nproc_per_node", "checkpoint.remote"} <= changed
    assert all(why for _, why in overrides.values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.yaml"], "file: got"),
        (["plan.yaml", "--steps", "5"], "--steps: got 5, expected at least 60"),
        (["plan.yaml", "--folder", "."], "--folder: got"),
    ],
)
def test_the_demonstration_refuses_bad_input(tmp_path: Path, arguments: list[str], says: str) -> None:
    """Exit 2, one line, and a folder that is somebody else's is left alone."""
    example("demo").write_config(plan_config(), tmp_path / "plan.yaml")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"demo: {says}")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "plan.yaml").exists()
