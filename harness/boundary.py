"""What happens between two steps, at the same step on every rank: agree, save when it is due, leave when told to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from harness.agreement import Agreed, Agreement
from harness.attempt import Attempt
from harness.board import NoticeBoard
from harness.environment import minimum_nodes
from harness.errors import CheckpointError, ExternalServiceError
from harness.leaving import LeavingError
from harness.policy import EverySteps, SaveContext, SavePolicy, interval_steps
from harness.position import Position
from harness.timing import StepTimer

_log = logging.getLogger("harness")


class Boundary:
    """Decides and acts after every step.  Construction and `pass_` are collective.

    `components` gives what a checkpoint holds, when it is asked.
    """

    def __init__(
        self,
        attempt: Attempt,
        board: NoticeBoard,
        position: Position,
        timer: StepTimer,
        components: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._attempt, self._board, self._position, self._timer = attempt, board, position, timer
        self._components = components
        self._last_save_step = position.step
        self._hinted_before = False
        self._interval: SavePolicy | None = None
        self._set_interval()
        config, placement = attempt.config, attempt.placement
        self._agreement = Agreement(
            nodes=placement.nodes,
            node_rank=placement.node_rank,
            world_size=placement.world_size,
            notice_seconds=config.notices.notice_seconds,
            fixed_every_steps=config.notices.agreement_every_steps,
            timeout_seconds=config.torchrun.process_group_timeout_seconds,
        )

    def started_at(self, step: int) -> None:
        """Training goes on from `step`, whose checkpoint exists (or needs none)."""
        self._last_save_step = step

    def pass_(self) -> None:
        """Go through the boundary after a step; raises LeavingError when this process is to end here."""
        agreed = self._agreement.at_boundary(
            self._position.step,
            step_seconds=self._timer.step_seconds,
            notice=self._board.level,
            stop=self._board.stop.is_set(),
        )
        hint = False
        if agreed is not None:
            if agreed.step_seconds > 0.0:
                self._position.step_seconds = agreed.step_seconds
                self._set_interval()
            # The all-reduce that was launched before the early save still carries its hint: act on the rising edge.
            hint = agreed.precaution and not self._hinted_before
            self._hinted_before = agreed.precaution
        if self._position.step == self._position.total_steps:
            return  # the final checkpoint follows, notice or not
        if agreed is not None and (agreed.doomed_nodes or agreed.stop):
            self._leave(agreed)
        if hint:
            self._save("precaution")
            self._board.precaution_taken()
        elif self._is_due():
            self._save("periodic")

    def finish(self) -> None:
        """The last step is done: no agreement stays in flight."""
        self._agreement.drain()

    def _is_due(self) -> bool:
        if self._interval is None:
            return False
        position = self._position
        return self._interval.should_save(
            SaveContext(
                step=position.step,
                work_seconds=position.work_seconds,
                last_save_step=self._last_save_step,
                last_save_work_seconds=self._last_save_step * position.step_seconds,
                notice_active=False,
            )
        )

    def _set_interval(self) -> None:
        """Steps from the config, or from its seconds and the step time that all ranks agreed on (none before)."""
        interval, step_seconds = self._attempt.config.checkpoint.interval, self._position.step_seconds
        if interval.steps is not None:
            self._interval = EverySteps(interval.steps)
        elif interval.seconds is not None and step_seconds > 0.0:
            self._interval = EverySteps(interval_steps(interval.seconds, step_seconds))

    def _save(self, reason: str) -> None:
        with self._timer.stall():
            self._attempt.checkpointer.save(self._components(), self._position.progress(), reason=reason)
        self._last_save_step = self._position.step

    def _leave(self, agreed: Agreed) -> NoReturn:
        """A node is doomed, or the user stops the run: save, then part."""
        placement = self._attempt.placement
        self._save_for_leaving()
        left_over = placement.nodes - len(agreed.doomed_nodes)
        minimum = minimum_nodes(self._attempt.config)
        ends = True
        if agreed.stop:
            reason, detail = "stopped", "the user stopped the run"
        elif placement.node_rank in agreed.doomed_nodes:
            # After SIGTERM alone nobody here can tell a reclaim from the agent restarting its workers for a newcomer.
            told = self._board.signalled.is_set()
            reason, detail = "notice", "told to end by SIGTERM" if told else "this node is being reclaimed"
        elif left_over < minimum:
            reason = "below-minimum"
            detail = f"{left_over} of {placement.nodes} nodes stay, and the run needs {minimum}"
        else:
            reason, ends = "re-forming", False
            detail = f"{placement.nodes - left_over} of {placement.nodes} nodes leave; the others form up again"
        raise LeavingError(reason, detail, agent_must_end=ends)

    def _save_for_leaving(self) -> None:
        """Save this step and wait, within the emergency budget, until it is durable."""
        attempt, step = self._attempt, self._position.step
        clock, heard = attempt.clock, self._board.heard_monotonic
        began = clock.monotonic()
        durable, name = False, None
        try:
            with self._timer.stall():
                handle = attempt.checkpointer.save(self._components(), self._position.progress(), reason="notice")
                name = handle.name
                attempt.checkpointer.wait(timeout_seconds=attempt.config.notices.emergency_budget_seconds)
            durable = True
        except (CheckpointError, ExternalServiceError) as error:
            _log.error("the emergency save of step %d did not become durable: %s", step, error)
        if not attempt.leads_node:
            return
        attempt.telemetry.emit(
            "emergency_saved",
            checkpoint=name,
            durable=durable,
            agreement_seconds=None if heard is None else max(0.0, began - heard),
            emergency_seconds=clock.monotonic() - (began if heard is None else min(heard, began)),
        )
        if durable:
            _log.info("step %d is durable as %s, %.1f s after the save began", step, name, clock.monotonic() - began)
