"""Lightning's Trainer under a `harness.Run` (extra ``lightning``).

    with harness.Run.from_env() as run:
        callback = HarnessCallback(run)
        trainer = Trainer(callbacks=[callback], **callback.placement, max_epochs=3, ...)
        trainer.fit(model, callback.loader(DataLoader(dataset, batch_size=8, num_workers=4)))

Docs: docs/integrations.md.
"""

# ruff: noqa: ARG002  Lightning passes all arguments of a hook, needed or not

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from harness.adapters.feed import NO_END, Feed
from harness.errors import InvalidInputError
from harness.run import Run

__all__ = ["HarnessCallback"]

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy", "ModelParallelStrategy")


class HarnessCallback(Callback):
    """Has a Lightning Trainer train as `run`: its data in the run's order, its state in the run's checkpoints.

    Parameters
    ----------
    run:                   made before the Trainer, so that the process group is the run's.
    global_batch_samples:  over all ranks and accumulation steps; by default the config's, else what the loader's
                           batch_size and ``accumulate_grad_batches`` make of the full fleet.  A forward pass has
                           batch_size samples at most; ``accumulate_grad_batches`` follows from both and the world size.

    InvalidInputError, when `fit` begins, for what the run cannot resume exactly: manual optimization, strategies other
    than one device, DDP and ModelParallelStrategy, ``ckpt_path``, ``limit_train_batches``.
    """

    def __init__(self, run: Run, *, global_batch_samples: int | None = None) -> None:
        self._run, self._global_batch_samples = run, global_batch_samples
        self._trainer: Trainer | None = None
        self._feed: Feed | None = None
        self._accumulate = 1
        self._loss: torch.Tensor | float = 0.0
        self._run_handler = signal.getsignal(signal.SIGTERM)

    @property
    def placement(self) -> dict[str, Any]:
        """Arguments of Trainer that describe the processes that torchrun has started."""
        per_node = self._run.local_world_size
        return {
            "accelerator": "gpu" if self._run.device.type == "cuda" else "cpu",
            "devices": per_node,
            "num_nodes": self._run.world_size // per_node,
        }

    def loader(self, loader: DataLoader[Any]) -> Feed:
        """What to give to `fit`, or to return from `train_dataloader`, instead of `loader`."""
        self._feed = Feed(self._run, loader)
        if self._trainer is not None:
            self._arrange(self._trainer)
        return self._feed

    def _arrange(self, trainer: Trainer) -> None:
        assert self._feed is not None
        self._feed.arrange(
            self._global_batch_samples,
            micro_batch_samples=self._feed.batch_size,
            accumulation_steps=self._accumulate,
        )
        trainer.accumulate_grad_batches = self._feed.accumulation_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The Trainer is known."""
        if stage != "fit":
            return
        self._trainer, self._accumulate = trainer, trainer.accumulate_grad_batches
        self._check(trainer, pl_module)
        if self._feed is not None:
            self._arrange(trainer)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        strategy = type(trainer.strategy).__name__
        own_accumulation = any(type(c) is GradientAccumulationScheduler for c in trainer.callbacks)  # type: ignore[attr-defined]
        for name, found, wanted, hint in (
            ("Trainer.strategy", strategy, strategy if strategy in _STRATEGIES else " or ".join(_STRATEGIES), ""),
            ("LightningModule.automatic_optimization", module.automatic_optimization, True, ""),
            ("Trainer.limit_train_batches", trainer.limit_train_batches, 1.0, "use max_steps to end early"),
            ("Trainer.overfit_batches", getattr(trainer, "overfit_batches", 0.0), 0.0, ""),
            ("Trainer: processes", trainer.world_size, self._run.world_size, "pass **callback.placement to it"),
            ("GradientAccumulationScheduler", own_accumulation, False, "accumulation follows the world size"),
            ("fit(ckpt_path=…)", trainer.ckpt_path, None, "the run restores its own newest checkpoint"),
        ):
            if found != wanted:
                raise InvalidInputError(name, found, str(wanted), hint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything is built: restore it, and go on where it was."""
        trainer.fit_loop.setup_data()  # asks the module for its loader, if `fit` was given none
        feed, run = self._feed, self._run
        if feed is None:
            raise InvalidInputError("train dataloader", "one of its own", "callback.loader(DataLoader(...))")
        optimizers: list[Any] = trainer.optimizers
        run.register(
            model=trainer.strategy.model,
            **{f"optimizer_{i}" if i else "optimizer": o for i, o in enumerate(optimizers)},
            **{f"scheduler_{i}" if i else "scheduler": c.scheduler for i, c in enumerate(trainer.lr_scheduler_configs)},
            trainer=_TrainerState(trainer),
        )
        run.restore()
        total = trainer.estimated_stepping_batches
        feed.begin(int(total) if 0 <= total < NO_END else NO_END)
        if run.step:
            _go_on(trainer, run.step, feed)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning has just put its own handler in place."""
        self._hear_sigterm()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As above."""
        self._hear_sigterm()

    def _hear_sigterm(self) -> None:
        """SIGTERM is the run's.  Lightning's handler starts a broadcast, alone, on the rank that was told."""
        if callable(self._run_handler):
            signal.signal(signal.SIGTERM, self._run_handler)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Weigh unequal micro-batches.  In place: `loss` is a quotient of Lightning's own, which nothing else holds."""
        assert self._feed is not None
        factor = self._feed.loss_factor
        if factor != 1.0:
            loss.mul_(factor)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Observe the loss of a step whose last micro-batch this was."""
        assert self._feed is not None
        _has_gone_on(trainer)
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:
            return
        self._loss = self._loss + loss.detach() * self._feed.loss_factor
        if self._feed.number == self._feed.accumulation_steps - 1:
            self._run.observe(loss=self._loss)
            self._loss = 0.0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaving `run`'s block saves the last step."""
        assert self._feed is not None
        self._feed.end()


