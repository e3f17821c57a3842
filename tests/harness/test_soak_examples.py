"""Each example under a real torchrun with two workers, one of which is killed: `make soak`, about two minutes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.fakes.position import StepWatcher
from harness.ledger import prove
from harness.processes import descendants
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import Restored
from tests.harness.run_support import LIBRARY_SMALL, ROOT, write_config
from tests.harness.test_launch import until

STEPS = 100


def run(folder: Path, script: str, *, kill_at: int | None) -> dict[str, Any]:
    """Train below `folder`; what the script wrote as its result."""
    config = write_config(folder, checkpoint={"interval": {"steps": 10}}, data={"ledger": True})
    result = folder / "result.json"
    with (folder / "log").open("wb") as log:
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3",
             str(ROOT / "examples" / f"{script}.py"), "--steps", str(STEPS), *LIBRARY_SMALL, "--dropout", "0.1",
             "--output", str(folder / "output"), "--result", str(result)],
            stdout=log, stderr=subprocess.STDOUT,
            # torchrun as it is by default: its agent's store outlives the workers (harness/environment.py).
            env=os.environ | {"HARNESS_CONFIG": str(config), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if kill_at is not None:
            watch = StepWatcher(folder / "node-0" / "telemetry")
            until(f"step {kill_at}", lambda: watch.step() >= kill_at, torchrun)
            workers = [pid for pid in descendants(torchrun.pid) if f"{script}.py" in command(pid)]
            assert len(workers) == 2, (folder / "log").read_text()
            os.kill(workers[1], signal.SIGKILL)
        code = torchrun.wait(180.0)
    assert code == 0, (folder / "log").read_text()
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.soak
@pytest.mark.parametrize("script", ["train_gpt", "train_amp", "train_fsdp2", "train_lightning", "train_huggingface"])
def test_a_killed_worker_under_torchrun(tmp_path: Path, script: str) -> None:
    """torchrun starts both workers again; they go on from a checkpoint and end with the uninterrupted run's weights."""
    whole = run(tmp_path / "whole", script, kill_at=None)
    cut = run(tmp_path / "cut", script, kill_at=30)
    assert cut["weights_sha256"] == whole["weights_sha256"]
    restored = [event.step for event in read_telemetry(tmp_path / "cut").events if isinstance(event, Restored)]
    assert len(restored) == 2
    assert restored[1] >= 10
    proof = prove([tmp_path / "cut"])
    assert proof.proven, proof.problems
    assert proof.steps == STEPS
