"""A plain training loop with micro-batches, run by forked ranks that are nodes of their own, interrupted at a step."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.config import load_run_config
from harness.run import Run
from harness.steps import MicroBatch
from harness.streams import SampleDropout
from tests.harness.checkpoint_support import fork_ranks, join_group
from tests.harness.run_support import sigterm_at

SAMPLES = 60
FEATURES = torch.randn(SAMPLES, 8, generator=torch.Generator().manual_seed(1))


@dataclass
class Ended:
    """How one rank's training ended."""

    code: int
    weights: str | None = None
    flat: list[float] = field(default_factory=list)
    """All parameters."""
    pinned: str = ""
    """DDP's buckets, as it reports them."""
    seen: dict[str, Any] = field(default_factory=dict)
    """What the test's own observer wrote down."""


@dataclass(frozen=True)
class Job:
    """One training to run; the defaults are AdamW on 12 samples a step without dropout."""

    steps: int = 8
    batch: int = 12
    dropout: str = "none"
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    learning_rate: float = 0.01
    interrupt: tuple[int, int] | None = None
    """(rank, step): SIGTERM to that rank in the body of that step."""
    nodes: str | None = None
    """PET_NNODES; the world size when None."""
    weights: bool = True
    """False: a loop over `step, indices` that takes the mean of whatever its share is."""
    on_step: Callable[[Run, Any, Any, dict[str, Any]], None] | None = None
    """Called after each optimizer step with the run, the step, the optimizer and `Ended.seen`."""


def build(dropout: str) -> nn.Module:
    """Three linear layers, of sizes that fill several small buckets unevenly."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "rank": lambda: nn.Dropout(0.3),
        "sample": lambda: SampleDropout(0.3),
    }
    drop = kinds[dropout]
    return nn.Sequential(
        nn.Linear(8, 33), nn.GELU(), drop(), nn.Linear(33, 17), nn.GELU(), drop(), nn.Linear(17, 3)
    )  # fmt: skip


def train_node(rank: int, world_size: int, store: Path, config: Path, job: Job) -> Ended:
    """One rank, a node of its own."""
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_RANK="0",
        LOCAL_WORLD_SIZE="1",
        GROUP_RANK=str(rank),
        GROUP_WORLD_SIZE=str(world_size),
        PET_NNODES=job.nodes or str(world_size),
    )
    join_group(rank, world_size, store)
    return train_here(config, job)


def train_here(config: Path, job: Job) -> Ended:
    """In this process."""
    ended = Ended(0)
    try:
        with Run.from_env(load_run_config(config), device="cpu") as run:
            plain = build(job.dropout)
            model = DistributedDataParallel(plain, bucket_cap_mb=0.001) if run.world_size > 1 else plain
            optimizer = job.optimizer(model.parameters(), lr=job.learning_rate)
            run.register(model=model, optimizer=optimizer)
            act = sigterm_at(job.interrupt[1]) if job.interrupt and job.interrupt[0] == run.rank else None
            for step in run.steps(job.steps, samples=SAMPLES, global_batch_samples=job.batch):
                optimizer.zero_grad()
                parts = step.micro_batches if job.weights else [MicroBatch(step.indices, 1.0)]
                for micro in parts:
                    inputs = FEATURES[torch.from_numpy(micro.indices)]
                    (model(inputs).square().mean() * micro.weight).backward()
                optimizer.step()
                if act is not None:
                    act(run)
                if job.on_step is not None:
                    job.on_step(run, step, optimizer, ended.seen)
            if isinstance(model, DistributedDataParallel):
                ended.pinned = model._get_ddp_logging_data().get(  # type: ignore[no-untyped-call]
                    "rebuilt_per_bucket_param_indices", ""
                )
            state = plain.state_dict()
            ended.weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest()
            ended.flat = torch.cat([t.flatten() for t in state.values()]).tolist()
    except SystemExit as end:
        ended.code = int(end.code or 0)
    return ended


def train_fleet(folder: Path, config: Path, world_size: int, job: Job) -> list[Ended]:
    """All ranks of one launch; every launch in its own file store."""
    store = Path(tempfile.mkdtemp(dir=folder)) / "store"
    return fork_ranks(world_size, train_node, world_size, store, config, job)
