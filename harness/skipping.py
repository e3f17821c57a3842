"""Data that is passed over because somebody asked for it (``data: {skip: [{at_step: 1000, steps: 50}]}``).

After a loss spike: go back to a checkpoint before it, and go on behind the data that led there.  What is skipped
depends on the step alone, so every restart, and every number of ranks, passes over the same samples.
"""

from __future__ import annotations

import logging

from harness.attempt import Attempt
from harness.checkpoint.outcomes import RestoredState
from harness.errors import InvalidInputError
from harness.ledger_writer import LedgerWriter
from harness.position import SKIPPED, Position, parse_skipped

_log = logging.getLogger("harness")


class Skips:
    """What the config asks to be passed over; `apply` moves the position, at the same step on every rank."""

    def __init__(self, attempt: Attempt, position: Position) -> None:
        self._attempt, self._position = attempt, position
        self._asked = {skip.at_step: skip.steps for skip in attempt.config.data.skip}

    def check(self, restored: RestoredState | None) -> None:
        """InvalidInputError when a skip comes too late, or where samples have no position."""
        if self._asked and self._position.samples is None:
            raise InvalidInputError("data.skip", "a skip", "none for a stream, whose samples have no position")
        remembered = None if restored is None else restored.progress.user.get(SKIPPED)
        self._position.skipped = done = parse_skipped(remembered)
        late = [step for step in sorted(self._asked) if step < self._position.step and step not in done]
        if late:
            raise InvalidInputError(
                "data.skip",
                f"at_step {late[0]}",
                f"at least {self._position.step}, the step that was restored",
                f"to skip before it, delete the checkpoints after step {late[0]}",
            )

    def apply(self, batch: int, ledger: LedgerWriter | None) -> bool:
        """Pass over what is asked for before the step that comes next; True when something was.

        `batch`: samples of a step at the reference world size.
        """
        position = self._position
        steps = self._asked.get(position.step)
        if steps is None or position.step in position.skipped:
            return False
        samples = steps * batch
        position.skipped[position.step] = samples
        position.samples_seen += samples
        if ledger is not None:
            ledger.skipped(position.step, samples)
        if self._attempt.leads_node:
            self._attempt.telemetry.emit("data_skipped", step=position.step, samples=samples)
        if self._attempt.placement.rank == 0:
            _log.info(
                "before step %d: %d samples are skipped, as data.skip asks (%d steps)", position.step, samples, steps
            )
        return True
