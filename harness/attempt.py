"""One incarnation of the training processes: placed, connected, fenced, with its telemetry and its checkpointer."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from harness.checkpoint import Checkpointer, Target, claim_generation
from harness.checkpoint.local import newest_local_generation
from harness.checkpoint.outcomes import RestoredState
from harness.checkpoint.ranks import GroupRanks, PeerLostError, Ranks, SingleRank, together
from harness.checkpoint.targets import open_configured
from harness.clock import Clock
from harness.config import RunConfig
from harness.directories import resolve_directories
from harness.emergency import Outlook, SaveSpeeds
from harness.environment import DeviceKind, Placement, choose_device, join_process_group
from harness.errors import CheckpointError, InvalidInputError
from harness.processes import die_with_parent, elastic_agent_pid
from harness.status import State, build_status, read_status, write_status
from harness.telemetry.writer import BackgroundUploader, TelemetryWriter

_log = logging.getLogger("harness")

LEDGER_SECONDS = 10.0
"""A checkpoint waits at most so long for the ledger of its steps to be on the durable target."""


@dataclass
class Identity:
    """Which attempt this is; the same on every rank once it is claimed."""

    attempt_id: str | None = None
    generation: int | None = None


class Attempt:
    """Opens everything that a run needs on this rank; `close` takes it down in the opposite order.

    Construction is collective.  Raises InvalidInputError on every rank when any rank's input is bad.
    """

    def __init__(self, config: RunConfig, placement: Placement, *, device: DeviceKind, clock: Clock) -> None:
        self.clock = clock
        self.placement = placement
        self.config = resolve_directories(config, placement.node_name)
        self.agent_pid = elastic_agent_pid()
        # Under plain torchrun the agent stands for the launch; a process on its own is one.
        launch = secrets.token_hex(8) if self.agent_pid is None else f"agent-{self.agent_pid}"
        self.launch_id = os.environ.get("HARNESS_LAUNCH_ID") or launch
        self.identity = Identity()
        self.durable_step: int | None = None
        plan = config.plan
        self.speeds = SaveSpeeds(
            planned=Outlook(snapshot_seconds=plan.stall_seconds, persist_seconds=plan.persist_seconds)
        )
        self.previous_status = read_status(self.config.telemetry.directory)
        if self.agent_pid is not None:
            # A worker whose agent was killed would train on, alone and unobserved: its end is a SIGTERM, a notice.
            die_with_parent(signal.SIGTERM)
        self.telemetry = TelemetryWriter(
            self.config.telemetry.directory,
            run_id=config.run_id,
            node=placement.node_name,
            rank=placement.rank,
            world_size=placement.world_size,
            clock=clock,
        )
        self._device_kind = device
        self._status_lock = threading.Lock()
        self._ended = False
        self._owns_group = False
        self._checkpointer: Checkpointer | None = None
        self._uploader: BackgroundUploader | None = None
        self._target: Target | None = None
        self.ranks: Ranks = SingleRank()
        """All of the job, for the training thread; only once connected."""

    def connect(self) -> None:
        """Process group, generation, target and checkpointer.  Collective."""
        timeout = self.config.torchrun.process_group_timeout_seconds
        self.device = choose_device(self._device_kind, self.placement.local_rank)
        self._owns_group = join_process_group(self.placement, self.device, timeout)
        self.ranks = _own_ranks(timeout)
        self._check_alike()
        self._target = open_configured(self.config.checkpoint)
        marks = together(self.ranks, self._newest_local_generation)
        claimed = together(self.ranks, lambda: self._claim(max(marks)))[0]
        assert claimed is not None
        self.identity = Identity(*claimed)
        self.telemetry.claim(*claimed)
        self._uploader = self._start_uploader(self._target)
        self.write_status("running", step=0)
        self._checkpointer = Checkpointer(
            self.config,
            node_rank=self.placement.node_rank,
            rank=self.placement.rank,
            world_size=self.placement.world_size,
            local_rank=self.placement.local_rank,
            target=self._target,
            generation=claimed[1],
            clock=self.clock,
            on_event=self._on_checkpoint_event,
        )
        self._emit_started()

    @property
    def checkpointer(self) -> Checkpointer:
        """Of this attempt; only once connected."""
        assert self._checkpointer is not None, "connect() comes first"
        return self._checkpointer

    @property
    def target(self) -> Target:
        """The durable target; only once connected."""
        assert self._target is not None, "connect() comes first"
        return self._target

    @property
    def leads_node(self) -> bool:
        """This rank does what is done once per node."""
        return self.placement.local_rank == 0

    def write_status(self, state: State, *, step: int, reason: str | None = None, message: str | None = None) -> None:
        """Update this node's status.json; never raises for a disk that refuses.

        Once a state that ends the attempt is written, a background thread's late ``running`` does not hide it.
        """
        status = build_status(
            state,
            run_id=self.config.run_id,
            launch_id=self.launch_id,
            reason=reason,
            message=message,
            attempt_id=self.identity.attempt_id,
            generation=self.identity.generation,
            node=self.placement.node_name,
            rank=self.placement.rank,
            step=step,
            world_size=self.placement.world_size,
            durable_step=self.durable_step,
        )
        with self._status_lock:
            if self._ended and state == "running":
                return
            self._ended = state != "running"
            try:
                write_status(self.config.telemetry.directory, status)
            except OSError as error:
                _log.warning("status.json could not be written: %s", error)

    def load(self, state: Mapping[str, Any]) -> RestoredState | None:
        """Restore into `state`; what somebody has to repair first is bad input: no restart makes it better."""
        try:
            return self.checkpointer.restore(state)
        except PeerLostError:
            raise
        except CheckpointError as error:
            what_to_do = "" if "choose a new run_id" in str(error) else "; repair it, or choose a new run_id"
            raise InvalidInputError(
                "checkpoint.remote",
                f"{self.config.checkpoint.remote} (run {self.config.run_id})",
                "checkpoints that can be restored",
                f"{error}{what_to_do}",
            ) from error

    def restored(self, state: RestoredState | None, seconds: float) -> None:
        """Say, in telemetry and in one line, where training goes on (the checkpointer has said what it restored)."""
        step = 0 if state is None else state.step
        self.durable_step = None if state is None else state.step
        self.telemetry.at_step(step)
        if not self.leads_node:
            return
        self.write_status("running", step=step)
        if state is None:
            self.telemetry.emit("restored", step=0, restore_seconds=seconds)
            if self.placement.rank == 0:
                _log.info("nothing to restore: starting at step 0")
        elif state.world_size != self.placement.world_size:
            self.telemetry.emit("rescaled", step=step, previous_world_size=state.world_size)
        if self._uploader is not None:
            # A life that is too short for a checkpoint counts, too: its start outlives the node.
            self._uploader.request()

    def flush_telemetry(self, timeout_seconds: float) -> None:
        """Copy this node's telemetry to the durable target, bounded in time."""
        if self._uploader is not None and not self._uploader.flush(timeout_seconds):
            _log.warning("telemetry was not copied to the durable target within %.0f s", timeout_seconds)

    def close(self, *, orderly: bool) -> None:
        """Release everything; `orderly` when every rank does so (only then can the process group be taken down)."""
        if self._checkpointer is not None:
            self._checkpointer.close(timeout_seconds=None if orderly else 1.0, orderly=orderly)
        if self._uploader is not None:
            self._uploader.close(10.0)
        self.telemetry.close()
        self.ranks.close(orderly=orderly)
        if self._owns_group and dist.is_initialized() and orderly:
            dist.destroy_process_group()

    def _newest_local_generation(self) -> int:
        return newest_local_generation(self.config.checkpoint.directory, self.config.run_id) if self.leads_node else 0

    def _claim(self, above: int) -> tuple[str, int] | None:
        """Rank 0 takes the next generation for all."""
        if self.placement.rank != 0:
            return None
        assert self._target is not None
        attempt_id = secrets.token_hex(6)
        return attempt_id, claim_generation(self._target, self.config.run_id, attempt_id, above=above)

    def _check_alike(self) -> None:
        """Every rank must have been given the same run."""
        mine = (self.config.run_id, self.config.seed, self.config.checkpoint.remote)
        for rank, theirs in enumerate(self.ranks.gather(mine)):
            if theirs != mine:
                raise InvalidInputError(
                    "harness.yaml",
                    f"run {mine[0]} seed {mine[1]} remote {mine[2]}",
                    f"what rank {rank} has: run {theirs[0]} seed {theirs[1]} remote {theirs[2]}",
                    "give every node the same harness.yaml",
                )

    def _start_uploader(self, target: Target) -> BackgroundUploader | None:
        if not (self.leads_node and self.config.telemetry.upload):
            return None
        return BackgroundUploader(self.telemetry, _Prefixed(target, self.config.run_id))

    def _on_checkpoint_event(self, name: str, fields: Mapping[str, object]) -> None:
        self.telemetry.on_event(name, fields)
        self.speeds.on_event(name, fields, self.clock.monotonic())
        if name == "checkpoint_durable":
            step = fields.get("step")
            if isinstance(step, int):
                self.durable_step = step
                self.write_status("running", step=step)
        if name == "checkpoint_local" and self.config.data.ledger and self._uploader is not None:
            # Whatever node is lost after this step is durable, what it used until then is written down.
            self._uploader.flush(LEDGER_SECONDS)
        if name in {"checkpoint_durable", "checkpoint_failed"} and self._uploader is not None:
            self._uploader.request()

    def _emit_started(self) -> None:
        if not self.leads_node:
            return
        text = os.environ.get("HARNESS_LAUNCH_WALL_TIME")
        # torchrun counts restarts after failures only: after one for a newcomer, the status tells of the same launch.
        before = self.previous_status
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" or (
            before is not None and before.launch_id == self.launch_id
        )
        began = float(text) if text and not again else _process_start()
        digest = hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()[:16]
        self.telemetry.emit(
            "started",
            step=0,
            nodes=self.placement.nodes,
            device=self.device.type,
            startup_seconds=max(0.0, self.clock.wall() - began),
            restart_count=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
            launch_id=self.launch_id,
            torch_version=torch.__version__,
            config_digest=digest,
        )


def _own_ranks(timeout_seconds: float) -> Ranks:
    """In a group of their own: the last collective of the run is theirs, and their group can be released after it."""
    if not dist.is_initialized():
        return SingleRank()
    return GroupRanks(dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds)))


class _Prefixed:
    """The durable target as telemetry sees it: below the run's prefix."""

    def __init__(self, target: Target, run_id: str) -> None:
        self._target, self._run_id = target, run_id

    def put_bytes(self, key: str, data: bytes) -> None:
        self._target.put_bytes(f"{self._run_id}/{key}", data)


def _process_start() -> float:
    """When this process started, in seconds since the Unix epoch (now, where /proc does not say)."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()
