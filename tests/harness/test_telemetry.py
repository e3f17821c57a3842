"""Telemetry: what is written is read back, a kill costs at most a line, and training never notices trouble."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.attempt import Attempt
from harness.clock import FakeClock
from harness.config import load_run_config
from harness.environment import Placement
from harness.errors import ExternalServiceError, InvalidInputError
from harness.status import build_status
from harness.telemetry.reader import parse_lines, read_telemetry
from harness.telemetry.schema import EVENT_NAMES, Measurement, Window, build_event, parse_event
from harness.telemetry.summary import summarize_run
from harness.telemetry.writer import BackgroundUploader, TelemetryWriter
from tests.harness.run_support import write_config


def writer(folder: Path, clock: FakeClock | None = None, *, node: int = 0, rank: int = 0) -> TelemetryWriter:
    return TelemetryWriter(folder, run_id="run", node=node, rank=rank, world_size=2, clock=clock or FakeClock())


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Both clocks, identity, step and payload survive the file."""
    clock = FakeClock(wall=1000.0)
    log = writer(tmp_path, clock)
    log.claim("a1", 3)
    log.at_step(20)
    clock.advance(5)
    log.emit("window", steps=20, samples=320, seconds=2.0, stall_seconds=0.5, loss=1.25)
    (event,) = read_telemetry(tmp_path).events
    assert isinstance(event, Window)
    assert (event.wall_time, event.monotonic_seconds) == (1005.0, 5.0)
    assert (event.run_id, event.attempt_id, event.generation, event.node, event.step) == ("run", "a1", 3, 0, 20)
    assert (event.steps, event.samples, event.stall_seconds, event.loss) == (20, 320, 0.5, 1.25)


def test_events_before_the_claim_get_the_attempt_too(tmp_path: Path) -> None:
    """A notice that is heard while the process group forms belongs to the attempt that forms."""
    clock = FakeClock(wall=1000.0)
    log = writer(tmp_path, clock)
    log.emit("notice", source="aws")
    clock.advance(9)
    log.claim("a1", 1)
    (event,) = read_telemetry(tmp_path).events
    assert (event.attempt_id, event.wall_time) == ("a1", 1000.0)


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, cut: int) -> None:
    """A kill in the middle of a write is tolerated, and the next writer does not glue its line to the torn one."""
    log = writer(tmp_path)
    log.claim("a1", 1)
    for step in (1, 2):
        log.emit("window", step=step, steps=1, samples=1, seconds=1.0)
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    again = writer(tmp_path)
    again.claim("a2", 2)
    again.emit("window", step=3, steps=1, samples=1, seconds=1.0)
    assert again.path == log.path
    telemetry = read_telemetry(tmp_path)
    # Cutting only the newline leaves the whole event.
    assert [event.step for event in telemetry.events] == ([1, 2, 3] if cut == 1 else [1, 3])
    assert telemetry.damaged_lines == (0 if cut == 1 else 1)


def test_a_line_may_be_cut_anywhere() -> None:
    """Right behind a brace inside of a text, too; and a power cut leaves zeros where the data never came."""
    common = {"wall_time": 1.0, "monotonic_seconds": 1.0, "run_id": "r", "attempt_id": "a", "node": 0, "rank": 0}
    fields = {**common, "step": 3, "world_size": 1, "checkpoint": "step-3", "error": 'denied: {"a": {"b": 1}} at all'}
    line = build_event("checkpoint_failed", fields).model_dump_json(exclude_none=True).encode()
    whole, torn = parse_lines(line + b"\n", source="f")
    assert (len(whole), torn) == (1, 0)
    for cut in range(1, len(line)):
        assert parse_lines(line[:cut] + b"\n" + line, source="f") == (whole, 1)
    assert parse_lines(line + b"\n" + line[:40] + b"\0" * 24 + b"\n" + b"\0" * 64, source="f") == (whole, 2)


