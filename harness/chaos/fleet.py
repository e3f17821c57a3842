"""The nodes of a chaos run: each a `python -m harness launch` with a disk of its own, and the store where they meet."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.chaos.network import ChaosError, Network, free_port
from harness.config import RunConfig
from harness.errors import EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE
from harness.fakes.position import StepWatcher
from harness.processes import die_with_parent, kill_tree
from harness.status import Status, read_status
from harness.validation import parse

LIMIT_SECONDS = 300.0
_MOST_LAUNCHES = 50
"""Of one node: more means that it does not get anywhere."""


@dataclass(frozen=True)
class Shape:
    """How many nodes, and what runs on them."""

    minimum: int
    maximum: int
    script: Path
    arguments: Sequence[str]
    interval_steps: int

    @property
    def elastic(self) -> bool:
        """The others go on when a node is lost."""
        return self.minimum < self.maximum


def one_machine(
    config: RunConfig, shape: Shape, folder: Path, bucket: Path, *, endpoint: str, metadata: str, external_store: bool
) -> RunConfig:
    """`config` with what one machine must change: addresses, directories, and offsets that are steps."""
    document = config.model_dump(mode="json")
    nnodes = f"{shape.minimum}:{shape.maximum}" if shape.elastic else str(shape.maximum)
    changes: dict[str, dict[str, Any]] = {
        "torchrun": {
            "nnodes": nnodes,
            "nproc_per_node": 1,
            "rdzv_endpoint": endpoint,
            "rdzv_conf": {**document["torchrun"]["rdzv_conf"], "is_host": False if external_store else None},
        },
        "checkpoint": {
            "directory": str(folder / "node-{node}" / "checkpoints"),
            "remote": str(bucket),
            "s3_endpoint_url": None,
            "s3_sse": None,
            "s3_kms_key_id": None,
            # In steps, and never skipped: so the most that a kill may cost is a number.
            "interval": {"steps": shape.interval_steps, "seconds": None},
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
    for section, values in changes.items():
        document[section].update(values)
    return parse(RunConfig, document, source="chaos")


def write_config(config: RunConfig, path: Path) -> None:
    """As YAML; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


