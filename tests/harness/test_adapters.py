"""The examples, Lightning and Hugging Face: killed, interrupted, shrunk and grown; their lines counted."""

from __future__ import annotations

import difflib
import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.ledger import prove
from harness.status import read_status
from tests.harness.checkpoint_support import fork_ranks
from tests.harness.run_support import LIBRARY_SMALL, ROOT, example, train_rank, write_config

STEPS = 12


class Fleet:
    """Launches of one example below a folder, each with as many nodes as asked for."""

    def __init__(self, folder: Path, script: str, extra: tuple[str, ...], **sections: Any) -> None:
        example(script)  # the library is imported here, once, and not by every process
        self.folder, self.script, self.extra, self.launches = folder, script, extra, 0
        self.config = write_config(
            folder,
            data={"ledger": True, "randomness": "per-sample"},
            # A machine with other work must not make an emergency save late.
            notices={"notice_seconds": 120, "emergency_budget_seconds": 100},
            torchrun={"shutdown_timeout_seconds": 120, "process_group_timeout_seconds": 150},
            **sections,
        )

    def launch(self, ranks: int, **options: Any) -> list[Any]:
        self.launches += 1
        store = self.folder / f"store-{self.launches}"
        extra = ("--output", str(self.folder / "output"), *self.extra)
        options = {"steps": STEPS, "script": self.script, "extra": extra, "nodes": "1:2", **options}
        gc.freeze()  # the library's objects stay shared: a collection in a rank would copy their pages
        try:
            return fork_ranks(ranks, train_rank, ranks, store, self.config, options, timeout_seconds=150)
        finally:
            gc.unfreeze()

    def reason(self, node: int) -> str | None:
        status = read_status(self.folder / f"node-{node}" / "telemetry")
        return None if status is None else status.reason


def killed_interrupted_and_grown(
    tmp_path: Path, script: str, *extra: str, middle: int = 1, **sections: Any
) -> tuple[Fleet, Any]:
    """Two ranks, rank 1 killed in step 5; `middle` ranks, the last told to end in step 6; two ranks to the end.

    The model has dropout, whose masks belong to the samples; schedules, optimizer and position are all in the weights.
    """
    whole = Fleet(tmp_path / "whole", script, extra, **sections).launch(2)
    assert [end.code for end in whole] == [0, 0]
    assert whole[0].weights is not None
    fleet = Fleet(tmp_path / "cut", script, extra, **sections)
    first = fleet.launch(2, kill=(1, 5))
    assert first[1] == "signal 9"
    assert (first[0].code, fleet.reason(0)) == (75, "peer-lost")
    second = fleet.launch(middle, interrupt=(middle - 1, 6))
    assert [end.code for end in second] == [75] * middle
    assert fleet.reason(middle - 1) == "notice"
    assert fleet.launch(2)[0] == whole[0]
    proof = prove([fleet.folder])
    assert proof.proven, proof.problems
    assert (proof.steps, proof.epochs_complete) == (STEPS, 2)
    assert [(part.world_size, part.first_step, part.rolled_back_steps) for part in proof.history] == [
        (2, 0, 2),
        (middle, 4, 0),
        (2, 8, 0),
    ]
    return fleet, whole[0]


def a_finished_run_trains_nothing(fleet: Fleet, whole: Any) -> None:
    """Launched again, on one rank."""
    again = fleet.launch(1)
    assert (again[0].code, again[0].weights) == (0, whole.weights)
    assert prove([fleet.folder]).steps == STEPS


def test_hugging_face_trainer(tmp_path: Path) -> None:
    """GPT-2 whose loss is normalised by counting tokens."""
    pytest.importorskip("transformers")
    a_finished_run_trains_nothing(*killed_interrupted_and_grown(tmp_path, "train_huggingface"))


def test_lightning_trainer(tmp_path: Path) -> None:
    """Epochs of five steps, with a validation and a schedule's step at their ends: all in the weights."""
    pytest.importorskip("lightning")
    a_finished_run_trains_nothing(*killed_interrupted_and_grown(tmp_path, "train_lightning"))


def test_fsdp2(tmp_path: Path) -> None:
    """Sharded over two ranks, whole on one, sharded again."""
    killed_interrupted_and_grown(tmp_path, "train_fsdp2", "--batch", "8")


def test_mixed_precision_with_accumulation(tmp_path: Path) -> None:
    """float16 with a GradScaler, two micro-batches on each of two ranks throughout: four terms have several sums."""
    killed_interrupted_and_grown(tmp_path, "train_amp", "--batch", "8", middle=2, elastic={"micro_batch_samples": 2})


# ---- lines of code


def lines_of(name: str) -> list[str]:
    """Code lines of an example, without indentation, docstring and blank lines."""
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    _, _, code = source.split('"""', 2)
    return [line.strip() for line in code.splitlines() if line.strip()]


@pytest.mark.parametrize(("name", "most"), [("gpt", 8), ("amp", 8), ("fsdp2", 8), ("lightning", 7), ("huggingface", 4)])
def test_added_lines(name: str, most: int) -> None:
    """`diff -w plain_X.py train_X.py`: lines that the harness adds or changes, imports included."""
    difference = list(difflib.ndiff(lines_of(f"plain_{name}"), lines_of(f"train_{name}")))
    added = [line[2:] for line in difference if line.startswith("+ ")]
    assert "from harness import Run" in added
    assert len(added) == most, added
    documented = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert f"| `examples/train_{name}.py` | {most} |" in documented


@pytest.mark.parametrize("name", ["gpt", "amp", "fsdp2", "lightning", "huggingface"])
def test_the_examples_without_the_harness_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what the lines are counted against: each trains a little."""
    if name in {"lightning", "huggingface"}:
        pytest.importorskip({"lightning": "lightning", "huggingface": "transformers"}[name])
    result = tmp_path / "result.json"
    arguments = ["--steps", "2", *LIBRARY_SMALL, "--output", str(tmp_path), "--result", str(result)]
    monkeypatch.setattr(sys, "argv", ["plain.py", *arguments])
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    try:
        example(f"plain_{name}").main()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)
    assert json.loads(result.read_text())["weights_sha256"]
