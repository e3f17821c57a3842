"""Outage of the survivor when one of two nodes goes: this project's rendezvous settings against torchrun's defaults.

    python -m benchmarks.outage

Two real agents on this machine, a directory each, a store of its own (`python -m harness rendezvous`).  Node 1 gets a
notice, or is killed with everything below it; what counts is the time until node 0 trains again, alone: from the
fault (the notice, the kill) to the end of its first telemetry window of two steps.  Once each, in one run.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from harness.fakes.position import StepWatcher
from harness.processes import kill_tree
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import Window

TRAIN = Path(__file__).resolve().parents[1] / "examples" / "train_gpt.py"
SMALL = [
    "--steps",
    "1000000",
    "--batch",
    "4",
    "--context",
    "16",
    "--channels",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--corpus-bytes",
    "20000",
]

SETTINGS: dict[str, dict[str, int]] = {
    "torchrun's defaults": {"last_call_timeout": 30, "keep_alive_interval": 5, "keep_alive_max_attempt": 3},
    "harness.yaml's defaults": {},
}
LIMIT_SECONDS = 180.0


def outage(folder: Path, rendezvous: dict[str, int], *, notice: bool) -> float:
    """Seconds from the fault to the survivor's next steps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    document: dict[str, Any] = {
        "run_id": "outage",
        "torchrun": {
            "nnodes": "1:2",
            "rdzv_endpoint": f"localhost:{port}",
            "rdzv_conf": {"is_host": False, **rendezvous},
        },
        "checkpoint": {
            "directory": str(folder / "node-{node}" / "checkpoints"),
            "remote": str(folder / "bucket"),
            "interval": {"steps": 50},
        },
        "notices": {
            "sources": [{"kind": "sigterm"}, {"kind": "file", "address": str(folder / "notice-{node}")}],
            "poll_seconds": 0.1,
            "emergency_budget_seconds": 20,
            "agreement_every_steps": 1,
        },
        "telemetry": {"directory": str(folder / "node-{node}" / "telemetry"), "window_steps": 2},
    }
    folder.mkdir(parents=True)
    config = folder / "harness.yaml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"log-{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                process_group=0,
            )
        started.append(process)
        return process

    try:
        start("rendezvous", "--port", str(port))
        nodes = [start("launch", str(config), "--node-rank", str(n), str(TRAIN), *SMALL) for n in (0, 1)]
        both = StepWatcher(folder / "node-1" / "telemetry")
        _until(lambda: both.step() >= 120, f"two nodes training; see {folder}")
        fault = time.time()
        if notice:
            (folder / "notice-1").write_text("", encoding="utf-8")
        else:
            kill_tree(nodes[1].pid)

        def alone() -> list[float]:
            events = read_telemetry(folder / "node-0" / "telemetry").events
            return [e.wall_time for e in events if isinstance(e, Window) and e.world_size == 1 and e.wall_time > fault]

        _until(lambda: bool(alone()), f"node 0 alone; see {folder}")
        return alone()[0] - fault
    finally:
        for process in started:
            kill_tree(process.pid)
            process.wait()


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {LIMIT_SECONDS:.0f} s")
        time.sleep(0.05)


def main(arguments: list[str]) -> None:
    """Print the table; there are no arguments."""
    del arguments
    with tempfile.TemporaryDirectory(prefix="outage-") as folder:
        print(f"{'':24}  {'kill':>8}  {'notice':>8}")
        for number, (name, rendezvous) in enumerate(SETTINGS.items()):
            found = [
                outage(Path(folder) / f"{number}-{int(notice)}", rendezvous, notice=notice) for notice in (False, True)
            ]
            print(f"{name:24}  {found[0]:6.1f} s  {found[1]:6.1f} s", flush=True)


if __name__ == "__main__":
    main([])
