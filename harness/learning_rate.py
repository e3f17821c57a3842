"""The learning rate follows the batch: a scale on top of whatever optimizer and schedule say.

The scale is applied inside `optimizer.step()` only, by its hooks: the optimizer's own learning rate, the schedule and
the checkpoint never contain it.  Loading a checkpoint can therefore not undo it, and a schedule cannot overwrite it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torch.optim import Optimizer

Rule = Literal["unchanged", "linear", "sqrt"]

_TARGET, _FROM, _SINCE = "learning_rate_target", "learning_rate_from", "learning_rate_since_step"


class LearningRateScale:
    """The factor in force at each step, with a linear warm-up of `warm_up_steps` after a change.

    `adopt` and `begin` come before the first step, in this order; `at` moves it.
    """

    def __init__(self, warm_up_steps: int) -> None:
        self._warm_up_steps = warm_up_steps
        self._target = self._from = 1.0
        self._since = 0
        self._known = False
        self.value = 1.0
        """In force now."""
        self._applied: list[Optimizer] = []

    def adopt(self, saved: dict[str, Any]) -> None:
        """What a checkpoint remembers of it (`remembered`); nothing when the run was begun without it."""
        if _TARGET in saved:
            self._target, self._from = float(saved[_TARGET]), float(saved[_FROM])
            self._since, self._known = int(saved[_SINCE]), True

    def begin(self, target: float, step: int) -> bool:
        """Training goes on at `step` with a batch that asks for `target`; True when this is a change."""
        changed = self._known and target != self._target
        if changed:
            self._from, self._since = self._at(step), step
        elif not self._known:
            self._from, self._since = target, step  # a run begins with its own scale, without a warm-up
        self._target, self._known = target, True
        self.at(step)
        return changed

    def at(self, step: int) -> float:
        """Move to the step with this number (counted from 0)."""
        self.value = self._at(step)
        return self.value

    def _at(self, step: int) -> float:
        done = step - self._since + 1
        if self._from == self._target or done >= self._warm_up_steps:
            return self._target
        return self._from + (self._target - self._from) * done / self._warm_up_steps

    def remembered(self) -> dict[str, float | int]:
        """For the checkpoint: a warm-up that is interrupted goes on where it was."""
        return {_TARGET: self._target, _FROM: self._from, _SINCE: self._since}

    def apply_to(self, optimizers: Iterable[Optimizer]) -> None:
        """Scale the learning rates of these optimizers, inside their steps, from now on: once, however often given."""
        for optimizer in optimizers:
            if all(optimizer is not known for known in self._applied):
                self._applied.append(optimizer)
                _Scaled(self).attach(optimizer)


class _Scaled:
    """The hooks of one optimizer."""

    def __init__(self, scale: LearningRateScale) -> None:
        self._scale = scale
        self._own: list[Any] = []
        self._scaled: list[Any] = []

    def attach(self, optimizer: Optimizer) -> None:
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        # PyTorch hooks `step` once per class: a subclass that calls its parent's step comes here twice for one step.
        groups = optimizer.param_groups
        if self._own and all(group["lr"] is ours for group, ours in zip(groups, self._scaled, strict=False)):
            return
        self._own, self._scaled = [], []
        if self._scale.value == 1.0:
            return
        for group in groups:
            self._own.append(group["lr"])
            group["lr"] = group["lr"] * self._scale.value
            self._scaled.append(group["lr"])

    def _after(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        # The very objects that were there before: dividing would round.
        for group, own in zip(optimizer.param_groups, self._own, strict=False):
            group["lr"] = own
        self._own, self._scaled = [], []
