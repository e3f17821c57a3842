"""Run the example training script in this process or in forked ranks, and interrupt it at a step."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from harness.run import Run
from tests.harness.checkpoint_support import join_group

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "examples" / "train_gpt.py"
SMALL = (
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
)
LIBRARY_SMALL = ("--batch", "4", "--context", "16", "--channels", "16", "--corpus-bytes", "600")
"""For the examples of other libraries: 37 samples, so that an epoch ends within ten steps of 4 or five of 8."""


@cache
def example(name: str = "train_gpt") -> ModuleType:
    """A module of `examples/`, which is no package."""
    if str(ROOT / "examples") not in sys.path:
        sys.path.append(str(ROOT / "examples"))  # they import from each other
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def write_config(folder: Path, **sections: Any) -> Path:
    """A harness.yaml below `folder` with node directories and a bucket there; sections are merged into it."""
    document: dict[str, Any] = {
        "run_id": "run",
        "seed": 5,
        "checkpoint": {
            "directory": str(folder / "node-{node}" / "checkpoints"),
            "remote": str(folder / "bucket"),
            "interval": {"steps": 4},
        },
        "notices": {"notice_seconds": 60, "emergency_budget_seconds": 20, "agreement_every_steps": 1},
        "telemetry": {"directory": str(folder / "node-{node}" / "telemetry"), "window_steps": 2},
        "torchrun": {"process_group_timeout_seconds": 60},
    }
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "harness.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Outcome:
    """How one process's training ended."""

    code: int
    loss: float | None
    weights: str | None


def train(
    config: Path,
    *,
    steps: int,
    extra: tuple[str, ...] = (),
    at_step: Callable[[Run], None] | None = None,
    script: str = "train_gpt",
) -> Outcome:
    """An example's `main` in this process; `at_step` is called in the body of every step."""
    result = config.parent / f"result-{os.environ.get('RANK', '0')}.json"
    result.unlink(missing_ok=True)
    observe, arguments, environment = Run.observe, sys.argv, dict(os.environ)

    def observe_and_act(run: Run, *, loss: torch.Tensor | float) -> None:
        observe(run, loss=loss)
        if at_step is not None:
            at_step(run)

    Run.observe = observe_and_act  # type: ignore[method-assign]
    small = SMALL if script == "train_gpt" else LIBRARY_SMALL
    sys.argv = [f"{script}.py", "--steps", str(steps), "--result", str(result), *small, *extra]
    os.environ["HARNESS_CONFIG"] = str(config)
    try:
        example(script).main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        Run.observe, sys.argv = observe, arguments  # type: ignore[method-assign]
        os.environ.clear()
        os.environ.update(environment)
        torch.use_deterministic_algorithms(False)
    if not result.exists():
        return Outcome(code, None, None)
    document = json.loads(result.read_text(encoding="utf-8"))
    return Outcome(code, document.get("loss"), document["weights_sha256"])


def sigterm_at(step: int) -> Callable[[Run], None]:
    """SIGTERM to this process in the body of `step` (counted from 0), and wait until it was heard."""

    def act(run: Run) -> None:
        if run.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
            assert run._board.signalled.wait(10.0), "the signal was not heard"

    return act


def kill_at(step: int) -> Callable[[Run], None]:
    """SIGKILL to this process in the body of `step`, when the save in flight is durable: nothing since is saved."""

    def act(run: Run) -> None:
        if run.step == step:
            run._attempt.checkpointer.wait(30.0)
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def train_rank(rank: int, world_size: int, store: Path, config: Path, options: dict[str, Any]) -> Outcome:
    """One of several forked nodes; ``interrupt=(rank, step)`` gets SIGTERM there, ``kill`` SIGKILL."""
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_RANK="0",
        LOCAL_WORLD_SIZE="1",
        GROUP_RANK=str(rank),
        GROUP_WORLD_SIZE=str(world_size),
        PET_NNODES=options.pop("nodes", str(world_size)),
        MASTER_ADDR="127.0.0.1",  # nobody connects to it: accelerate only looks
        MASTER_PORT="29500",
        OMP_NUM_THREADS="1",  # else Lightning and accelerate choose a number by the world size
    )
    join_group(rank, world_size, store)
    at_step = None
    for fault, act in (("interrupt", sigterm_at), ("kill", kill_at)):
        where = options.pop(fault, None)
        if where is not None and where[0] == rank:
            at_step = act(where[1])
    outcome = train(config, at_step=at_step, **options)
    if outcome.code == 0:
        # The run's own groups: one that is left when the interpreter is taken down can end the process by SIGABRT.
        assert not {thread.name for thread in threading.enumerate()} - {"MainThread"}
        assert gloo_groups() <= 1, "only the default group, which the script has made here, may be left"
    return outcome


def gloo_groups() -> int:
    """Process groups of gloo in this process whose threads are alive (two each)."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return names.count("pt_gloo_runloop") // 2
