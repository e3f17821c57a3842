"""Trainers whose micro-batches are of unequal size, and what the adapters refuse, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from harness.config import load_run_config
from harness.run import Run
from harness.status import read_status
from tests.harness.run_support import write_config

FEATURES = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.randn(30, 1, generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)


def net() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(5, 1)


def train_lightning(run: Run, micro: int, folder: Path, **options: Any) -> list[float]:
    """Three steps of 7 samples, at most `micro` in a pass; the weights."""
    lightning = pytest.importorskip("lightning.pytorch")
    from harness.adapters.lightning import HarnessCallback

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: Any) -> Any:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = HarnessCallback(run, global_batch_samples=7)
    trainer = lightning.Trainer(
        **callback.placement, callbacks=[callback], max_steps=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip
    module = Module()
    trainer.fit(module, callback.loader(DataLoader(TensorDataset(FEATURES, LABELS), batch_size=micro)))
    return [*module.net.weight.flatten().tolist()]


def train_huggingface(run: Run, micro: int, folder: Path, **options: Any) -> list[float]:
    """The same, with a model that knows nothing of the Trainer's way to normalise losses."""
    transformers = pytest.importorskip("transformers")
    from harness.adapters.huggingface import resume_with

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.net(features) - labels).square().mean()}

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=3, per_device_train_batch_size=micro, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, **options,
    )  # fmt: skip
    data = [{"features": x, "labels": y} for x, y in zip(FEATURES, LABELS, strict=True)]
    model = Model()
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    resume_with(run, trainer, global_batch_samples=7)
    trainer.train()
    return [*model.net.weight.flatten().tolist()]


TRAINERS = {"lightning": train_lightning, "huggingface": train_huggingface}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_unequal_micro_batches_give_the_mean_over_the_batch(tmp_path: Path, trainer: str) -> None:
    """7 samples in passes of 1, 2, 2 and 2, and in one pass: the same weights within rounding.

    Means of equal weight, which the trainers take by themselves, are 1e-2 off.
    """
    found = []
    for micro in (7, 2):
        config = load_run_config(write_config(tmp_path / str(micro)))
        with Run.from_env(config, device="cpu") as run:
            found.append(TRAINERS[trainer](run, micro, tmp_path))
            assert run.plan(7).accumulation_steps == 1
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-6)
    assert np.abs(np.subtract(found[0], net().weight.flatten().tolist())).max() > 1e-2


@pytest.mark.parametrize(
    ("trainer", "options", "says"),
    [
        ("lightning", {"limit_train_batches": 2}, "Trainer.limit_train_batches"),
        ("huggingface", {"auto_find_batch_size": True}, "TrainingArguments.auto_find_batch_size"),
        ("huggingface", {"train_sampling_strategy": "group_by_length"}, "TrainingArguments.train_sampling_strategy"),
    ],
)
def test_what_cannot_be_resumed_is_bad_input(tmp_path: Path, trainer: str, options: Any, says: str) -> None:
    """Exit code 2 and one line that names the setting, before anything is trained."""
    config = load_run_config(write_config(tmp_path))
    with pytest.raises(SystemExit) as ended, Run.from_env(config, device="cpu") as run:
        TRAINERS[trainer](run, 2, tmp_path, **options)
    assert ended.value.code == 2
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert (status.state, status.step) == ("bad-input", 0)
    assert says in (status.message or "")
