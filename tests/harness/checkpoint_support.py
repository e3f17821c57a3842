"""A small training job, and ranks forked from this warm process, for the checkpoint tests."""

from __future__ import annotations

import faulthandler
import functools
import multiprocessing
import os
import pickle
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from harness.checkpoint import Checkpointer, Progress, Target, claim_generation, open_target
from harness.checkpoint.outcomes import RestoredState
from harness.clock import Clock
from harness.config import RunConfig

RUN_ID = "demo"
_DUMP_STACKS = signal.SIGRTMIN
"""No other: a run listens for several."""


class RandomState:
    """Per-rank random streams, NumPy's global one included: training scripts use it."""

    def state_dict(self) -> dict[str, Any]:
        return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        torch.set_rng_state(state["torch"])


@dataclass
class Job:
    """A model with dropout, AdamW and a schedule: enough state to notice what is lost."""

    width: int = 8
    components: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        model = nn.Sequential(
            nn.Linear(4, self.width), nn.BatchNorm1d(self.width), nn.Dropout(0.5), nn.Linear(self.width, 2)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.95))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
        self.components = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "rng": RandomState()}

    def train(self, steps: int) -> None:
        """`steps` steps on random data from the global random streams."""
        model, optimizer = self.components["model"], self.components["optimizer"]
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).square().mean()
            loss.backward()
            optimizer.step()
            self.components["scheduler"].step()

    def fingerprint(self) -> str:
        """Everything that training depends on, byte for byte."""
        import hashlib

        state = {name: holder.state_dict() for name, holder in self.components.items()}
        return hashlib.sha256(repr(_plain(state)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            list(value.shape),
            value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.tobytes())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


@dataclass
class Events:
    """Records what a checkpointer reports."""

    seen: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        self.seen.append((name, dict(fields)))

    def names(self) -> list[str]:
        return [name for name, _ in self.seen]


def make_config(root: Path, remote: str | None = None, run_id: str = RUN_ID, **checkpoint: Any) -> RunConfig:
    """Node directories ``root/node<i>`` and, unless `remote` says otherwise, ``root/bucket`` as durable target."""
    return RunConfig(
        run_id=run_id,
        checkpoint={"directory": root / "node{node}", "remote": remote or str(root / "bucket"), **checkpoint},
        telemetry={"directory": root / "telemetry{node}"},
        torchrun={"process_group_timeout_seconds": 60},
    )


def single(
    config: RunConfig, *, attempt: str = "attempt", target: Target | None = None, generation: int | None = None,
    clock: Clock | None = None, on_event: Callable[[str, Mapping[str, object]], None] | None = None,
) -> Checkpointer:  # fmt: skip
    """A checkpointer of a one-process job that has claimed the next generation."""
    target = target or open_target(config.checkpoint.remote, endpoint_url=config.checkpoint.s3_endpoint_url)
    return Checkpointer(
        config,
        node_rank=0,
        rank=0,
        world_size=1,
        local_rank=0,
        target=target,
        generation=generation or claim_generation(target, config.run_id, attempt),
        clock=clock,
        on_event=on_event,
    )


def save_steps(config: RunConfig, *steps: int, **options: Any) -> dict[int, str]:
    """Train a fresh job, saving durably at these steps; the state's fingerprint at each."""
    job, checkpointer = Job(), single(config, **options)
    checkpointer.restore(job.components)
    prints, done = {}, 0
    for step in steps:
        job.train(step - done)
        done = step
        checkpointer.save(job.components, Progress(step=step, samples_seen=16 * step))
        checkpointer.wait()
        prints[step] = job.fingerprint()
    checkpointer.close()
    return prints


def fresh(config: RunConfig, **options: Any) -> tuple[RestoredState | None, Job]:
    """(what a new attempt restores, its job)."""
    job = Job()
    checkpointer = single(config, **options)
    restored = checkpointer.restore(job.components)
    checkpointer.close()
    return restored, job


def fork_ranks(
    world_size: int,
    work: Callable[..., Any],
    *arguments: Any,
    timeout_seconds: float = 60,
    sign_of_life: Callable[[], object] | None = None,
) -> list[Any]:
    """Run ``work(rank, *arguments)`` in processes forked from this one; their results by rank.

    A rank that died by SIGKILL gives ``"signal 9"``.  An exception in a rank fails the test with its traceback, another
    end without an answer with its exit code and stderr, no end at all with the stacks of its threads.  With a
    `sign_of_life` the time begins anew whenever its value has changed.
    """
    _warm_up()
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    stacks = tempfile.NamedTemporaryFile("r", suffix=".stacks")  # noqa: SIM115 - closed below
    for rank in range(world_size):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_rank_main, args=(rank, work, arguments, sending, stacks.name), daemon=True)
        process.start()
        sending.close()
        pipes.append(receiving)
        processes.append(process)
    results: list[Any] = []
    try:
        for receiving, process in zip(pipes, processes, strict=True):
            # Read before joining: a result larger than the pipe would keep the rank from ending.
            before = None if sign_of_life is None else sign_of_life()
            while not receiving.poll(timeout_seconds):
                now = None if sign_of_life is None else sign_of_life()
                if now == before:
                    raise AssertionError(f"a rank neither answered nor ended:\n{_stacks_of(processes, stacks)}")
                before = now
            try:
                kind, value = pickle.loads(receiving.recv_bytes())
            except EOFError:
                process.join(timeout_seconds)
                kind, value = "ended", _how_it_ended(process.exitcode, stacks.read())
            assert kind != "error", f"rank failed:\n{value}"
            results.append(value)
            process.join(timeout_seconds)
    finally:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
        stacks.close()
    return results


