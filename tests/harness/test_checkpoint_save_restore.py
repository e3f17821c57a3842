"""One process: what was saved comes back bit for bit, from wherever it is, in formats that others read."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoint import Progress, open_target
from harness.errors import ExternalServiceError
from tests.harness.checkpoint_support import RUN_ID, Job, fresh, make_config, save_steps, single


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Weights, moments, schedule, random streams and progress; training goes on as if nothing had happened."""
    config = make_config(tmp_path)
    uninterrupted = Job()
    uninterrupted.train(9)
    prints = save_steps(config, 3, 6)
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.progress.samples_seen, restored.source) == (6, 96, "local")
    assert job.fingerprint() == prints[6]
    job.train(3)
    assert job.fingerprint() == uninterrupted.fingerprint()


def test_nothing_to_restore_is_none(tmp_path: Path) -> None:
    restored, _ = fresh(make_config(tmp_path))
    assert restored is None


def test_a_node_that_has_nothing_restores_from_the_durable_target(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    prints = save_steps(config, 2)
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config)
    assert restored is not None
    assert restored.source == "remote"
    assert restored.bytes_fetched > 0
    assert job.fingerprint() == prints[2]


def test_a_durable_target_of_s3(tmp_path: Path, s3_uri: str, s3_endpoint: str) -> None:
    """The same over the S3 protocol: saved, deleted by retention, restored onto a node that has nothing."""
    config = make_config(tmp_path, s3_uri, s3_endpoint_url=s3_endpoint, keep_last=1)
    prints = save_steps(config, 1, 2)
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.source) == (2, "remote")
    assert job.fingerprint() == prints[2]
    assert [
        name for name in open_target(s3_uri, endpoint_url=s3_endpoint).children(f"{RUN_ID}/") if "step" in name
    ] == ["step-000000002-g0001"]


class Odd:
    """A user's component with every kind of tensor that is easy to get wrong."""

    def __init__(self, fill: float) -> None:
        base = torch.full((4, 6), fill)
        self.state: dict[str, Any] = {
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(fill, dtype=torch.float64),
            "strided": base.t()[::2],
            "expanded": torch.tensor([fill]).expand(5),
            "bfloat16": base.bfloat16(),
            "float8": base.to(torch.float8_e4m3fn),
            "bool": base > 0,
            "complex": base.to(torch.complex64),
            "int8": base.to(torch.int8),
            "nan": torch.tensor([float("nan"), -0.0]),
            "tied": [base, base],
            "nested": {3: {"count": int(fill), "lr": torch.tensor(0.1)}},
            "none": None,
        }

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def test_a_users_component_of_odd_tensors_comes_back(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    checkpointer = single(config)
    assert checkpointer.save({"user": Odd(2)}, Progress(step=1)).result(30).durable
    checkpointer.close()
    again = Odd(3)
    restored = single(config).restore({"user": again})
    assert restored is not None
    wanted = Odd(2).state
    assert again.state.keys() == wanted.keys()
    assert again.state["nested"].keys() == {3}
    assert again.state["nested"][3]["count"] == 2
    for key in ("empty", "scalar", "strided", "expanded", "bfloat16", "float8", "bool", "complex", "int8", "nan"):
        found, expected = again.state[key], wanted[key]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), key
        assert (
            found.contiguous().view(-1).view(torch.uint8).tolist()
            == expected.contiguous().view(-1).view(torch.uint8).tolist()
        )


@pytest.mark.parametrize("refused", [False, True], ids=["a bucket that takes it", "a bucket that refuses"])
def test_a_local_checkpoint_that_was_not_uploaded_is_restored(tmp_path: Path, monkeypatch, caplog, refused) -> None:
    """The process died between its local publication and the durable one; the disk is still there.

    The next attempt goes on from it, and finishes its upload where it can.
    """
    config = make_config(tmp_path)
    prints = save_steps(config, 2, 4)
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000004-g0001")
    (tmp_path / "node0" / RUN_ID / "step-000000004-g0001" / "manifest.json").unlink()
    target = open_target(config.checkpoint.remote)
    monkeypatch.setattr(logging.getLogger("harness"), "propagate", True)  # a run turns it off

    def refuse(*_: object, **__: object) -> None:
        raise ExternalServiceError("quota exceeded")

    if refused:
        monkeypatch.setattr(target, "put_file", refuse)
    restored, job = fresh(config, target=target)
    assert restored is not None
    assert (restored.step, restored.source, job.fingerprint()) == (4, "local", prints[4])
    assert ("is on this node's disk only: quota exceeded" in caplog.text) is refused
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, job.fingerprint()) == ((2, prints[2]) if refused else (4, prints[4]))


def test_plain_dcp_can_read_a_component(tmp_path: Path) -> None:
    """The folders are ordinary DCP checkpoints: no harness is needed to get the weights out."""
    import torch.distributed.checkpoint as dcp

    config = make_config(tmp_path)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    job.train(2)
    assert checkpointer.save(job.components, Progress(step=2)).result(30).durable
    checkpointer.close()
    other = Job().components["model"].state_dict()
    dcp.load(other, checkpoint_id=tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "model", no_dist=True)
    assert all(
        torch.equal(a, b) for a, b in zip(other.values(), job.components["model"].state_dict().values(), strict=True)
    )


def test_progress_json_is_for_people_too(tmp_path: Path) -> None:
    save_steps(make_config(tmp_path), 2)
    document = json.loads((tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "progress.json").read_text())
    assert (document["step"], document["samples_seen"]) == (2, 32)
