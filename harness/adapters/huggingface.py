"""Hugging Face's Trainer under a `harness.Run` (extra ``huggingface``).

    with harness.Run.from_env() as run:
        trainer = Trainer(model=model, args=TrainingArguments(...), train_dataset=dataset)
        resume_with(run, trainer)
        trainer.train()

Docs: docs/integrations.md.
"""

# ruff: noqa: ARG002  the trainer passes its arguments by keyword, needed or not

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from harness.adapters.feed import Feed
from harness.errors import InvalidInputError
from harness.run import Run

__all__ = ["HarnessCallback", "resume_with"]

_STATE = (
    "log_history", "best_metric", "best_global_step", "best_model_checkpoint", "total_flos", "num_input_tokens_seen",
)  # fmt: skip
_ORDERS = ("random", "sequential")


def resume_with(run: Run, trainer: Trainer, *, global_batch_samples: int | None = None) -> HarnessCallback:
    """Have `trainer` train as `run`: its data in the run's order, its state in the run's checkpoints.

    Before `trainer.train()`, without ``resume_from_checkpoint``.  `global_batch_samples` is over all ranks and
    accumulation steps; by default the config's, else what the trainer's arguments make of the full fleet.  A forward
    pass has ``per_device_train_batch_size`` samples at most; ``gradient_accumulation_steps`` follows from these two and
    the world size.

    InvalidInputError for what the run cannot resume exactly: iterable datasets, samplers with an order of their own,
    ``auto_find_batch_size``, DeepSpeed.
    """
    callback = HarnessCallback(run, trainer, global_batch_samples)
    trainer.add_callback(callback)
    return callback


class HarnessCallback(TrainerCallback):
    """Made by `resume_with`."""

    def __init__(self, run: Run, trainer: Trainer, global_batch_samples: int | None) -> None:
        args = trainer.args
        order = getattr(args, "train_sampling_strategy", "random")
        for name, found, wanted in (
            ("auto_find_batch_size", args.auto_find_batch_size, False),
            ("train_sampling_strategy", order, order if order in _ORDERS else " or ".join(_ORDERS)),
            ("deepspeed", bool(args.deepspeed), False),
        ):
            if found != wanted:
                raise InvalidInputError(f"TrainingArguments.{name}", found, str(wanted), "the run cannot resume it")
        self._run, self._trainer = run, trainer
        self._feed = Feed(run, trainer.get_train_dataloader())
        self._feed.arrange(
            global_batch_samples,
            micro_batch_samples=args.per_device_train_batch_size,
            accumulation_steps=args.gradient_accumulation_steps,
        )
        args.gradient_accumulation_steps = self._feed.accumulation_steps
        self._check_weights()
        self._in_step = False
        self._loss: torch.Tensor | float = 0.0
        self._compute_loss = trainer.compute_loss
        # Both are there to be overridden; on the instance, so that any subclass of Trainer will do.
        vars(trainer).update(get_train_dataloader=lambda: self._feed, compute_loss=self._weighted_loss)

    def _check_weights(self) -> None:
        """Losses that the trainer normalises by counting tokens are exact unless a rank repeats a sample."""
        plan = self._feed.plan
        if not self._counts_items() or plan.global_batch_samples % (plan.world_size * plan.accumulation_steps) == 0:
            return
        if plan.global_batch_samples // plan.world_size < plan.accumulation_steps:
            need = plan.world_size * plan.accumulation_steps
            raise InvalidInputError(
                "global_batch_samples", plan.global_batch_samples, f"at least {need}, one sample in each forward pass"
            )
        if not self._trainer.args.average_tokens_across_devices:
            raise InvalidInputError(
                "TrainingArguments.average_tokens_across_devices", False, "true where ranks have unequal shares"
            )

    def _counts_items(self) -> bool:
        """The loss may come normalised over the whole batch (``num_items_in_batch``)."""
        trainer = self._trainer
        return bool(trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None)

    def _weighted_loss(self, *args: Any, **kwargs: Any) -> Any:
        found = self._compute_loss(*args, **kwargs)
        if not self._in_step:
            return found  # an evaluation
        scaled = getattr(self._trainer, "loss_is_scaled_for_ga", None)
        if scaled is None:
            scaled = self._counts_items() and kwargs.get("num_items_in_batch") is not None
        loss, *outputs = found if isinstance(found, tuple) else (found,)
        factor = 1.0 if scaled else self._feed.loss_factor
        if factor != 1.0:
            loss = loss * factor
        self._loss = self._loss + loss.detach() / (1 if scaled else self._feed.accumulation_steps)
        return (loss, *outputs) if outputs else loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Everything is built: restore it, and go on where it was."""
        trainer, run = self._trainer, self._run
        if state.global_step:
            raise InvalidInputError(
                "resume_from_checkpoint", state.global_step, "nothing: the run restores its own newest checkpoint"
            )
        run.register(
            model=trainer.model_wrapped,
            optimizer=getattr(trainer.optimizer, "optimizer", trainer.optimizer),
            scheduler=getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler),
            scaler=getattr(trainer.accelerator, "scaler", None),
            trainer=_TrainerState(trainer),
        )
        run.restore()
        state.global_step = run.step
        state.epoch = run.step / self._feed.steps_per_epoch
        # What the trainer divides its first logged loss and its speed by.
        trainer._globalstep_last_logged = trainer._initial_global_step = run.step
        self._feed.begin(state.max_steps)
        if run.step >= state.max_steps:
            control.should_training_stop = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer has fetched all micro-batches of the step, and computes the first."""
        self._in_step, self._loss = True, 0.0
        self._computes(0)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A micro-batch that was not the last is done."""
        self._computes(self._feed.number + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer step is done; evaluation may follow before the run counts it."""
        self._in_step = False
        state.epoch = state.global_step / self._feed.steps_per_epoch
        self._run.observe(loss=self._loss)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leaving `run`'s block saves the last step."""
        self._feed.end()

    def _computes(self, number: int) -> None:
        self._feed.number = number
        assert self._feed.step is not None, "the trainer computes what it has fetched"
        self._feed.step.computes(number)


class _TrainerState:
    """What the Trainer and its callbacks remember beside weights: JSON, as in its own checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def _callbacks(self) -> list[Any]:
        return [c for c in self._trainer.callback_handler.callbacks if isinstance(c, ExportableState)]

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self._trainer.state, name) for name in _STATE if hasattr(self._trainer.state, name)}
        callbacks = [[type(c).__name__, c.state().get("attributes", {})] for c in self._callbacks()]
        return {"json": json.dumps({"state": state, "callbacks": callbacks})}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        document = json.loads(saved["json"])
        for name, value in document["state"].items():
            setattr(self._trainer.state, name, value)
        left = list(document["callbacks"])
        for callback in self._callbacks():
            mine = next((entry for entry in left if entry[0] == type(callback).__name__), None)
            if mine is not None:
                left.remove(mine)
                for name, value in mine[1].items():
                    setattr(callback, name, value)
