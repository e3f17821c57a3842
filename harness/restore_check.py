"""The restore check: the first loss after a restore must be the loss that the interrupted attempt went on with."""

from __future__ import annotations

import logging
import math
import threading

import torch

from harness.attempt import Attempt
from harness.checkpoint.next_loss import NextLoss, difference, read_next_loss, write_next_loss
from harness.checkpoint.outcomes import RestoredState
from harness.checkpoint.ranks import together
from harness.errors import CheckpointError, SpotPlannerError

_log = logging.getLogger("harness")


class RestoreCheck:
    """Notes the loss after each checkpoint and compares it after a restore, as `checkpoint.restore_check` asks.

    `restored` and `step_done` are collective when the check is on; when it is off they do nothing.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._mode = attempt.config.checkpoint.restore_check
        self._tolerance = attempt.config.checkpoint.restore_check_tolerance
        self._observed: tuple[int, torch.Tensor | float] | None = None
        self._expected: tuple[int, NextLoss] | None = None
        self._noted: str | None = None
        self._complained = False

    def restored(self, state: RestoredState | None) -> None:
        """Training goes on from `state`: look up what its next loss was."""
        if self._mode == "off" or state is None:
            return
        self._noted = state.name
        attempt = self._attempt

        def read() -> NextLoss | None:
            lead = attempt.placement.rank == 0
            return read_next_loss(attempt.target, attempt.config.run_id, state.name) if lead else None

        found = together(attempt.ranks, read)[0]
        if found is not None:
            self._expected = (state.step, found)
        elif attempt.placement.rank == 0:
            _log.info("%s cannot be checked by its next loss: the run ended before that step", state.name)

    def forget(self) -> None:
        """The next step is not the one whose loss was saved."""
        if self._expected is not None and self._attempt.placement.rank == 0:
            _log.info("%s is not checked by its next loss: other data follows it now", self._expected[1].name)
        self._expected = None

    def observe(self, step: int, loss: torch.Tensor | float) -> None:
        """The loss of step number `step` (counted from 0)."""
        self._observed = (step, loss)

    def step_done(self, step: int) -> None:
        """Step number `step` is done.  CheckpointError when its loss refutes the restore and the mode is stop."""
        if self._mode == "off":
            return
        if self._expected is not None:
            (expected_step, expected), self._expected = self._expected, None
            if expected_step == step:
                self._compare(expected, step)
        latest = self._attempt.checkpointer.latest
        if latest is not None and latest.step == step and latest.name != self._noted:
            self._noted = latest.name
            self._note(latest.name, step)

    def _losses(self, step: int) -> tuple[float, ...] | None:
        """Of all ranks; None when a rank has not observed this step's."""
        mine = self._observed
        value = float(mine[1]) if mine is not None and mine[0] == step else None
        losses = self._attempt.ranks.gather(value)
        if any(loss is None for loss in losses):
            if not self._complained:
                self._complained = True
                _log.warning("the restore check needs run.observe(loss=...) in every step: step %d has none", step)
            return None
        return tuple(loss for loss in losses if loss is not None)

    def _compare(self, expected: NextLoss, step: int) -> None:
        losses = self._losses(step)
        if losses is None:
            return
        found = difference(expected, losses, self._tolerance)
        lead = self._attempt.placement.rank == 0
        if found is None:
            if lead:
                _log.info("restore check: the loss after %s is the one that was saved", expected.name)
            return
        message = (
            f"restore check: the first loss after {expected.name} is not the one that was saved ({found}). Something "
            "that training depends on is not registered, loads itself wrongly or has been changed; if the change was "
            "meant, set checkpoint.restore_check: warn for this start"
        )
        if self._mode == "stop":
            raise CheckpointError(message)
        if lead:
            _log.warning("%s", message)

    def _note(self, name: str, step: int) -> None:
        losses = self._losses(step)
        if losses is None or self._attempt.placement.rank != 0 or not all(map(math.isfinite, losses)):
            return
        record = NextLoss(run_id=self._attempt.config.run_id, name=name, losses=losses)

        def write() -> None:
            try:
                write_next_loss(self._attempt.target, record)
            except SpotPlannerError as error:
                _log.warning("the loss after %s could not be saved for the restore check: %s", name, error)

        # In the background: training must not wait for the durable target.
        threading.Thread(target=write, name=f"next-loss-{name}", daemon=True).start()
