"""The restore check: a state that is valid but not the right one is caught by the first loss after the restore."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoint.next_loss import NextLoss, difference
from harness.randomness import RandomState
from harness.run import Run
from harness.status import read_status
from tests.harness.checkpoint_support import fork_ranks, join_group
from tests.harness.run_support import train, train_rank, write_config

STEPS = 9
CRASH_AT = 6


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def crash(run: Run) -> None:
    if run.step == CRASH_AT:
        for thread in threading.enumerate():
            if thread.name.startswith(("next-loss-", "checkpoint-")):
                thread.join(20)  # what was saved at step 4 is durable, and its next loss noted
        raise RuntimeError("the training code fails")


def crashed(folder: Path, **checkpoint: Any) -> Path:
    """A config whose run crashed in step 6, after its checkpoint at step 4."""
    config = write_config(folder, checkpoint={"restore_check": "stop", **checkpoint})
    with pytest.raises(RuntimeError, match="the training code fails"):
        train(config, steps=STEPS, at_step=crash)
    return config


def test_a_right_restore_passes_and_changes_nothing(tmp_path: Path, capfd) -> None:
    """With a tolerance of 0: on one machine the loss is the very same number."""
    config = crashed(tmp_path, restore_check_tolerance=0)
    found = json.loads((tmp_path / "bucket" / "run" / "step-000000004-g0001" / "next-loss.json").read_text())
    assert found["content"]["name"] == "step-000000004-g0001"
    assert train(config, steps=STEPS).code == 0
    told = capfd.readouterr().err
    assert "restore check: the loss after step-000000004-g0001 is the one that was saved" in told


def forget_random_state(self: RandomState, state: dict[str, Any]) -> None:
    """A restore that leaves the random streams where a fresh start has them: other dropout, same weights."""


@pytest.mark.parametrize("mode", ["stop", "warn"])
def test_a_valid_but_wrong_state_is_caught(tmp_path: Path, monkeypatch, capfd, mode: str) -> None:
    crashed(tmp_path)
    config = write_config(tmp_path, checkpoint={"restore_check": mode, "restore_check_tolerance": 0.001})
    monkeypatch.setattr(RandomState, "load_state_dict", forget_random_state)
    outcome = train(config, steps=STEPS)
    told = capfd.readouterr().err
    assert "the first loss after step-000000004-g0001 is not the one that was saved (rank 0: " in told
    assert outcome.code == (1 if mode == "stop" else 0)
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert status.resumable is False


def crash_rank(rank: int, store: Path, config: Path) -> str:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", GROUP_RANK=str(rank))
    os.environ.update(GROUP_WORLD_SIZE="2", PET_NNODES="2")
    join_group(rank, 2, store)
    with pytest.raises(RuntimeError, match="the training code fails"):
        train(config, steps=STEPS, at_step=crash)
    return "crashed"


def test_all_ranks_losses_are_saved_and_compared(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, checkpoint={"restore_check": "stop", "restore_check_tolerance": 0}, torchrun={"nnodes": "2"}
    )
    assert fork_ranks(2, crash_rank, tmp_path / "store", config) == ["crashed"] * 2
    found = json.loads((tmp_path / "bucket" / "run" / "step-000000004-g0001" / "next-loss.json").read_text())
    assert len(found["content"]["losses"]) == 2
    assert found["content"]["losses"][0] != found["content"]["losses"][1]
    outcomes = fork_ranks(2, train_rank, 2, tmp_path / "store2", config, {"steps": STEPS})
    assert [outcome.code for outcome in outcomes] == [0, 0]


def test_losses_differ_by_rank_or_by_their_mean() -> None:
    saved = NextLoss(run_id="run", name="step-000000004-g0001", losses=(1.0, 3.0))
    assert difference(saved, (1.0, 3.0), 0.0) is None
    assert difference(saved, (1.01, 3.0), 0.02) is None
    assert difference(saved, (1.0, 3.1), 0.02) == "rank 1: 3.1, was 3"
    assert difference(saved, (2.0,), 0.0) is None
    assert difference(saved, (2.0, 2.0, 2.1), 0.01) == "mean of all ranks: 2.03333333, was 2"
    assert difference(saved, (float("nan"), 3.0), 1.0) == "rank 0: nan, was 1"
