"""SIGKILL at every enumerated point of save, upload, publish, retention and restore: the run can always go on.

Each death happens in a process forked from this one, and each test asserts that the process died of it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint.faults import POINTS, installed, kill_at
from tests.harness.checkpoint_support import Job, fork_ranks, make_config, save_steps, single

SAVE_POINTS = tuple(point for point in POINTS if not point.startswith("restore:"))
RESTORE_POINTS = tuple(point for point in POINTS if point.startswith("restore:"))
WHOLE_ON_THIS_DISK = SAVE_POINTS[SAVE_POINTS.index("local:after_rename") :]
DURABLE = SAVE_POINTS[SAVE_POINTS.index("upload:after_manifest") :]
OPTIONS: dict[str, Any] = {"keep_last": 1, "keep_last_local": 1}


def in_child(work: Callable[[], Any], point: str | None = None) -> Any:
    """`work` in a forked process, killed at `point`."""

    def main(_: int) -> Any:
        if point is None:
            return work()
        with installed(kill_at(point)):
            return work()

    return fork_ranks(1, main)[0]


def restore(root: Path) -> tuple[int, str, str]:
    """(step, fingerprint, line) of what a new attempt restores."""
    job, checkpointer = Job(), single(make_config(root, **OPTIONS))
    restored = checkpointer.restore(job.components)
    checkpointer.close()
    assert restored is not None
    return restored.step, job.fingerprint(), restored.line


@pytest.fixture(scope="module")
def two_saves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """A run's directories after durable saves at steps 2 and 3, and its states at 2, 3 and (to come) 5."""
    root = tmp_path_factory.mktemp("run")
    prints = in_child(lambda: save_steps(make_config(root, **OPTIONS), 2, 3))
    later = tmp_path_factory.mktemp("later")
    prints |= in_child(lambda: save_steps(make_config(later), 3, 5))
    return root, prints


@pytest.mark.parametrize("point", SAVE_POINTS)
def test_killed_while_saving(tmp_path: Path, two_saves: tuple[Path, dict[int, str]], point: str) -> None:
    """The last whole one is restored: the new one once published on this disk (for all, when this disk is gone)."""
    root, prints = two_saves
    for disk in ("kept", "gone"):
        copy = tmp_path / disk
        shutil.copytree(root, copy)
        assert in_child(lambda copy=copy: continue_to(copy, 5), point) == "signal 9"
        if disk == "gone":
            shutil.rmtree(copy / "node0")
        step, fingerprint, line = in_child(lambda copy=copy: restore(copy))
        assert step == (5 if point in (WHOLE_ON_THIS_DISK if disk == "kept" else DURABLE) else 3), line
        assert fingerprint == prints[step]
        # Whatever the death left behind, the run goes on, and tidies up.
        assert in_child(lambda copy=copy: continue_to(copy, 7)) == "durable"
        assert len(list((copy / "bucket").glob("*/step-*"))) == 1
        assert len(list((copy / "node0").glob("*/*step-*"))) == 1


def continue_to(root: Path, step: int) -> str:
    """A new attempt: restore, train up to `step`, save."""
    from harness.checkpoint import Progress

    job, checkpointer = Job(), single(make_config(root, **OPTIONS))
    restored = checkpointer.restore(job.components)
    assert restored is not None
    job.train(step - restored.step)
    result = checkpointer.save(job.components, Progress(step=step)).result(30)
    checkpointer.close()
    return result.status


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_killed_while_restoring(tmp_path: Path, two_saves: tuple[Path, dict[int, str]], point: str) -> None:
    """The next attempt restores the same, and nothing of the interrupted one stays on the disk."""
    root, prints = two_saves
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "node0")  # everything has to be fetched
    assert in_child(lambda: restore(tmp_path / "copy"), point) == "signal 9"
    step, fingerprint, _ = in_child(lambda: restore(tmp_path / "copy"))
    assert (step, fingerprint) == (3, prints[3])
    assert [path.name for path in (tmp_path / "copy" / "node0" / "demo").iterdir()] == ["generations"]


def test_two_live_incarnations_race_and_the_newer_one_wins(tmp_path: Path) -> None:
    """The old one, overtaken while it saves as fast as it can, stops itself, saying why.

    What is restored afterwards is the newer one's last checkpoint, byte for byte.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.harness.live_incarnation", str(number), str(tmp_path)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    ended = []
    try:
        for number, process in enumerate(processes):
            told, complained = process.communicate(timeout=200)
            assert process.returncode == 0, f"incarnation {number} ended with {process.returncode}:\n{complained}"
            ended.append(json.loads(told))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    (old_saves, old_end), (new_saves, new_end) = ended
    assert "generation 2 was claimed by attempt incarnation-1" in old_end
    assert len(old_saves) >= 2
    assert new_end == "done"
    assert len(new_saves) == 5
    job = Job()
    restored = single(make_config(tmp_path / "third", str(tmp_path / "bucket"))).restore(job.components)
    assert restored is not None
    assert [restored.step, job.fingerprint()] == new_saves[-1]
    assert restored.generation == 2