def test_threads_share_a_file_without_tearing(tmp_path: Path) -> None:
    """Eight threads of two writers on one file: every line is whole."""
    logs = [writer(tmp_path), writer(tmp_path, rank=1)]
    for log in logs:
        log.claim("a", 1)

    def write(log: TelemetryWriter) -> None:
        for step in range(50):
            log.emit("window", step=step, steps=1, samples=1, seconds=1.0)

    threads = [threading.Thread(target=write, args=(log,)) for log in logs for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    telemetry = read_telemetry(tmp_path)
    assert len(telemetry.events) == 400
    assert telemetry.damaged_lines == 0
    assert len(telemetry.files) == 1


def test_a_replaced_disk_starts_another_file(tmp_path: Path) -> None:
    """The node's successor does not overwrite, on the durable target, what its predecessor left."""
    first = writer(tmp_path / "old").path.name
    second = writer(tmp_path / "new").path.name
    assert first != second
    assert first.startswith("node-0000-")


def test_trouble_is_logged_once_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, a target that refuses and a malformed event are one warning each, never an exception."""

    class Refusing:
        calls = 0

        def put_bytes(self, key: str, data: bytes) -> None:
            Refusing.calls += 1
            raise ExternalServiceError("bucket is gone")

    log = writer(tmp_path)
    log.claim("a", 1)
    with caplog.at_level(logging.WARNING, logger="harness.telemetry"):
        for _ in range(3):
            log.emit("window", steps="many", samples=1, seconds=1.0)
            log.emit("no_such_event")
            assert log.upload(Refusing()) is False
        descriptor, log._descriptor = log._descriptor, 1_000_000  # a file that cannot be written
        for _ in range(3):
            log.emit("finished")
        log._descriptor = descriptor
    assert Refusing.calls == 3
    assert len(caplog.records) == 4
    assert all("training goes on" in record.message for record in caplog.records)


def test_the_uploader_copies_everything_before_it_closes(tmp_path: Path) -> None:
    """The last copy on the target equals the file."""
    stored: dict[str, bytes] = {}

    class Target:
        def put_bytes(self, key: str, data: bytes) -> None:
            stored[key] = data

    log = writer(tmp_path)
    log.claim("a", 1)
    uploader = BackgroundUploader(log, Target())
    for step in range(20):
        log.emit("window", step=step, steps=1, samples=1, seconds=1.0)
        uploader.request()
    assert uploader.close(10.0)
    assert stored == {f"telemetry/{log.path.name}": log.path.read_bytes()}


def test_copies_of_one_file_count_once(tmp_path: Path) -> None:
    """The node's file and its older copy from the durable target are the same events: the longer one is read."""
    log = writer(tmp_path / "node")
    log.claim("a", 1)
    log.emit("window", step=1, steps=1, samples=1, seconds=1.0)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / log.path.name).write_bytes(log.path.read_bytes())
    log.emit("window", step=2, steps=1, samples=1, seconds=1.0)
    assert [event.step for event in read_telemetry(tmp_path / "bucket", tmp_path / "node").events] == [1, 2]


def test_foreign_and_newer_files_are_refused_with_their_place(tmp_path: Path) -> None:
    """A whole line that is no event, or one of a newer version, names file and line."""
    with pytest.raises(InvalidInputError, match=r"f\.jsonl:2"):
        parse_lines(b"\n[1]\n", source="f.jsonl")
    with pytest.raises(InvalidInputError, match="upgrade"):
        parse_event(json.dumps({"schema_version": 99, "event": "window"}))
    with pytest.raises(InvalidInputError, match="existing file"):
        read_telemetry(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"node-\*\.jsonl"):
        read_telemetry(tmp_path)


def test_a_field_that_a_newer_writer_added_is_ignored() -> None:
    """Adding an optional field does not break older readers."""
    common = {"wall_time": 1.0, "monotonic_seconds": 1.0, "run_id": "r", "attempt_id": "a", "node": 0, "rank": 0}
    event = build_event("finished", {**common, "step": 3, "world_size": 1, "mood": "good"})
    assert event.step == 3
    assert "finished" in EVENT_NAMES


