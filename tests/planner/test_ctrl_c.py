"""Ctrl-C: what is done so far is printed, marked incomplete, with exit 130, and no file is left half-written.

The signal is sent when the command says that it has reached a position, never after a delay.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from planner.documents import schema_path

ROOT = Path(__file__).resolve().parents[2]
REACHED = "position reached"

# Runs the command line with `module.name` wrapped: its n-th call says on stderr that it was reached, then waits for a
# signal: for the byte that Python writes when one arrives, in whatever thread, so none can be missed by arriving early.
# (The wait ends by the KeyboardInterrupt of Python's own SIGINT handler.)
WRAPPER = """
import importlib, os, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
module = importlib.import_module({module!r})
owner = getattr(module, {owner!r}) if {owner!r} else module
real, calls = getattr(owner, {name!r}), []
def wrapped(*args, **kwargs):
    calls.append(1)
    if len(calls) == {call}:
        sys.stderr.write({reached!r} + "\\n"); sys.stderr.flush()
        os.read(reader, 1)
    return real(*args, **kwargs)
setattr(owner, {name!r}, wrapped)
from planner.cli import main
sys.exit(main({arguments!r}))
"""

JOB = ["--instance", "p4d.24xlarge", "--work-hours", "100", "--checkpoint-gib", "50", "--runs", "500"]


def interrupted(
    arguments: list[str], *, module: str, name: str, owner: str = "", call: int = 1
) -> subprocess.CompletedProcess[str]:
    """The command's end after SIGINT at the `call`-th call of `module.owner.name`."""
    code = WRAPPER.format(module=module, owner=owner, name=name, call=call, reached=REACHED, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if REACHED in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert any(REACHED in line for line in seen), ("the position was never reached", seen, err)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def test_recommend_prints_the_places_that_are_done(tmp_path: Path) -> None:
    """Interrupted in the second group of places: the first group's are ranked, nothing is emitted."""
    arguments = ["recommend", *JOB, "--hazard", "spot-advisor", "--emit", str(tmp_path / "out"), "--json"]
    result = interrupted(arguments, module="planner.evaluate", name="find_interval", call=2)
    assert result.returncode == 130
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(schema_path("recommend").read_text(encoding="utf-8")))
    assert document["complete"] is False
    assert document["candidates"]
    assert not (tmp_path / "out").exists()


def test_recommend_keeps_its_candidates_when_the_explanation_is_interrupted() -> None:
    """Interrupted while other sources are compared: the answer stands, the sensitivity is missing."""
    result = interrupted(
        ["recommend", *JOB, "--zone", "use1-az2"], module="planner.recommend", name="other_hazards", call=1
    )
    assert result.returncode == 130
    assert result.stdout.startswith("Rent 1 x p4d.24xlarge spot in use1-az2")
    assert "Interrupted: what was done so far." in " ".join(result.stdout.split())


def test_jobs_that_are_done_are_printed_and_the_others_named(tmp_path: Path) -> None:
    """Interrupted in the second of three jobs: the first with its total, the others as left out, nothing emitted."""
    file = tmp_path / "jobs.yaml"
    job = "job: {work_hours: 20, checkpoint_gib: 50}, fleet: {instance: p4d.24xlarge, zone: use1-az2}"
    file.write_text("".join(f"- {{name: {name}, {job}}}\n" for name in ("one", "two", "three")))
    arguments = ["recommend", "--jobs", str(file), "--runs", "200", "--emit", str(tmp_path / "out"), "--json"]
    result = interrupted(arguments, module="planner.compare", name="compare", call=2)
    assert result.returncode == 130
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(schema_path("jobs").read_text(encoding="utf-8")))
    assert document["complete"] is False
    assert [job["name"] for job in document["jobs"]] == ["one"]
    assert document["left_out"] == ["two", "three"]
    assert not (tmp_path / "out").exists()


def test_nothing_done_yet_prints_nothing() -> None:
    """Interrupted before the first place is finished: exit 130 and one line on stderr."""
    result = interrupted(["recommend", *JOB, "--json"], module="planner.evaluate", name="find_interval", call=1)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr.endswith("planner: interrupted\n")


def test_a_sweep_without_an_interval_says_so() -> None:
    """Interrupted in the first interval: exit 130, nothing on stdout, one line that says how far it was."""
    result = interrupted(["sweep", *JOB, "--zone", "use1-az2", "--json"], module="simulator.sweep", name="simulate")
    assert (result.returncode, result.stdout) == (130, "")
    assert "interrupted in the first interval, before its 500 runs were done" in result.stderr
    assert "nothing was kept" in result.stderr


def test_simulate_prints_the_runs_that_are_done() -> None:
    """Interrupted at the first report of progress, with a hundred million interruptions to go."""
    arguments = [
        "simulate", *JOB[:-1], "20000", "--work-hours", "5000", "--rate-per-hour", "1", "--interval-seconds", "1800",
        "--json",
    ]  # fmt: skip
    result = interrupted(arguments, module="planner.render", owner="ProgressBar", name="update", call=1)
    assert result.returncode == 130
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(schema_path("simulate").read_text(encoding="utf-8")))
    assert document["complete"] is False
    assert 0 < document["runs"] < 20000


def test_sweep_prints_the_intervals_that_are_done() -> None:
    """Interrupted at the third interval: the earlier ones and the best of them."""
    result = interrupted(
        ["sweep", *JOB, "--zone", "use1-az2", "--json"],
        module="planner.render",
        owner="ProgressBar",
        name="update",
        call=3,
    )
    assert result.returncode == 130
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads(schema_path("sweep").read_text(encoding="utf-8")))
    assert document["complete"] is False
    assert 1 <= len(document["points"]) <= 3


@pytest.mark.parametrize("call", [1, 2])
def test_no_half_written_files(tmp_path: Path, call: int) -> None:
    """Interrupted while the first or the second file is written: there is no folder, and no litter beside it."""
    result = interrupted(
        ["recommend", *JOB, "--zone", "use1-az2", "--emit", str(tmp_path / "out")],
        module="planner.emit.files",
        name="_write_durably",
        call=call,
    )
    assert result.returncode == 130
    assert list(tmp_path.iterdir()) == []
