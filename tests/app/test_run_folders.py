"""Telemetry on a screen: confined to one folder, tolerant of a line that is being written, never trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidInputError
from planner.views import runs

BASE: dict[str, Any] = {
    "schema_version": 1,
    "run_id": "demo",
    "attempt_id": "a1",
    "generation": 1,
    "node": 0,
    "rank": 0,
    "world_size": 1,
}


def events(steps: int = 30, run_id: str = "demo") -> list[str]:
    """The lines of one attempt that was noticed, saved and is going on."""
    lines: list[dict[str, Any]] = [
        {"event": "started", "step": 0, "startup_seconds": 2.0, "device": "cpu"},
        {"event": "restored", "step": 0, "checkpoint": None},
    ]
    for step in range(10, steps + 1, 10):
        lines.append({"event": "window", "step": step, "steps": 10, "samples": 80, "seconds": 5.0, "loss": 3.0 / step})
        lines.append(
            {"event": "checkpoint_durable", "step": step, "checkpoint": f"step-{step}", "persist_seconds": 0.5}
        )
    lines.append({"event": "notice", "step": steps, "source": "file"})
    return [
        json.dumps({**BASE, "run_id": run_id, "wall_time": 1000.0 + i, "monotonic_seconds": float(i), **line})
        for i, line in enumerate(lines)
    ]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A root with one run in it, its config above it."""
    folder = tmp_path / "root" / "job" / "telemetry"
    folder.mkdir(parents=True)
    (folder / "node-0-ab.jsonl").write_text("\n".join(events()) + "\n", encoding="utf-8")
    return tmp_path / "root"


def test_runs_are_found_below_the_root(top: Path) -> None:
    """By the telemetry that lies there; other folders are none."""
    (top / "empty").mkdir()
    (top / ".hidden").mkdir()
    (top / ".hidden" / "node-0.jsonl").write_text("{}", encoding="utf-8")
    assert [run.name for run in runs.find_runs(top)] == ["job/telemetry"]


def test_a_run_is_summarised_as_the_harness_reports_it(top: Path) -> None:
    """Steps, checkpoints and notices of the events."""
    (run,) = runs.find_runs(top)
    found = runs.monitor(run, top)
    assert (found.report.steps, found.report.durable_checkpoints, found.report.notices) == (30, 3, 1)
    assert list(found.steps["step"]) == [10, 20, 30]
    assert set(found.happenings["what"]) == {"checkpoint durable", "notice"}
    assert runs.headline(found) == "demo: not finished at step 30"
    assert len(runs.run_numbers(found)) == 4


def test_a_line_that_is_being_written_is_left_out(top: Path) -> None:
    """A live file ends anywhere."""
    (run,) = runs.find_runs(top)
    file = next(run.path.glob("*.jsonl"))
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole + events(40)[-3][:37], encoding="utf-8")
    found = runs.monitor(run, top)
    assert found.report.steps == 30
    assert found.report.damaged_lines == 1


def test_the_prediction_comes_from_the_config_above(top: Path) -> None:
    """Predicted against measured, with how far off."""
    (top / "job" / "harness.yaml").write_text(
        "schema_version: 1\nrun_id: demo\ncheckpoint: {directory: local, remote: remote}\n"
        "telemetry: {directory: telemetry}\n"
        "plan: {startup_seconds: 4.0, persist_seconds: 0.25, instance: p4d.24xlarge}\n",
        encoding="utf-8",
    )
    (run,) = runs.find_runs(top)
    rows = runs.comparison_rows(runs.monitor(run, top).report).set_index("quantity")
    assert rows.loc["persist", "predicted"] == 0.25
    assert rows.loc["persist", "measured"] == 0.5
    assert rows.loc["persist", "off_percent"] == pytest.approx(100.0)


def test_a_link_out_of_the_root_is_not_followed(top: Path, tmp_path: Path) -> None:
    """Symbolic links do not widen what can be read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "node-0.jsonl").write_text("\n".join(events()), encoding="utf-8")
    (top / "sneaky").symlink_to(outside)
    (top / "job" / "harness.yaml").symlink_to(tmp_path / "secret.yaml")
    (tmp_path / "secret.yaml").write_text("run_id: secret", encoding="utf-8")
    (run,) = runs.find_runs(top)
    assert run.name == "job/telemetry"
    assert run.config is None
    forged = runs.RunFolder("sneaky", top / "sneaky", None, 0.0)
    with pytest.raises(InvalidInputError, match="below"):
        runs.monitor(forged, top)


def test_a_telemetry_file_that_is_a_link_out_of_the_root_is_not_read(top: Path, tmp_path: Path) -> None:
    """Nor do links of single files."""
    target = tmp_path / "node-9.jsonl"
    target.write_text("\n".join(events(run_id="elsewhere")), encoding="utf-8")
    folder = top / "linked"
    folder.mkdir()
    (folder / "node-9.jsonl").symlink_to(target)
    assert "linked" not in [run.name for run in runs.find_runs(top)]
    with pytest.raises(InvalidInputError):
        runs.monitor(runs.RunFolder("linked", folder, None, 0.0), top)


def test_uploads_are_read_without_using_their_names(top: Path) -> None:
    """A name with a path in it is no path."""
    data = "\n".join(events()).encode()
    found = runs.monitor_uploads({"../../etc/node-0.jsonl": data})
    assert found.report.steps == 30


@pytest.mark.parametrize("data", [b"\x00\xff\xfe", b"[]", b'{"event": "window"}', b""])
def test_uploads_that_are_no_telemetry_are_errors(data: bytes) -> None:
    """One sentence, no traceback."""
    with pytest.raises(InvalidInputError):
        runs.monitor_uploads({"node-0.jsonl": data})
