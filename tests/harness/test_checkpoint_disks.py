"""Disks that are really full or read-only, a node's own and the durable directory's: training goes on, nothing is lost.

A file system of a few MiB in memory where this process may mount one; where it may not, a limit on the size of files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint import Progress
from harness.checkpoint.backoff import LONGEST_SECONDS, BackOff
from harness.checkpoint.inspect import verify_checkpoints
from harness.clock import FakeClock
from harness.telemetry.reader import read_telemetry
from harness.telemetry.writer import TelemetryWriter
from tests.harness.checkpoint_support import RUN_ID, Events, Job, fork_ranks, make_config, single
from tests.requirements import missing

WIDTH = 20_000
"""About 1.4 MB of state: a disk of 6 MiB takes three, retention included."""
DISK = "size=6m"


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own at `path`; where this process may not mount one the test is skipped (in CI: fails)."""
    path.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", path], check=False, capture_output=True)
    if done.returncode != 0:
        missing(f"cannot mount a file system (needs root): {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> None:
    """Take all that the file system at `path` has left."""
    with (path / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def read_only(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", path], check=True)


TROUBLES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any], str]] = {
    "full": (fill, lambda path: (path / "ballast").unlink(), os.strerror(errno.ENOSPC)),
    "read-only": (lambda path: read_only(path, "ro"), lambda path: read_only(path, "rw"), os.strerror(errno.EROFS)),
}


@pytest.mark.root
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("place", ["node0", "bucket"])
def test_a_disk_that_refuses(tmp_path: Path, place: str, trouble: str) -> None:
    """Each failed save is an event; the last good one stays; saves are tried less often, and succeed once they can."""
    begin, end, complaint = TROUBLES[trouble]
    disk = tmp_path / place
    with small_disk(disk):
        config, clock, events = make_config(tmp_path, keep_last=1, keep_last_local=1), FakeClock(), Events()
        job, checkpointer = Job(width=WIDTH), single(config, clock=clock, on_event=events)
        checkpointer.restore(job.components)

        def save(step: int, reason: str = "periodic") -> tuple[str, bool]:
            job.train(1)
            result = checkpointer.save(job.components, Progress(step=step), reason=reason).result(30)
            return result.status, result.local

        assert save(1) == ("durable", True)
        begin(disk)
        on_the_node = place == "bucket"
        assert [save(step) for step in (2, 3, 4)] == [("failed", on_the_node)] * 3
        assert save(5) == ("skipped", False)
        # What will not be followed by another save is tried all the same.
        assert save(6, reason="notice") == ("failed", on_the_node)
        failures = [fields for name, fields in events.seen if name == "checkpoint_failed"]
        assert [failure["failures_in_a_row"] for failure in failures] == [1, 2, 3, 4]
        assert all(complaint in str(failure["error"]) for failure in failures)
        skipped = dict(events.seen)["checkpoint_skipped"]
        assert "the last 3 saves failed" in str(skipped["error"])
        good = [one for one in verify_checkpoints(tmp_path / "bucket") if one.state == "complete"]
        assert [(one.name, one.intact) for one in good] == [("step-000000001-g0001", True)]

        end(disk)
        clock.advance(LONGEST_SECONDS)
        assert save(7) == ("durable", True)
        checkpointer.close()
        # Nothing is left of the saves that failed.
        assert {path.name for path in (tmp_path / "bucket" / RUN_ID).glob("step-*")} == {"step-000000007-g0001"}
        assert [path.name for path in (tmp_path / "node0" / RUN_ID).glob("*step-*")] == ["step-000000007-g0001"]
        fingerprint, fresh = job.fingerprint(), Job(width=WIDTH)
        restored = single(config).restore(fresh.components)
        assert restored is not None
        assert (restored.step, fresh.fingerprint()) == (7, fingerprint)


def test_a_file_that_may_not_grow_fails_the_save_only(tmp_path: Path) -> None:
    """A limit on the size of files, as a quota: needs no rights, so it is tried everywhere."""

    def main(_: int) -> tuple[Any, str, str]:
        config, events = make_config(tmp_path), Events()
        job, checkpointer = Job(width=WIDTH), single(config, on_event=events)
        checkpointer.restore(job.components)
        statuses = []
        for step, limit in enumerate([resource.RLIM_INFINITY, 65_536, resource.RLIM_INFINITY], start=1):
            job.train(1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            statuses.append(checkpointer.save(job.components, Progress(step=step)).result(30).status)
        checkpointer.close()
        return statuses, str(dict(events.seen)["checkpoint_failed"]["error"]), job.fingerprint()

    statuses, complaint, fingerprint = fork_ranks(1, main)[0]
    assert statuses == ["durable", "failed", "durable"]
    assert os.strerror(errno.EFBIG) in complaint
    job = Job(width=WIDTH)
    restored = single(make_config(tmp_path)).restore(job.components)
    assert restored is not None
    assert (restored.step, job.fingerprint()) == (3, fingerprint)


@pytest.mark.root
def test_telemetry_of_a_full_disk_comes_when_there_is_room(tmp_path: Path) -> None:
    """Nothing that happened meanwhile is missing, and no line is spoilt by the one that was cut short."""
    disk = tmp_path / "disk"
    with small_disk(disk):
        log = TelemetryWriter(disk, run_id="r", node=0, rank=0, world_size=1)
        log.claim("a", 1)
        log.emit("window", step=0, steps=1, samples=1, seconds=1.0)
        fill(disk)
        for step in range(1, 100):  # what is left of the file's last block takes some of them
            log.emit("window", step=step, steps=1, samples=1, seconds=1.0)
        assert log.path.stat().st_size % 4096 == 0
        (disk / "ballast").unlink()
        log.emit("finished", step=100)
        log.close()
        told = read_telemetry(disk)
        assert [event.step for event in told.events] == list(range(101))
        assert told.damaged_lines <= 1


def test_saves_that_fail_are_tried_less_and_less_often() -> None:
    """Two failures change nothing; then as long as the failure took, doubling, up to a quarter of an hour."""
    back_off, waits = BackOff(), []
    for number in range(14):
        back_off.failed(100.0 * number, 3.0)
        waits.append(back_off.seconds_left(100.0 * number))
    assert waits[:5] == [0.0, 0.0, 3.0, 6.0, 12.0]
    assert waits[-1] == LONGEST_SECONDS
    assert back_off.seconds_left(1300.0 + LONGEST_SECONDS) == 0.0
    back_off.succeeded()
    assert (back_off.failures, back_off.seconds_left(0.0)) == (0, 0.0)