@dataclass
class Node:
    """One node: its disk, and the launch that runs on it."""

    number: int
    disk: Path
    """What is lost with the node."""
    command: Sequence[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    """None: the node is not there."""
    launches: int = 0
    launched_at: float = 0.0
    """When the newest launch was started, in seconds since the Unix epoch."""
    due_step: int | None = None
    """It is not there, and its replacement comes when the fleet has reached this step."""
    silent: bool = False
    """Its link is cut."""
    _watcher: StepWatcher | None = None

    @property
    def code(self) -> int | None:
        """Exit code of the newest launch; None while it runs, or without one."""
        return None if self.process is None else self.process.poll()

    @property
    def running(self) -> bool:
        """A launch runs on it."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the launch that runs."""
        return self.process.pid if self.process is not None and self.running else None

    def step(self) -> int:
        """The furthest step in its telemetry; −1 before the first."""
        if self._watcher is None:
            self._watcher = StepWatcher(self.disk / "telemetry")
        return self._watcher.step()

    def status(self) -> Status | None:
        """What its newest attempt says about itself."""
        return read_status(self.disk / "telemetry")

    def last_words(self) -> str | None:
        """The last line that the harness has written on it, without its prefix."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        found = [line for line in lines if line.startswith(("[harness ", "harness: "))]
        return re.sub(r"^(\[harness [^]]*\]|harness:) ", "", found[-1]) if found else None

    def trained(self) -> bool:
        """Whether the newest launch has come as far as to train."""
        status = self.status()
        return status is not None and status.wall_time >= self.launched_at

    def start(self) -> None:
        """Launch on this node."""
        self.launches += 1
        if self.launches > _MOST_LAUNCHES:
            raise ChaosError(f"node {self.number} was launched {_MOST_LAUNCHES} times; see {self.log}")
        self.due_step, self.launched_at = None, time.time()
        self.process = start_process(self.command, self.log, self.environment)

    def lose(self) -> None:
        """As a machine that is switched off, and its disk with it."""
        self.close()
        self.process, self._watcher = None, None
        shutil.rmtree(self.disk, ignore_errors=True)

    def terminate(self) -> None:
        """SIGTERM to the launch, where it still runs."""
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Nothing of it is left running."""
        if self.process is not None and self.running:
            kill_tree(self.process.pid)
            self.process.wait()


def start_process(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """In a group of its own (a Ctrl-C is for this process), told to end when this process is killed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_end_with_this,  # noqa: PLW1509  no other thread holds a lock that the child needs
        )


def _end_with_this() -> None:
    die_with_parent(signal.SIGTERM)


class Fleet:
    """One launch of the job on all nodes.  `folder` holds the nodes' disks, `bucket` is the durable target.

    An elastic fleet has its store beside the nodes; the store of a rigid one runs on node 0.
    """

    def __init__(self, config: RunConfig, shape: Shape, folder: Path, bucket: Path, logs: Path, network: Network):
        self.shape, self.network, self.folder, self._logs = shape, network, folder, logs
        self.port = free_port()
        self.store: subprocess.Popen[bytes] | None = None
        host = network.store_host if shape.elastic else network.node_host(0)
        self.config = one_machine(
            config,
            shape,
            folder,
            bucket,
            endpoint=f"{host}:{self.port}",
            metadata=network.metadata_address,
            external_store=shape.elastic,
        )
        self.config_path = folder / "harness.yaml"
        write_config(self.config, self.config_path)
        self.nodes = [self._node(number) for number in range(shape.maximum)]

    def _node(self, number: int) -> Node:
        command = launch_command(
            self.config_path,
            self.shape,
            ["--node-rank", str(number), *self.network.flags(number)],
        )
        return Node(
            number,
            self.folder / f"node-{number}",
            self.network.command(number, command),
            self._logs / f"node-{number}.log",
            self.network.environment(number),
        )

    def start_store(self) -> None:
        """Of an elastic fleet."""
        if self.shape.elastic:
            command = [sys.executable, "-m", "harness", "rendezvous", "--port", str(self.port)]
            self.store = start_process(command, self._logs / "store.log", {})

    def step(self) -> int:
        """The furthest step of any node."""
        return max(node.step() for node in self.nodes)

    def over(self) -> bool:
        """Somebody has finished, or nothing runs any more and nobody will start it again."""
        if any(node.code == EXIT_DONE for node in self.nodes):
            return True
        return not self.shape.elastic and not any(node.running for node in self.nodes)

    def tend(self) -> None:
        """What a job manager does for an elastic fleet: replacements, and launches that ended with 75 again."""
        if not self.shape.elastic or any(node.code == EXIT_DONE for node in self.nodes):
            return
        for node in self.nodes:
            if node.silent or node.running:
                continue
            if node.process is None:
                too_few = sum(other.running for other in self.nodes) < self.shape.minimum
                if node.due_step is not None and (too_few or self.step() >= node.due_step):
                    node.start()
            elif node.code == EXIT_INTERRUPTED_RESUMABLE:
                node.start()
            else:
                raise ChaosError(f"node {node.number} ended with {node.code}, not resumable; see {node.log}")

    def wait(self, condition: Callable[[], bool], what: str, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Tend the fleet until `condition` comes true; ChaosError when it has not in time."""

        def tended() -> bool:
            if condition():
                return True
            self.tend()
            return False

        wait_until(tended, what, limit_seconds)

    def close(self) -> None:
        """Nothing of it is left running."""
        for node in self.nodes:
            node.close()
        if self.store is not None and self.store.poll() is None:
            kill_tree(self.store.pid)
            self.store.wait()


def launch_command(config: Path, shape: Shape, flags: Sequence[str]) -> list[str]:
    """`python -m harness launch` on one node."""
    return [sys.executable, "-m", "harness", "launch", str(config), *flags, str(shape.script), *shape.arguments]


def wait_until(condition: Callable[[], bool], what: str, limit_seconds: float) -> None:
    """ChaosError when `condition` has not come true in time."""
    pause = threading.Event()
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            raise ChaosError(f"{what}: not within {limit_seconds:.0f} s")
        pause.wait(0.05)