def _stacks_of(processes: Sequence[BaseProcess], written: IO[str]) -> str:
    """What each rank that is still there is doing, in all of its threads."""
    for process in processes:
        if process.is_alive():
            os.kill(process.pid or 0, _DUMP_STACKS)
    for process in processes:
        process.join(2.0)  # it does not end: this is the time that the dump may take
    return written.read()


def _how_it_ended(exit_code: int | None, stderr: str) -> str:
    """``"signal 9"`` for a SIGKILL, which is what the tests do to ranks; any other silent end fails the test."""
    if exit_code == -signal.SIGKILL:
        return "signal 9"
    raise AssertionError(f"a rank ended with exit code {exit_code} and without an answer:\n{stderr}")


@functools.cache
def _warm_up() -> None:
    """Do once, here, what every forked process would do first: torch imports a good deal of itself at a first step."""
    torch.set_num_threads(1)  # a thread pool of OpenMP does not survive a fork
    with tempfile.TemporaryDirectory() as folder:
        save_steps(make_config(Path(folder)), 1)


def _rank_main(rank: int, work: Callable[..., Any], arguments: tuple[Any, ...], sending: Any, stacks: str) -> None:
    stderr = Path(stacks).open("a")  # noqa: SIM115 - open as long as we live
    os.dup2(stderr.fileno(), 2)
    faulthandler.enable(stderr)
    faulthandler.register(_DUMP_STACKS, stderr)
    torch.set_num_threads(1)
    try:
        answer = ("value", work(rank, *arguments))
    except BaseException:  # noqa: BLE001 - it is reported to the test
        answer = ("error", traceback.format_exc())
    sending.send_bytes(pickle.dumps(answer))
    sending.close()
    os._exit(0)


def join_group(rank: int, world_size: int, store: Path) -> None:
    """Initialise gloo between forked ranks, through a file that no other group uses."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )


def distributed(config: RunConfig, rank: int, world_size: int, ranks_per_node: int = 1, **options: Any) -> Checkpointer:
    """This rank's checkpointer, after rank 0 has claimed a generation for all."""
    target = open_target(config.checkpoint.remote, endpoint_url=config.checkpoint.s3_endpoint_url)
    box = [claim_generation(target, config.run_id, "ranks") if rank == 0 else None]
    dist.broadcast_object_list(box, src=0)
    return Checkpointer(
        config,
        node_rank=rank // ranks_per_node,
        rank=rank,
        world_size=world_size,
        local_rank=rank % ranks_per_node,
        target=target,
        generation=box[0] or 0,
        **options,
    )
