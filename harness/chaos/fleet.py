"""Several nodes on one machine: each a `python -m harness launch` with a disk of its own and a metadata service."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.config import RunConfig
from harness.errors import SpotPlannerError
from harness.fakes import FakeAwsMetadata
from harness.processes import kill_tree
from harness.validation import parse


class ChaosError(SpotPlannerError):
    """The run did not come to where it could be interrupted, or did not end."""


def one_machine(
    config: RunConfig, folder: Path, *, nodes: int, interval_steps: int, port: int, metadata: str
) -> RunConfig:
    """`config` with what one machine must change: addresses, directories, and offsets that are steps."""
    document = config.model_dump(mode="json")
    for section, changes in one_machine_changes(folder, nodes, interval_steps, port, metadata).items():
        document[section].update(changes)
    return parse(RunConfig, document, source="chaos")


def one_machine_changes(
    folder: Path, nodes: int, interval_steps: int, port: int, metadata: str
) -> dict[str, dict[str, Any]]:
    """By section; everything else stays as the config says."""
    return {
        "torchrun": {"nnodes": str(nodes), "nproc_per_node": 1, "rdzv_endpoint": f"localhost:{port}"},
        "checkpoint": {
            "directory": str(folder / "node-{node}" / "checkpoints"),
            "remote": str(folder / "bucket"),
            "s3_endpoint_url": None,
            "s3_sse": None,
            "s3_kms_key_id": None,
            # In steps, and never skipped: so the most that a kill may cost is a number.
            "interval": {"steps": interval_steps, "seconds": None},
            "when_busy": "wait",
        },
        "notices": {
            "sources": [{"kind": "sigterm"}, {"kind": "aws", "address": metadata}],
            "poll_seconds": 0.2,
            "agreement_every_steps": 1,
        },
        "data": {"ledger": True},
        "telemetry": {"directory": str(folder / "node-{node}" / "telemetry"), "window_steps": 1},
    }


def write_config(config: RunConfig, path: Path) -> None:
    """As YAML; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_bind(port: int) -> bool:
    """Whether nobody listens on `port` of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def open_metadata(nodes: int) -> tuple[str, list[FakeAwsMetadata]]:
    """A service per node, and the address that ``{node}`` completes."""
    for _ in range(200):
        prefix = 1100 + secrets.randbelow(1800)
        services: list[FakeAwsMetadata] = []
        try:
            for node in range(nodes):
                services.append(FakeAwsMetadata(prefix * 10 + node))  # noqa: PERF401  each one opened must be closed
        except SpotPlannerError:  # somebody has that port
            for service in services:
                service.close()
            continue
        return f"http://127.0.0.1:{prefix}{{node}}", services
    raise ChaosError("no neighbouring free ports on this machine")


@dataclass
class Node:
    """One node: its disk, and the launch that runs on it."""

    number: int
    folder: Path
    command: Sequence[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    launches: int = 0
    gone: bool = False
    """The provider took it: the next launch is on another machine."""

    @property
    def disk(self) -> Path:
        """What is lost with the node."""
        return self.folder / f"node-{self.number}"

    @property
    def code(self) -> int | None:
        """Exit code of the newest launch; None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def start(self) -> None:
        """Launch on this node; a node that is gone is replaced by one with an empty disk."""
        if self.gone:
            shutil.rmtree(self.disk, ignore_errors=True)
            self.gone = False
        self.launches += 1
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def kill(self) -> None:
        """As a machine that is switched off, and its disk with it."""
        assert self.process is not None
        if self.process.poll() is None:
            kill_tree(self.process.pid)
            self.process.wait()
        self.gone = True

    def terminate(self) -> None:
        """SIGTERM to the launch, where it still runs."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Nothing of it is left running."""
        if self.process is not None and self.process.poll() is None:
            kill_tree(self.process.pid)
            self.process.wait()


def launch_command(config: Path, node: int | None, script: Path, arguments: Sequence[str]) -> list[str]:
    """`python -m harness launch` on one node."""
    rank = [] if node is None else ["--node-rank", str(node)]
    return [sys.executable, "-m", "harness", "launch", str(config), *rank, str(script), *arguments]


def wait_until(condition: Callable[[], bool], what: str, limit_seconds: float) -> None:
    """ChaosError when `condition` has not come true in time."""
    pause = threading.Event()
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            raise ChaosError(f"{what}: not within {limit_seconds:.0f} s")
        pause.wait(0.05)
