"""Outage of the survivor when one of two nodes goes: `harness launch` against plain torchrun at its defaults.

    python -m benchmarks outage [--repeats 3]

Two real agents on this machine, a directory each, a store of its own (`python -m harness rendezvous`).  Node 1 gets a
notice, or is killed with everything below it; what counts is the time until node 0 trains again, alone: from the
fault (the notice, the kill) to the end of its first telemetry window of two steps.  Alternating, in one run; medians.

    torchrun's defaults         plain torchrun without --rdzv-conf, whose agents do not leave the rendezvous
    harness.yaml's defaults     `python -m harness launch`
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
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

TRAIN = Path(__file__).resolve().parent / "tiny_training.py"
STEPS = ("1000000", "0.02")

UNAIDED = f"""
import runpy, sys
import harness.leaving
harness.leaving.leave_for_agent = lambda *_, **__: False
sys.argv = [{str(TRAIN)!r}, *sys.argv[1:]]
runpy.run_path({str(TRAIN)!r}, run_name="__main__")
"""
"""The same training, whose worker does not take its agent off torchrun's list."""

SETTINGS = ("torchrun's defaults", "harness.yaml's defaults")
LIMIT_SECONDS = 240.0


def outage(folder: Path, settings: str, *, notice: bool) -> float:
    """Seconds from the fault to the survivor's next steps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    document: dict[str, Any] = {
        "run_id": "outage",
        "torchrun": {"nnodes": "1:2", "rdzv_endpoint": f"localhost:{port}", "rdzv_conf": {"is_host": False}},
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
    unaided = folder / "unaided.py"
    unaided.write_text(UNAIDED, encoding="utf-8")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (folder / f"log-{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
                process_group=0,
            )
        started.append(process)
        return process

    def launch(node: int) -> subprocess.Popen[bytes]:
        if settings != SETTINGS[0]:
            return start("harness", "launch", str(config), "--node-rank", str(node), str(TRAIN), *STEPS)
        flags = ["--nnodes=1:2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-conf=is_host=0"]
        # Without restarts, and the variable below, torchrun does not come back at all.
        flags += ["--rdzv-id=outage", "--max-restarts=9"]
        environment = {"HARNESS_CONFIG": str(config), "HARNESS_NODE": str(node)}
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        return start("torch.distributed.run", *flags, str(unaided), *STEPS, **environment)

    try:
        start("harness", "rendezvous", "--port", str(port))
        nodes = [launch(node) for node in (0, 1)]
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
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args(arguments).repeats
    found: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="outage-") as folder:
        for repeat in range(repeats):
            for settings in SETTINGS:
                for notice in (False, True):
                    place = Path(folder) / f"{repeat}-{SETTINGS.index(settings)}-{int(notice)}"
                    found.setdefault((settings, notice), []).append(outage(place, settings, notice=notice))
    print(f"{'':24}  {'kill':>18}  {'notice':>18}")
    for settings in SETTINGS:
        cells = []
        for notice in (False, True):
            seconds = found[settings, notice]
            cells.append(f"{statistics.median(seconds):6.1f} s ({min(seconds):.1f}–{max(seconds):.1f})")
        print(f"{settings:24}  {cells[0]:>18}  {cells[1]:>18}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