def test_measurement_has_mean_count_and_spread() -> None:
    """Sample standard deviation; nothing from nothing."""
    found = Measurement.of([1.0, 2.0, 3.0])
    assert found == Measurement(mean=2.0, n=3, standard_deviation=1.0, minimum=1.0, maximum=3.0)
    assert Measurement.of([]) is None


class History:
    """Writes the events of a small made-up run, with exact times."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(wall=1000.0)
        self.logs = [writer(folder, self.clock, node=node, rank=node) for node in (0, 1)]

    def start(self, attempt: str, generation: int, step: int, *, launch: str | None = None) -> None:
        for log in self.logs:
            log.claim(attempt, generation)
            log.emit("started", step=0, nodes=2, device="cpu", startup_seconds=10.0, launch_id=launch)
        self.clock.advance(2.0)
        for log in self.logs:
            log.emit("restored", step=step, checkpoint=f"step-{step}" if step else None)

    def window(self, step: int, *, steps: int, seconds: float, stall: float = 0.0) -> None:
        self.clock.advance(seconds)
        for log in self.logs:
            log.emit(
                "window", step=step, steps=steps, samples=steps * 4, seconds=seconds, stall_seconds=stall, loss=2.0
            )

    def durable(self, step: int) -> None:
        for log in self.logs:
            log.emit(
                "checkpoint_durable",
                step=step,
                checkpoint=f"step-{step}",
                stall_seconds=0.5,
                persist_seconds=3.0,
                checkpoint_bytes=1000,
            )


def test_the_summary_of_a_known_run_is_exact(tmp_path: Path) -> None:
    """Two attempts: a notice at step 10 (nothing lost), a silent loss at step 25 back to 20; every figure by hand."""
    run = History(tmp_path)
    run.start("a", 1, 0)  # 12 s to the first step
    run.window(10, steps=10, seconds=10.5, stall=0.5)
    run.logs[1].emit("notice", step=10, source="aws", seconds_left=100.0)
    run.durable(10)
    run.logs[1].emit("emergency_saved", step=10, durable=True, agreement_seconds=1.0, emergency_seconds=4.0)
    run.logs[0].emit("emergency_saved", step=10, durable=True, emergency_seconds=3.0)
    run.logs[0].emit("left", step=10, reason="below-minimum")
    run.logs[1].emit("left", step=10, reason="notice")
    run.start("b", 2, 10)
    run.window(20, steps=10, seconds=10.5, stall=0.5)
    run.durable(20)
    run.window(24, steps=4, seconds=4.0)
    run.logs[0].emit("left", step=25, reason="peer-lost")
    run.start("c", 3, 20)
    run.window(40, steps=20, seconds=20.0)
    run.logs[0].emit("finished", step=40, loss=1.5)
    summary = summarize_run(read_telemetry(tmp_path).events)
    assert [(a.start_step, a.last_step, a.end, a.lost_steps) for a in summary.attempts] == [
        (0, 10, "notice", 0),
        (10, 25, "peer-lost", 5),
        (20, 40, "finished", 0),
    ]
    profile = summary.profile
    assert (summary.executed_steps, profile.useful_steps, profile.lost_steps) == (45, 40, 5)
    assert (profile.notices, profile.notices_acted_on, profile.interruptions) == (1, 1, 2)
    assert profile.emergency_seconds == Measurement(mean=4.0, n=1, minimum=4.0, maximum=4.0)
    assert profile.startup_seconds is not None
    assert (profile.startup_seconds.mean, profile.startup_seconds.n) == (12.0, 3)
    assert profile.step_seconds is not None
    assert (profile.step_seconds.mean, profile.step_seconds.n) == (1.0, 4)
    assert profile.samples_per_second is not None
    assert profile.samples_per_second.mean == pytest.approx(4.0)
    assert profile.checkpoint_bytes is not None
    assert profile.checkpoint_bytes.n == 2
    # 3 × 2 s of restoring and 45 s of windows after the first launch began, 10 s before its first event.
    wall_seconds = 10.0 + 3 * 2.0 + 10.5 + 10.5 + 4.0 + 20.0
    assert profile.wall_hours * 3600 == pytest.approx(wall_seconds)
    assert profile.goodput == pytest.approx(40.0 / wall_seconds)
    assert summary.finished
    assert (summary.first_loss, summary.final_loss) == (2.0, 1.5)


def test_attempts_of_which_nobody_spoke_are_lost(tmp_path: Path) -> None:
    """All nodes gone at once leave no farewell: still an interruption, and the steps of the last window are lost."""
    run = History(tmp_path)
    run.start("a", 1, 0)
    run.window(10, steps=10, seconds=10.0)
    run.start("b", 2, 0)
    summary = summarize_run(read_telemetry(tmp_path).events)
    assert [(a.end, a.lost_steps, a.reclaimed_nodes) for a in summary.attempts] == [("lost", 10, 1), ("lost", 0, 1)]


@pytest.mark.parametrize(
    ("restarts", "before", "from_launch"),
    [("0", None, True), ("0", "another", True), ("0", "mine", False), ("1", "mine", False), ("1", None, False)],
    ids=["first launch", "launched again", "restarted for a newcomer", "restarted after a failure", "status lost"],
)
def test_only_a_launch_counts_from_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: str, before: str | None, from_launch: bool
) -> None:
    """torchrun counts no restart for a newcomer: five hours of training before it are no startup."""
    clock = FakeClock(wall=1e9)
    monkeypatch.setenv("HARNESS_LAUNCH_WALL_TIME", str(clock.wall() - 5 * 3600))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    monkeypatch.setattr("harness.attempt._process_start", lambda: clock.wall() - 7)
    emitted: dict[str, Any] = {}
    attempt = SimpleNamespace(
        leads_node=True,
        clock=clock,
        config=load_run_config(write_config(tmp_path)),
        placement=Placement(),
        device=SimpleNamespace(type="cpu"),
        launch_id="mine",
        previous_status=None if before is None else build_status("running", run_id="r", launch_id=before),
        telemetry=SimpleNamespace(emit=lambda _name, **fields: emitted.update(fields)),
    )
    Attempt._emit_started(attempt)  # type: ignore[arg-type]
    assert emitted["startup_seconds"] == pytest.approx(5 * 3600 if from_launch else 7)


def test_a_restart_for_a_newcomer_is_no_reclaim(tmp_path: Path) -> None:
    """SIGTERM from an agent that goes on with the same launch is a change of membership; else it is a notice."""
    run = History(tmp_path)
    run.start("a", 1, 0, launch="l1")
    run.window(10, steps=10, seconds=10.0)
    run.logs[0].emit("notice", step=10, source="sigterm", seconds_left=30.0)
    run.logs[0].emit("emergency_saved", step=10, durable=True, agreement_seconds=0.1, emergency_seconds=1.0)
    run.logs[0].emit("left", step=10, reason="notice")
    run.start("b", 2, 10, launch="l1")
    run.window(20, steps=10, seconds=10.0)
    run.logs[0].emit("notice", step=20, source="sigterm", seconds_left=30.0)
    run.logs[0].emit("left", step=20, reason="notice")
    run.start("c", 3, 20, launch="l2")
    run.logs[0].emit("finished", step=20)
    summary = summarize_run(read_telemetry(tmp_path).events)
    assert [(a.end, a.notices, a.reclaimed_nodes) for a in summary.attempts] == [
        ("re-forming", 0, 0),
        ("notice", 1, 1),
        ("finished", 0, 0),
    ]
    assert (summary.profile.notices, summary.profile.notices_acted_on, summary.profile.interruptions) == (1, 0, 1)
    assert summary.profile.emergency_seconds is None
