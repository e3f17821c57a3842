"""Misuse: another model, other shapes, unsafe state, NaN, another run. An error says what to do; nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.checkpoint import Progress
from harness.errors import InvalidInputError
from tests.harness.checkpoint_support import RUN_ID, Events, Job, make_config, save_steps, single


def test_another_models_config_is_refused_in_one_line(tmp_path: Path) -> None:
    """A run's directory is not for another config: before anything is read, and before anything is written."""
    config = make_config(tmp_path)
    save_steps(config, 2)
    checkpointer = single(config)
    with pytest.raises(InvalidInputError, match=r"another config.*component model.*choose a new run_id") as refusal:
        checkpointer.restore(Job(width=16).components)
    assert "\n" not in str(refusal.value)
    checkpointer.save(Job(width=16).components, Progress(step=3))
    with pytest.raises(InvalidInputError, match="another config"):
        checkpointer.wait()
    with pytest.raises(InvalidInputError, match="another config"):
        checkpointer.save(Job(width=16).components, Progress(step=4))


def test_a_tensor_that_differs_is_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    (tmp_path / "bucket" / RUN_ID / "identity.json").unlink()
    with pytest.raises(InvalidInputError, match=r"component model: 0\.weight: got '\[16, 4\] torch.float32'.*\[8, 4\]"):
        single(config).restore(Job(width=16).components)


def test_a_model_that_changes_shape_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """At the save that finds it; the checkpoints of the model that the run began with stay the newest."""
    config, job = make_config(tmp_path), Job()
    checkpointer = single(config)
    checkpointer.restore(job.components)
    assert checkpointer.save(job.components, Progress(step=1)).result(30).durable
    with pytest.raises(InvalidInputError, match=r"0\.weight: got '\[16, 4\].*new run_id for another one \(\[8, 4\]"):
        checkpointer.save({**job.components, "model": Job(width=16).components["model"]}, Progress(step=2))
    assert [path.name for path in (tmp_path / "node0" / RUN_ID).glob("*step-*")] == ["step-000000001-g0001"]
    assert checkpointer.save(job.components, Progress(step=2)).result(30).durable
    checkpointer.close()


def test_missing_and_unknown_components_are_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    components = {**Job().components, "ema": nn.Linear(2, 2)}
    with pytest.raises(InvalidInputError, match="component ema: got 'not in the checkpoint'"):
        single(config).restore(components)


def test_another_runs_directory_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    (tmp_path / "node0" / RUN_ID).rename(tmp_path / "node0" / "other")
    with pytest.raises(InvalidInputError, match="belongs to run demo"):
        single(make_config(tmp_path, run_id="other")).restore(Job().components)
    shutil.copytree(tmp_path / "bucket" / RUN_ID, tmp_path / "bucket" / "third")
    shutil.rmtree(tmp_path / "bucket" / "third" / "generations")
    (tmp_path / "bucket" / "third" / "identity.json").unlink()
    with pytest.raises(InvalidInputError, match="of run demo"):
        single(make_config(tmp_path, run_id="third")).restore(Job().components)


class Unsafe:
    def state_dict(self):
        return {"callback": print}

    def load_state_dict(self, state):
        pass


def test_state_that_cannot_be_stored_safely_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"component user: callback: got 'a builtins"):
        single(make_config(tmp_path)).save({"user": Unsafe()}, Progress(step=1))
    with pytest.raises(InvalidInputError, match=r"component name: got '\.\./model'"):
        single(make_config(tmp_path)).save({"../model": nn.Linear(1, 1)}, Progress(step=1))


def test_a_state_with_nan_is_refused_if_asked_for(tmp_path: Path) -> None:
    """The checkpoint does not appear, the error names the tensor and what to do, and the next save ends the run."""
    config, events, job = make_config(tmp_path, refuse_nan=True), Events(), Job()
    checkpointer = single(config, on_event=events)
    job.train(1)
    checkpointer.save(job.components, Progress(step=1))
    checkpointer.wait()
    with torch.no_grad():
        job.components["model"][0].bias[3] = torch.nan
    handle = checkpointer.save(job.components, Progress(step=2))
    assert handle.result(30).status == "failed"
    assert events.seen[-1][0] == "checkpoint_failed"
    with pytest.raises(InvalidInputError, match=r"component model: 0.bias: got 'NaN in 1 of 8.*lower learning rate"):
        checkpointer.save(job.components, Progress(step=3))
    assert [path.name for path in (tmp_path / "bucket" / RUN_ID).glob("step-*")] == ["step-000000001-g0001"]
    other = single(make_config(tmp_path / "other"))
    assert other.save(job.components, Progress(step=2)).result(30).durable
