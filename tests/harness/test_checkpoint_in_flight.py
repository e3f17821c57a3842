"""Saves in flight: one at a time, of a copy; fenced by a newer attempt; what they leave is retained on both sides."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.checkpoint import Progress, claim_generation, open_target
from harness.checkpoint.faults import installed
from harness.clock import FakeClock
from harness.errors import ExternalServiceError, FencedError
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointSkipped, CheckpointStarted
from harness.telemetry.writer import TelemetryWriter
from tests.harness.checkpoint_support import RUN_ID, Events, Job, fresh, make_config, save_steps, single


def test_at_most_one_save_in_flight(tmp_path: Path, monkeypatch) -> None:
    """A periodic save that comes too early is skipped or waits, as configured; one for a notice always waits.

    Telemetry says which, and for how long.
    """
    for when_busy in ("skip", "wait"):
        config = make_config(tmp_path / when_busy, when_busy=when_busy)
        log = TelemetryWriter(tmp_path / when_busy / "telemetry", run_id=RUN_ID, node=0, rank=0, world_size=1)
        log.claim("attempt", 1)
        clock = FakeClock()
        job, checkpointer = Job(), single(config, clock=clock, on_event=log.on_event)
        checkpointer.restore(job.components)
        gate, is_over = threading.Event(), checkpointer._is_over

        def wait_seven_seconds(seconds: float, *, gate=gate, is_over=is_over, clock=clock, **how: bool) -> bool:
            clock.advance(7.0)
            gate.set()
            return is_over(seconds, **how)

        def hold(point: str, gate: threading.Event = gate) -> None:
            if point == "upload:before_manifest":
                assert gate.wait(30)

        with installed(hold):
            first = checkpointer.save(job.components, Progress(step=1))
            assert checkpointer.busy
            # The same step again is the same save, in flight or done.
            assert checkpointer.save(job.components, Progress(step=1), reason="notice") is first
            if when_busy == "skip":
                skipped = checkpointer.save(job.components, Progress(step=2))
                assert skipped.result(0).status == "skipped"
            monkeypatch.setattr(checkpointer, "_is_over", wait_seven_seconds)
            second = checkpointer.save(job.components, Progress(step=3), reason="notice")
            assert gate.is_set()
            assert first.result(0).durable
            assert second.result(30).durable
        assert checkpointer.save(job.components, Progress(step=3)) is second
        checkpointer.close()
        log.close()
        told = read_telemetry(log.path).events
        waits = {event.step: event.waited_seconds for event in told if isinstance(event, CheckpointStarted)}
        assert waits == {1: 0.0, 3: 7.0}
        skips = [(event.step, event.error) for event in told if isinstance(event, CheckpointSkipped)]
        assert skips == ([(2, "an earlier save is still in flight")] if when_busy == "skip" else [])


def test_an_upload_that_takes_longer_than_any_timeout_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    """A periodic save is left out, another one and `wait` wait for it and say so: none of them fails a healthy run."""
    job, checkpointer = Job(), single(make_config(tmp_path))
    checkpointer.restore(job.components)
    monkeypatch.setattr("harness.checkpoint.checkpointer._TELL_SECONDS", 0.01)
    monkeypatch.setattr(checkpointer, "_timeout_seconds", 0.02)
    gates = {1: threading.Event(), 3: threading.Event()}

    def hold(point: str) -> None:
        if point == "upload:before_manifest":
            assert checkpointer.latest is not None
            assert gates[checkpointer.latest.step].wait(30)

    told: list[str] = []

    def release_when_told_twice(record: logging.LogRecord) -> bool:
        told.append(record.getMessage())
        for step, gate in gates.items():
            if sum(f"waiting for step-{step:09d}-g0001 for" in line for line in told) >= 2:
                gate.set()
        return True

    logger = logging.getLogger("harness.checkpoint.checkpointer")
    logger.addFilter(release_when_told_twice)
    try:
        with installed(hold):
            first = checkpointer.save(job.components, Progress(step=1))
            left_out = checkpointer.save(job.components, Progress(step=2)).result(0)
            assert (left_out.status, left_out.error) == ("skipped", "an earlier save is still in flight after 0 s")
            checkpointer.save(job.components, Progress(step=3), reason="final")
            assert first.result(0).durable
            result = checkpointer.wait()
    finally:
        logger.removeFilter(release_when_told_twice)
    assert all(gate.is_set() for gate in gates.values())
    assert result is not None
    assert (result.step, result.durable) == (3, True)
    checkpointer.close()


def test_a_save_for_leaving_does_not_wait_for_retention(tmp_path: Path) -> None:
    job, checkpointer = Job(), single(make_config(tmp_path, keep_last=1))
    checkpointer.restore(job.components)
    assert checkpointer.save(job.components, Progress(step=1)).result(30).durable
    gate, held = threading.Event(), []

    def hold(point: str) -> None:
        if point == "retention:before_remote_delete" and not held:
            held.append(point)
            held.append(gate.wait(30))

    with installed(hold):
        assert checkpointer.save(job.components, Progress(step=2)).result(30).durable
        handle = checkpointer.save(job.components, Progress(step=3), reason="notice")
        assert handle.result(30).durable
        assert len(held) == 1, "retention has begun, and goes on"
        gate.set()
    checkpointer.close()


def test_the_state_is_copied_before_save_returns(tmp_path: Path) -> None:
    """Training changes the weights in place while the save is still being written: what was saved is the old state."""
    config = make_config(tmp_path)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    job.train(2)
    before, gate = job.fingerprint(), threading.Event()

    def hold(point: str) -> None:
        if point == "write:before_files":
            assert gate.wait(30)

    with installed(hold):
        handle = checkpointer.save(job.components, Progress(step=2))
        job.train(3)
        assert job.fingerprint() != before
        gate.set()
        assert handle.result(30).durable
    checkpointer.close()
    restored, again = fresh(config)
    assert restored is not None
    assert again.fingerprint() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.AdamW(parameters, amsgrad=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9, centered=True),
    ],
)
def test_the_memory_for_an_optimizers_state_is_taken_before_its_first_step(tmp_path: Path, make) -> None:
    """Where `prepare` took it is where the first save copies to: no fresh memory is touched then."""
    model = nn.Linear(1024, 1024)
    components = {"model": model, "optimizer": make(model.parameters())}
    checkpointer = single(make_config(tmp_path))
    checkpointer.prepare(components)
    assert checkpointer._buffers is not None
    before = checkpointer._buffers.address
    model(torch.ones(1, 1024)).sum().backward()
    components["optimizer"].step()
    for step in (1, 2):
        checkpointer.save(components, Progress(step=step))
        checkpointer.wait()
        assert checkpointer._buffers.address == before
    shard = tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "model" / "__0_0.distcp"
    assert shard.stat().st_size < 1.01 * 4 * 1024 * 1025  # the weights, and not the memory that they were copied to


def test_a_fenced_attempt_stops_itself(tmp_path: Path) -> None:
    config, events = make_config(tmp_path), Events()
    job, checkpointer = Job(), single(config, attempt="old", on_event=events)
    checkpointer.restore(job.components)
    assert claim_generation(open_target(config.checkpoint.remote), RUN_ID, "new") == 2
    result = checkpointer.save(job.components, Progress(step=1)).result(30)
    assert result.status == "fenced"
    assert "generation 2 was claimed by attempt new" in str(result.error)
    with pytest.raises(FencedError):
        checkpointer.save(job.components, Progress(step=2))
    assert not [path for path in (tmp_path / "bucket").rglob("*") if "step-" in path.name]


def test_a_checkpoint_published_behind_the_successors_back_is_void(tmp_path: Path) -> None:
    """An old attempt passes its check, is overtaken, and publishes: what it published is never restored."""
    config = make_config(tmp_path)
    prints = save_steps(config, 2)
    old_job, old = Job(), single(config, attempt="old")
    old.restore(old_job.components)
    old_job.train(3)
    overtaken = []

    def overtake(point: str) -> None:
        if point == "upload:before_manifest" and not overtaken:
            overtaken.append(point)
            # Between the old attempt's last check and its put, which is as close as it gets: let the check pass.
            restored, job = fresh(make_config(tmp_path / "elsewhere", str(tmp_path / "bucket")), attempt="new")
            assert restored is not None
            assert (restored.step, job.fingerprint()) == (2, prints[2])

    from harness.checkpoint import persist

    original = persist.check_fence
    try:
        persist.check_fence = lambda *_: None
        with installed(overtake):
            assert old.save(old_job.components, Progress(step=5)).result(30).durable
    finally:
        persist.check_fence = original
    assert overtaken
    old.close()
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config, attempt="newest")
    assert restored is not None
    assert (restored.step, job.fingerprint()) == (2, prints[2])
    assert "step-000000005-g0002: published after generation 3 had gone on from an older one" in restored.line


def test_retention_on_both_sides(tmp_path: Path) -> None:
    config = make_config(tmp_path, keep_last=2, keep_last_local=1)
    save_steps(config, 1, 2, 3, 4)
    local = sorted(path.name for path in (tmp_path / "node0" / RUN_ID).glob("step-*"))
    remote = sorted(path.name for path in (tmp_path / "bucket" / RUN_ID).glob("step-*"))
    assert local == ["step-000000004-g0001"]
    assert remote == ["step-000000003-g0001", "step-000000004-g0001"]


def test_local_retention_keeps_the_last_durable_one_while_the_bucket_is_gone(tmp_path: Path) -> None:
    """And what a fallback left behind, although its steps are higher, makes way for what the next attempt saves."""
    config = make_config(tmp_path, keep_last_local=1)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    assert checkpointer.save(job.components, Progress(step=1)).result(30).durable

    def refuse(point: str) -> None:
        if point == "upload:before_files":
            raise ExternalServiceError("the bucket is gone")

    with installed(refuse):
        for step in (2, 3, 4):
            assert checkpointer.save(job.components, Progress(step=step)).result(30).status == "failed"
    checkpointer.close()
    names = sorted(path.name for path in (tmp_path / "node0" / RUN_ID).glob("step-*"))
    assert names == ["step-000000001-g0001", "step-000000004-g0001"]
    (tmp_path / "node0" / RUN_ID / "step-000000004-g0001" / "part-00000.json").write_bytes(b"damaged")
    again = single(config)
    assert getattr(again.restore(job.components), "step", None) == 1
    assert again.save(job.components, Progress(step=2)).result(30).durable
    again.close()
    names = sorted(path.name for path in (tmp_path / "node0" / RUN_ID).glob("step-*"))
    assert names == ["step-000000002-g0002"]
