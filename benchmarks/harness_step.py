"""What the harness costs in every step: notices, policy and telemetry; the ranks' agreement apart.

    python -m benchmarks harness_step [--steps 20000] [--ranks 2]

One process trains nothing, once by a plain loop over the same data order and once by `Run.steps` with a metadata
service polled beside it: the difference, per step, is monitor, policy and telemetry.  Median over rounds,
which take turns.

The agreement is an all-reduce between gloo ranks every K steps.  Its calls are timed in ranks that compute between two
steps and exchange something in each, as gradients are; the median call with a launch ÷ K, plus the median one without,
is held against a step of 100 ms, whose K it uses.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist

from harness.agreement import NO_NOTICE, Agreement, every_steps
from harness.config import (
    CheckpointConfig,
    DataConfig,
    HazardStep,
    IntervalConfig,
    NoticesConfig,
    NoticeSource,
    RiskConfig,
    RunConfig,
    TelemetryConfig,
)
from harness.data import RankBatches, SampleOrder
from harness.fakes import FakeAwsMetadata
from harness.log import configure_logging
from harness.run import Run

LIMIT_MICROSECONDS = 50.0
LIMIT_AGREEMENT_SHARE = 0.001
STEP_SECONDS = 0.1
NOTICE_SECONDS = 120.0
_SAMPLES, _BATCH, _SEED = 1_000_000, 64, 1
_COMPUTE_SECONDS = 0.0005


def run_config(folder: Path, address: str) -> RunConfig:
    """Everything on that a run would have: a polled source, signals, an interval in seconds, risk, telemetry."""
    return RunConfig(
        run_id="step-cost",
        seed=_SEED,
        checkpoint=CheckpointConfig(
            directory=folder / "checkpoints", remote=str(folder / "bucket"), interval=IntervalConfig(seconds=1e9)
        ),
        notices=NoticesConfig(
            sources=(NoticeSource(kind="sigterm"), NoticeSource(kind="aws", address=address)),
            poll_seconds=0.2,
            notice_seconds=NOTICE_SECONDS,
            risk=RiskConfig(hazard=(HazardStep(age_hours=0, rate_per_hour=1e-9),), stall_seconds=5),
        ),
        data=DataConfig(global_batch_samples=_BATCH),
        telemetry=TelemetryConfig(directory=folder / "telemetry", upload=False),
    )


def seconds_of_harness(folder: Path, address: str, steps: int) -> float:
    """Of one run of `steps` steps that do nothing, from the first step's begin to the last one's end."""
    with Run.from_env(run_config(folder, address), device="cpu", model=torch.nn.Linear(2, 2)) as run:
        began = 0.0
        for number, _ in run.steps(steps, samples=_SAMPLES):
            if number == 0:
                began = time.perf_counter()
            run.observe(loss=1.0)
        return time.perf_counter() - began


def seconds_of_plain_loop(steps: int) -> float:
    """The same data order, without the harness around it."""
    batches = RankBatches(SampleOrder(_SAMPLES, _SEED, shuffle=True), _BATCH, 0, 1)
    began = time.perf_counter()
    for number in range(steps):
        batches.at(number * _BATCH)
    return time.perf_counter() - began


def _agree(rank: int, ranks: int, store: str, every: int, agreements: int, answers: Connection) -> None:
    """One rank: (median seconds of a call that consumes and launches, of one that does not)."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    agreement = Agreement(
        nodes=ranks, node_rank=rank, world_size=ranks, notice_seconds=NOTICE_SECONDS, fixed_every_steps=every
    )
    acting: list[float] = []
    passing: list[float] = []
    gradients = torch.zeros(1)
    for step in range(every * agreements):
        until = time.perf_counter() + _COMPUTE_SECONDS
        while time.perf_counter() < until:
            pass
        dist.all_reduce(gradients)
        began = time.perf_counter()
        agreed = agreement.at_boundary(step, step_seconds=STEP_SECONDS, notice=NO_NOTICE, stop=False)
        (passing if agreed is None else acting).append(time.perf_counter() - began)
    agreement.drain()
    answers.send((statistics.median(acting), statistics.median(passing)))
    dist.destroy_process_group()


def seconds_of_agreement(folder: Path, ranks: int, every: int, agreements: int) -> float:
    """Inside the agreement, per step, on the slowest rank."""
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe(duplex=False) for _ in range(ranks)]
    store = str(folder / f"store-{os.getpid()}-{time.monotonic_ns()}")
    processes = [
        context.Process(target=_agree, args=(rank, ranks, store, every, agreements, sending))
        for rank, (_, sending) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    try:
        spent: list[tuple[float, float]] = [receiving.recv() for receiving, _ in ends]
    finally:
        for process in processes:
            process.join(30)
    return max(acting / every + passing for acting, passing in spent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 whether the limits hold or not: the line says "missed"."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks harness_step", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="steps of a round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--ranks", type=int, default=2, help="gloo ranks of the agreement (default 2)")
    parser.add_argument("--agreements", type=int, default=100, help="all-reduces (default 100)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    configure_logging(0, 0)
    harness, plain = [], []
    with tempfile.TemporaryDirectory(prefix="step-benchmark-") as name, FakeAwsMetadata() as metadata:
        folder = Path(name)
        seconds_of_plain_loop(options.steps // 10)
        for number in range(options.rounds):
            harness.append(seconds_of_harness(folder / str(number), metadata.url, options.steps))
            plain.append(seconds_of_plain_loop(options.steps))
        every = every_steps(STEP_SECONDS, NOTICE_SECONDS)
        agreement = seconds_of_agreement(folder, options.ranks, every, options.agreements)
        polls = sum(path.endswith("instance-action") for path in metadata.arrivals)
    per_step = [(h - p) / options.steps * 1e6 for h, p in zip(harness, plain, strict=True)]
    print(report(per_step, statistics.median(plain) / options.steps * 1e6, agreement, every, options.ranks, polls))
    return 0


def report(per_step: Sequence[float], plain: float, agreement: float, every: int, ranks: int, polls: int) -> str:
    """The table: microseconds per step, and the agreement's share of a step of 100 ms."""
    cost, share = statistics.median(per_step), agreement / STEP_SECONDS
    return "\n".join(
        [
            f"{'per step and rank':<44}{'median':>10}{'limit':>10}",
            f"{'data order alone (the reference)':<44}{plain:>7.1f} µs{'':>10}",
            f"{'monitor + policy + telemetry, on top of it':<44}{cost:>7.1f} µs{LIMIT_MICROSECONDS:>7.0f} µs"
            + _verdict(cost, LIMIT_MICROSECONDS),
            f"{f'agreement, {ranks} gloo ranks, every {every} steps':<44}{agreement * 1e6:>7.1f} µs",
            f"{'  of a step of 100 ms':<44}{share:>9.4%}{LIMIT_AGREEMENT_SHARE:>10.1%}"
            + _verdict(share, LIMIT_AGREEMENT_SHARE),
            f"rounds: {', '.join(f'{value:.1f}' for value in per_step)} µs; polls of the metadata service: {polls}",
        ]
    )


def _verdict(value: float, limit: float) -> str:
    return "" if value <= limit else "  missed"


if __name__ == "__main__":
    raise SystemExit(main())