def _go_on(trainer: Trainer, step: int, feed: Feed) -> None:
    """Put the Trainer's loops where `step` steps are done: through the state that its own checkpoints hold.

    Computed, not saved: at another world size a step has another number of batches.
    """
    loops = trainer.fit_loop
    per_epoch, accumulate = feed.steps_per_epoch, feed.accumulation_steps
    epoch, within = divmod(step, per_epoch)
    inside = within > 0
    state = loops.state_dict()

    def count(name: str, total: int, current: int, *, unfinished: int = 0, begun: int = 0) -> None:
        for kind, done in (("total", total), ("current", current)):
            for stage in state[name][kind]:
                # As Lightning counts: ready, started, processed, completed, one after the other.
                late = unfinished if stage == "completed" else 0
                early = begun if stage in {"ready", "started"} else 0
                state[name][kind][stage] = done - late + early

    count("epoch_progress", epoch, epoch, begun=int(inside))
    # Inside of an epoch, as if saved in `on_train_batch_end`, which Lightning completes when it goes on.
    count("epoch_loop.batch_progress", step * accumulate, within * accumulate, unfinished=int(inside))
    steps = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for progress in steps.values():
        for stage in progress["total"]:
            progress["total"][stage] = step
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = step - int(inside)
    loops.load_state_dict(state)
    if not inside:  # between two epochs there is nothing to take up
        loops.epoch_loop.restarting = False
        _has_gone_on(trainer)


def _has_gone_on(trainer: Trainer) -> None:
    """The epoch that was taken up is one like any other: its end steps ReduceLROnPlateau, which Lightning leaves out in
    an epoch that was resumed.  (Its setter makes `restarting` true wherever training is bounded by steps.)
    """
    trainer.fit_loop._restarting = False


class _TrainerState:
    """What callbacks, the data module and the precision plugin remember beside weights."""

    def __init__(self, trainer: Trainer) -> None:
        self._holders: dict[str, Any] = {"precision": trainer.precision_plugin}
        datamodule = getattr(trainer, "datamodule", None)
        if datamodule is not None:
            self._holders["datamodule"] = datamodule
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            self._holders[f"callback {callback.state_key}"] = callback

    def state_dict(self) -> dict[str, Any]:
        states = {name: holder.state_dict() for name, holder in self._holders.items()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for name, holder in self._holders.items():
            if name in saved:
                holder.load_state_dict(saved[name])
