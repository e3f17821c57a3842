"""Counted SIGKILLs at every enumerated point of save, upload, publish, retention and restore, one run after the other.

Each attempt is a process forked from this warm one: it restores, proves that its state is the uninterrupted run's at
that step, byte for byte, trains and saves every step, and dies at its point.  The next attempt goes on from what it
left, on the same disk or on an empty one.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.checkpoint import Progress
from harness.checkpoint.faults import POINTS, installed, kill_at
from tests.harness.checkpoint_support import Job, fork_ranks, make_config, single
from tests.harness.soak_support import progress_printer

STEPS_PER_ATTEMPT = 3
LOST_STEPS_BOUND = 1
"""Every step is saved and waited for: at most the one whose save was under way is lost."""
VARIANTS = (("kept", 1), ("gone", 1), ("kept", 2))
"""(the node's disk after the death, which time that the point is reached)."""
STUCK_AFTER_SECONDS = 300
"""Without a new line in the ledger, or another point reached: on a busy machine an attempt may take minutes in all."""


class Ledger:
    """What attempts say about themselves, in a file that survives their death: ``trained 7``, ``durable 6``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, what: str, step: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{what} {step}\n".encode())
        os.close(descriptor)

    def length(self) -> int:
        """Grows with every line: a sign of life."""
        return self._path.stat().st_size if self._path.exists() else 0

    def last(self, what: str) -> int:
        """The highest step that was said of `what`; 0 when none was."""
        words = [line.split() for line in self._path.read_text().splitlines()] if self._path.exists() else []
        return max((int(step) for said, step in words if said == what), default=0)


@functools.cache
def uninterrupted(steps: int) -> dict[int, str]:
    """Fingerprints of the job after each step of a run that is never killed."""

    def train(_: int) -> dict[int, str]:
        job, prints = Job(), {}
        prints[0] = job.fingerprint()
        for step in range(1, steps + 1):
            job.train(1)
            prints[step] = job.fingerprint()
        return prints

    return fork_ranks(1, train)[0]


def attempt(_: int, root: Path, prints: Mapping[int, str], point: str | None, occurrence: int) -> int:
    """Restore, check, train and save, and die at `point`; the step that was reached without dying."""
    ledger = Ledger(root / "ledger")

    def note(name: str, fields: Mapping[str, object]) -> None:
        if name == "checkpoint_durable":
            ledger.say("durable", int(str(fields["step"])))

    def run() -> int:
        config = make_config(root, keep_last=1, keep_last_local=1)
        job, checkpointer = Job(), single(config, on_event=note)
        restored = checkpointer.restore(job.components)
        step = restored.step if restored else 0
        line = restored.line if restored else "nothing"
        assert job.fingerprint() == prints[step], f"restored {line}: not the state of step {step}"
        assert step >= ledger.last("durable"), f"restored {line}, though step {ledger.last('durable')} was durable"
        assert ledger.last("trained") - step <= LOST_STEPS_BOUND, f"restored {line}: more than the bound is lost"
        for _ in range(STEPS_PER_ATTEMPT if point is not None else 0):
            job.train(1)
            step += 1
            ledger.say("trained", step)
            checkpointer.save(job.components, Progress(step=step))
            checkpointer.wait()
        checkpointer.close()
        return step

    if point is None:
        return run()
    reached = itertools.count(1)
    with installed(lambda _: ledger.say("reached", next(reached))), installed(kill_at(point, occurrence)):
        return run()


def soak(
    root: Path,
    runs: int,
    variants: tuple[tuple[str, int], ...],
    tell: Callable[[Counter[str], Counter[str]], None] = lambda *_: None,
) -> tuple[Counter[str], Counter[str]]:
    """(deaths by point, attempts that outlived theirs by point) over `runs` runs; `tell` gets both after each run."""
    schedule = list(itertools.product(variants, POINTS))
    prints = uninterrupted(STEPS_PER_ATTEMPT * (len(schedule) + 2))
    deaths: Counter[str] = Counter()
    outlived: Counter[str] = Counter()
    for number in range(runs):
        place = root / f"run-{number}"
        place.mkdir()
        fork_ranks(1, attempt, place, prints, "save:staged", 99)  # nobody dies: a first checkpoint is there
        for (disk, occurrence), point in schedule:
            if point == "restore:between_files":
                shutil.rmtree(place / "node0", ignore_errors=True)  # it is passed only when something is fetched
            ended = fork_ranks(
                1, attempt, place, prints, point, occurrence,
                timeout_seconds=STUCK_AFTER_SECONDS, sign_of_life=Ledger(place / "ledger").length,
            )[0]  # fmt: skip
            (deaths if ended == "signal 9" else outlived)[point] += 1
            if disk == "gone":
                shutil.rmtree(place / "node0", ignore_errors=True)
        fork_ranks(1, attempt, place, prints, None, 0)
        shutil.rmtree(place)
        tell(deaths, outlived)
    return deaths, outlived


def table(deaths: Counter[str], outlived: Counter[str]) -> str:
    """One line a point."""
    lines = [f"{'point':<34}{'SIGKILLs':>9}{'outlived':>9}"]
    lines += [f"{point:<34}{deaths[point]:>9}{outlived[point]:>9}" for point in POINTS]
    return "\n".join([*lines, f"{'in all':<34}{deaths.total():>9}{outlived.total():>9}"])


def test_a_sample_of_the_kills(memory_path: Path) -> None:
    """Each point once, in one run, on alternating disks."""
    deaths, outlived = soak(memory_path, 1, (("gone", 1),))
    assert deaths == dict.fromkeys(POINTS, 1)
    assert not outlived


@pytest.mark.soak
@pytest.mark.timeout(0)  # an attempt without a sign of life ends it
def test_a_thousand_kills(memory_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never a run that cannot resume, a state that differs, or more lost than the bound: `attempt` asserts each."""
    say = progress_printer(capsys)
    deaths, outlived = soak(
        memory_path,
        18,
        VARIANTS,
        lambda deaths, outlived: say(f"{deaths.total()} SIGKILLs, {outlived.total()} attempts outlived their point"),
    )
    say(table(deaths, outlived))
    assert deaths.total() >= 1000
    assert min(deaths[point] for point in POINTS) >= 18 * 2
