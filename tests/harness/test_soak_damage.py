"""Counted damage to every file of a checkpoint: flipped bytes, truncations, swapped files.  All of it is detected."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.checkpoint.inspect import verify_checkpoints
from harness.checkpoint.next_loss import NextLoss, write_next_loss
from harness.checkpoint.targets import open_target
from harness.errors import SpotPlannerError
from tests.harness.checkpoint_support import RUN_ID, Job, make_config, save_steps, single
from tests.harness.soak_support import progress_printer

NEWEST, OLDER = "step-000000004-g0001", "step-000000002-g0001"
SEED = 20261124


@dataclass
class Damager:
    """Damages one file of the newest checkpoint (or swaps two), and puts it right again."""

    bucket: Path
    draw: random.Random

    def __post_init__(self) -> None:
        self.files = sorted(path for path in (self.bucket / RUN_ID / NEWEST).rglob("*") if path.is_file())
        self.intact = {path: path.read_bytes() for path in (self.bucket / RUN_ID).rglob("*") if path.is_file()}

    def flip(self) -> set[Path]:
        """One bit or more of one byte."""
        path = self.draw.choice(self.files)
        data = bytearray(self.intact[path])
        data[self.draw.randrange(len(data))] ^= self.draw.randrange(1, 256)
        path.write_bytes(data)
        return {path}

    def truncate(self) -> set[Path]:
        """Cut anywhere, down to nothing."""
        path = self.draw.choice(self.files)
        path.write_bytes(self.intact[path][: self.draw.randrange(len(self.intact[path]))])
        return {path}

    def swap(self) -> set[Path]:
        """With another file of the checkpoint, or with its counterpart in the older one; only if they differ."""
        while True:
            one = self.draw.choice(self.files)
            other = self.draw.choice(self.files)
            if self.draw.random() < 0.5:
                other = self.bucket / RUN_ID / OLDER / one.relative_to(self.bucket / RUN_ID / NEWEST)
            if other in self.intact and self.intact[one] != self.intact[other]:
                one.write_bytes(self.intact[other])
                other.write_bytes(self.intact[one])
                return {one, other}

    def repair(self, paths: set[Path]) -> None:
        for path in paths:
            path.write_bytes(self.intact[path])


def restores_nothing_wrong(root: Path, bucket: Path, prints: dict[int, str]) -> str:
    """Restore onto an empty node; what happened.  Never the newest, never a state that differs."""
    place = root / "restoring"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(bucket, place / "bucket")
    job = Job()
    try:
        restored = single(make_config(place)).restore(job.components)
    except SpotPlannerError:
        return "refused"
    assert restored is not None
    assert (restored.step, job.fingerprint()) == (2, prints[2]), restored.line
    return "the older one"


def soak(
    root: Path, rounds: int, restore_every: int, tell: Callable[[int, Counter[str]], None] = lambda *_: None
) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """(damages by kind and file, all detected; what restores did); `tell` gets how many so far, and those."""
    prints = save_steps(make_config(root), 2, 4)
    bucket = root / "bucket"
    for name in (OLDER, NEWEST):
        write_next_loss(open_target(bucket), NextLoss(run_id=RUN_ID, name=name, losses=(float(name[13]),)))
    damager = Damager(bucket, random.Random(SEED))
    detected: Counter[tuple[str, str]] = Counter()
    restores: Counter[str] = Counter()
    assert all(one.intact for one in verify_checkpoints(bucket))
    for number in range(rounds):
        for damage in (damager.flip, damager.truncate, damager.swap):
            touched = damage()
            names = {path.relative_to(bucket / RUN_ID).parts[0] for path in touched}
            found = {
                one.name
                for location in names
                for one in verify_checkpoints(bucket / RUN_ID / location)
                if not one.intact
            }
            assert found, f"{damage.__name__} of {touched} was not noticed"
            first = min(touched).relative_to(bucket / RUN_ID)
            detected[damage.__name__, "/".join(first.parts[1:])] += 1
            matters = not any(path.name in {"part-00000.json", "next-loss.json"} for path in touched)
            if number % restore_every == 0 and matters:
                restores[restores_nothing_wrong(root, bucket, prints)] += 1
            damager.repair(touched)
        if number % 500 == 499:
            tell(detected.total(), restores)
    assert all(one.intact for one in verify_checkpoints(bucket))
    return detected, restores


def test_a_sample_of_the_damage(memory_path: Path) -> None:
    detected, restores = soak(memory_path, 60, 20)
    assert detected.total() == 180
    assert restores.total() >= 3


@pytest.mark.soak
@pytest.mark.timeout(0)  # nothing here waits for anything
def test_ten_thousand_damages(memory_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say = progress_printer(capsys)
    detected, restores = soak(
        memory_path, 4000, 20, lambda found, done: say(f"{found} damages, all detected; restores: {dict(done)}")
    )
    kinds = ("flip", "truncate", "swap")
    files = sorted({path for _, path in detected})
    lines = [f"{'file (all damage detected)':<34}" + "".join(f"{kind:>10}" for kind in kinds)]
    lines += [f"{path:<34}" + "".join(f"{detected[kind, path]:>10}" for kind in kinds) for path in files]
    lines.append(f"{'in all':<34}" + "".join(f"{sum(detected[kind, path] for path in files):>10}" for kind in kinds))
    say("\n".join([*lines, f"restored onto an empty node while damaged: {dict(restores)}"]))
    assert detected.total() >= 10_000
    assert len(files) == 12
