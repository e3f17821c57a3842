"""What checkpoints cost: blocked time, throughput, verification and slowdown, each as a ratio to a reference.

    python -m benchmarks checkpoint [--gib 1] [--rounds 5] [--directory DIR] [--device cpu|cuda]

One process, a model with AdamW whose whole state has the given size.  Every figure is a median over rounds in which the
candidates and their references take turns, in rotating order, on the same disk; one round before them is not counted,
because the first touch of fresh memory and of fresh pages of a file costs more than anything else here.  On a GPU the
reference of the blocked time is one copy of the state from the device into pinned memory, and the training step is the
device's.  The targets are those of the harness's documentation; a ratio says "missed" where it misses its target.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict_saver import async_save

from harness.checkpoint import Checkpointer, Progress, claim_generation, open_target
from harness.checkpoint.digests import CHUNK_BYTES
from harness.checkpoint.inspect import verify_checkpoints
from harness.checkpoint.priority import yield_to_training
from harness.config import CheckpointConfig, RunConfig, TelemetryConfig

GIB = 1024**3
_WIDTH = 1024
_STEPS_OF_COMPUTE = 12


class Job:
    """A model and its optimizer, after one step; `gib` of state altogether (weights and two moments)."""

    def __init__(self, gib: float, device: torch.device) -> None:
        layers = max(2, round(gib * GIB / 3 / (_WIDTH * _WIDTH * 4)))
        self.model = nn.Sequential(*(nn.Linear(_WIDTH, _WIDTH, bias=False, device=device) for _ in range(layers)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), foreach=False)

    def step(self) -> None:
        """Give every parameter a gradient and take one step."""
        for parameter in self.model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-4)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def components(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def tensors(self) -> list[torch.Tensor]:
        """All of the state."""
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return [tensor.detach() for tensor in (*self.model.parameters(), *moments)]


class Saving:
    """Saves of the harness, one after the other, into one run."""

    def __init__(self, folder: Path) -> None:
        self.config = RunConfig(
            run_id="bench",
            checkpoint=CheckpointConfig(
                directory=folder / "node", remote=str(folder / "bucket"), keep_last=1, keep_last_local=1
            ),
            telemetry=TelemetryConfig(directory=folder / "telemetry"),
        )
        target = open_target(self.config.checkpoint.remote)
        self.events: dict[str, float] = {}
        self.checkpointer = Checkpointer(
            self.config,
            node_rank=0,
            rank=0,
            world_size=1,
            local_rank=0,
            target=target,
            generation=claim_generation(target, "bench", "bench"),
            on_event=self._on_event,
        )
        self.step = 0

    def _on_event(self, name: str, fields: Mapping[str, object]) -> None:
        seconds = fields.get("seconds", fields.get("persist_seconds"))
        if isinstance(seconds, float):
            self.events[name] = seconds

    def save(self, job: Job) -> float:
        """Start a save; seconds that the caller was blocked."""
        self.step += 1
        began = time.perf_counter()
        self.checkpointer.save(job.components, Progress(step=self.step))
        return time.perf_counter() - began

    def newest(self) -> Path:
        """The directory of the last save on this node."""
        return max((self.config.checkpoint.directory / "bench").glob("step-*"))


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plain_write(path: Path, pieces: Sequence[memoryview]) -> None:
    """The same bytes, sequentially, and one fsync."""
    path.unlink(missing_ok=True)
    with path.open("xb", buffering=0) as file:
        for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                file.write(piece[start : start + CHUNK_BYTES])
        os.fsync(file.fileno())


def plain_read(paths: Sequence[Path]) -> None:
    """Every byte of the files, through one buffer, and nothing done with them."""
    buffer = bytearray(CHUNK_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def finish(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compute(steps: int, device: torch.device) -> float:
    """Seconds per step of a compute loop, on one thread or on the GPU."""
    width, products = (512, 4) if device.type == "cpu" else (4096, 8)
    left, right = torch.rand(width, width, device=device), torch.rand(width, width, device=device)
    finish(device)
    began = time.perf_counter()
    for _ in range(steps):
        for _ in range(products):
            left = (left @ right).clamp_(0, 1)
        finish(device)  # as a loop does that reads its loss
    return (time.perf_counter() - began) / steps


def beside_a_writer(folder: Path, pieces: Sequence[memoryview], device: torch.device) -> float:
    """Seconds per step of the compute loop while a thread of a save's priority writes the same bytes, and no more.

    Twice, as a save does: onto this disk, and to the durable target, which is a directory here.
    """

    def write() -> None:
        yield_to_training()
        for name in ("writer-local", "writer-remote"):
            plain_write(folder / name, pieces)

    writer = threading.Thread(target=write)
    writer.start()
    steps = []
    while writer.is_alive():
        steps.append(compute(1, device))
    writer.join()
    for name in ("writer-local", "writer-remote"):
        (folder / name).unlink()
    return statistics.fmean(steps)


def measure(
    folder: Path, gib: float, rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float], int]:
    """(seconds by name and round, first-save seconds, bytes of the state)."""
    job = Job(gib, device)
    saving = Saving(folder)
    saving.checkpointer.prepare(job.components)  # as a run does before its first step, when AdamW has no state yet
    job.step()
    tensors = job.tensors()
    size = sum(tensor.nbytes for tensor in tensors)
    pinned = device.type == "cuda"
    copies = [torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=pinned) for tensor in tensors]
    pieces = [memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data) for tensor in copies]
    first = {"save": saving.save(job)}
    saving.checkpointer.wait()
    group = dist.new_group(backend="gloo")
    seconds: dict[str, list[float]] = defaultdict(list)

    def memcpy() -> None:
        def copy() -> None:
            for source, sink in zip(tensors, copies, strict=True):
                sink.copy_(source, non_blocking=pinned)
            finish(device)

        seconds["memcpy"].append(timed(copy))

    def ours() -> None:
        seconds["save, blocked"].append(saving.save(job))
        saving.checkpointer.wait()
        seconds["save, published on this disk"].append(saving.events["checkpoint_local"])
        seconds["save, durable"].append(seconds["save, blocked"][-1] + saving.events["checkpoint_durable"])

    def torch_save() -> None:
        path = folder / "torch.pt"
        path.unlink(missing_ok=True)

        def save() -> None:
            with path.open("xb") as file:
                torch.save({name: part.state_dict() for name, part in job.components.items()}, file)
                file.flush()
                os.fsync(file.fileno())

        seconds["torch.save, blocked"].append(timed(save))
        path.unlink()

    def dcp_async() -> None:
        path = folder / "dcp"
        shutil.rmtree(path, ignore_errors=True)
        state = {name: part.state_dict() for name, part in job.components.items()}
        began = time.perf_counter()
        future = async_save(state, checkpoint_id=path, process_group=group)
        seconds["DCP async_save, blocked"].append(time.perf_counter() - began)
        assert isinstance(future, Future)  # what async_save gives without an asynchronous stager
        future.result()
        seconds["DCP async_save, on disk"].append(time.perf_counter() - began)
        shutil.rmtree(path)

    def write() -> None:
        seconds["plain write, fsync"].append(timed(lambda: plain_write(folder / "plain", pieces)))
        (folder / "plain").unlink()

    def verify() -> None:
        files = sorted(path for path in saving.newest().rglob("*") if path.is_file())
        plain_read(files)  # both from the page cache: what is compared is the work, not the disk
        seconds["read"].append(timed(lambda: plain_read(files)))
        seconds["verify"].append(timed(lambda: verify_checkpoints(saving.newest())))

    def slowdown() -> None:
        seconds["compute step, alone"].append(compute(_STEPS_OF_COMPUTE, device))
        saving.save(job)
        steps = []
        while saving.checkpointer.busy:
            steps.append(compute(1, device))
        seconds["compute step, save in flight"].append(statistics.fmean(steps))
        saving.checkpointer.wait()
        seconds["compute step, plain writer"].append(beside_a_writer(folder, pieces, device))

    def settled(candidate: Callable[[], None]) -> None:
        finish(device)
        candidate()

    candidates = [memcpy, ours, torch_save, dcp_async, write, verify, slowdown]
    for number in range(rounds + 1):
        turn = number % len(candidates)
        for candidate in (*candidates[turn:], *candidates[:turn]):
            settled(candidate)
        if number == 0:
            seconds.clear()  # the warm-up
    saving.checkpointer.close()
    return dict(seconds), first, size


def report(seconds: Mapping[str, list[float]], first: Mapping[str, float], size: int) -> str:
    """Tables of medians and of ratios against their targets."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    gib = size / GIB
    lines = [f"state: {gib:.2f} GiB; medians of {len(seconds['memcpy'])} rounds", ""]
    lines.append(f"{'':<32}{'seconds':>10}{'least':>10}{'most':>10}{'GiB/s':>8}")
    for name, values in seconds.items():
        speed = "" if name.startswith("compute") else f"{gib / median[name]:>8.2f}"
        lines.append(f"{name:<32}{median[name]:>10.4f}{min(values):>10.4f}{max(values):>10.4f}{speed}")
    lines += ["", f"{'ratio':<58}{'value':>8}  target"]

    def paired(one: str, other: str) -> float:
        """Of the two in the same round, the median: what drifts between rounds cancels."""
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    for text, value, target, wanted in (
        ("blocked per save / one memcpy of the state", paired("save, blocked", "memcpy"), "<= 1.5", 1.5),
        ("the first save / one memcpy", first["save"] / median["memcpy"], "", None),
        ("torch.save blocked / blocked per save", paired("torch.save, blocked", "save, blocked"), "", None),
        ("DCP async_save blocked / blocked per save", paired("DCP async_save, blocked", "save, blocked"), "", None),
        (
            "throughput: published on this disk / plain write",
            paired("plain write, fsync", "save, published on this disk"),
            ">= 0.8",
            -0.8,
        ),
        ("speed: verify / read (page cache)", paired("read", "verify"), ">= 0.8", -0.8),
        (
            "compute step while a save is in flight / alone",
            paired("compute step, save in flight", "compute step, alone"),
            "<= 1.05 with a free core",
            1.05,
        ),
        (
            "compute step beside a thread that only writes / alone",
            paired("compute step, plain writer", "compute step, alone"),
            "",
            None,
        ),
        (
            "compute step: save in flight / beside that thread",
            paired("compute step, save in flight", "compute step, plain writer"),
            "",
            None,
        ),
    ):
        missed = wanted is not None and (value > wanted if wanted > 0 else value < -wanted)
        lines.append(f"{text:<58}{value:>8.2f}  {target}{' missed' if missed else ''}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the state in GiB (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--directory", type=Path, help="where to write (default: the system's temporary directory)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the state is (default cpu)")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no GPU that torch can use")
    device = torch.device(options.device)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="checkpoint-benchmark-", dir=options.directory) as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            seconds, first, size = measure(Path(folder), options.gib, options.rounds, device)
        finally:
            dist.destroy_process_group()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "state on the CPU"
    print(f"{name}; torch {torch.__version__}; {os.cpu_count()} cores")
    print(report(seconds, first, size))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
