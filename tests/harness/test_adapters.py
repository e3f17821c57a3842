"""Trainers that own their loop, with the real libraries: killed, interrupted, shrunk and grown, and nobody can tell."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import prove
from harness.status import read_status
from tests.harness.checkpoint_support import fork_ranks
from tests.harness.run_support import example, train_rank, write_config

STEPS = 12


class Fleet:
    """Launches of one example below a folder, each with as many nodes as asked for."""

    def __init__(self, folder: Path, script: str, **sections: Any) -> None:
        example(script)  # the library is imported here, once, and not by every process
        self.folder, self.script, self.launches = folder, script, 0
        self.config = write_config(folder, data={"ledger": True, "randomness": "per-sample"}, **sections)

    def launch(self, ranks: int, **options: Any) -> list[Any]:
        self.launches += 1
        store = self.folder / f"store-{self.launches}"
        extra = ("--output", str(self.folder / "output"))
        options = {"steps": STEPS, "script": self.script, "extra": extra, "nodes": "1:2", **options}
        gc.freeze()  # the library's objects stay shared: a collection in a rank would copy their pages
        try:
            return fork_ranks(ranks, train_rank, ranks, store, self.config, options)
        finally:
            gc.unfreeze()

    def reason(self, node: int) -> str | None:
        status = read_status(self.folder / f"node-{node}" / "telemetry")
        return None if status is None else status.reason


def killed_interrupted_shrunk_and_grown(tmp_path: Path, script: str) -> None:
    """Two ranks, rank 1 killed in step 5; one rank in two micro-batches, told to end in step 6; two ranks to the end.

    The model has dropout, whose masks belong to the samples; schedules, optimizer and position are all in the weights.
    """
    whole = Fleet(tmp_path / "whole", script).launch(2)
    assert [end.code for end in whole] == [0, 0]
    assert whole[0].weights is not None
    fleet = Fleet(tmp_path / "cut", script)
    first = fleet.launch(2, kill=(1, 5))
    assert first[1] == "signal 9"
    assert (first[0].code, fleet.reason(0)) == (75, "peer-lost")
    second = fleet.launch(1, interrupt=(0, 6))
    assert (second[0].code, fleet.reason(0)) == (75, "notice")
    assert fleet.launch(2)[0] == whole[0]
    proof = prove([fleet.folder])
    assert proof.proven, proof.problems
    assert (proof.steps, proof.epochs_complete) == (STEPS, 2)
    assert [(part.world_size, part.first_step, part.rolled_back_steps) for part in proof.history] == [
        (2, 0, 2),
        (1, 4, 0),
        (2, 8, 0),
    ]
    # A finished run that is launched again trains nothing.
    again = fleet.launch(1)
    assert (again[0].code, again[0].weights) == (0, whole[0].weights)
    assert prove([fleet.folder]).steps == STEPS


def test_hugging_face_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    killed_interrupted_shrunk_and_grown(tmp_path, "train_huggingface")


def test_lightning_trainer(tmp_path: Path) -> None:
    """Epochs of five steps, with a validation and a schedule's step at their ends: all in the weights."""
    pytest.importorskip("lightning")
    killed_interrupted_shrunk_and_grown(tmp_path, "train_lightning")
