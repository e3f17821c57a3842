"""What happens between two steps, at the same step on every rank: agree, save when it is due, leave when told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from harness.agreement import Agreed, Agreement
from harness.attempt import Attempt
from harness.board import NoticeBoard
from harness.config import RiskConfig
from harness.emergency import Outlook, combine, decide
from harness.environment import minimum_nodes, waits_below_minimum
from harness.errors import CheckpointError, ExternalServiceError
from harness.leaving import LeavingError
from harness.policy import EverySteps, HazardTable, OnRisk, SaveContext, SavePolicy, interval_steps
from harness.position import Position
from harness.timing import StepTimer
from harness.tuning import Tuned, tuned_interval

_log = logging.getLogger("harness")

_TELL = 0.05
"""A tuned interval that moved by less than this share is not worth a line."""

_ACTIONS = {
    "remote": "saving this step, to be durable",
    "finish-upload": "letting the upload in flight finish",
    "local": "saving this step on the nodes' own disks, and uploading for as long as there is time",
}


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
        self._retry_step = 0
        """Not before it: the last periodic save that was due was skipped."""
        self._precaution_step = -1
        """At whose boundary a hint was last acted on."""
        self._agreed: Agreed | None = None
        self._risk = _risk_of(attempt.config.notices.risk)
        self._interval: SavePolicy | None = None
        self._told_seconds = attempt.config.checkpoint.interval.seconds or 0.0
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
            stall_seconds=self._attempt.speeds.snapshot_seconds or 0.0,
            persist_seconds=self._attempt.speeds.persist_seconds or 0.0,
            hazard_per_hour=0.0 if self._risk is None else self._risk.rate_per_hour(node_age_hours()),
        )
        hint = False
        if agreed is not None:
            self._agreed = agreed
            if agreed.step_seconds > 0.0:
                self._position.step_seconds = agreed.step_seconds
                self._set_interval()
            # The all-reduce that was launched before the early save still carries its hint.
            hint = agreed.precaution and agreed.launched_step > self._precaution_step
        if self._position.step == self._position.total_steps:
            return  # the final checkpoint follows, notice or not
        if agreed is not None and (agreed.doomed_nodes or agreed.stop):
            self._leave(agreed)
        if hint:
            self._save("precaution")
            self._precaution_step = self._position.step
            self._board.precaution_taken()
        elif self._is_due(self._interval):
            self._save("periodic")
        elif self._is_due(self._on_risk()):
            self._save("risk")

    def finish(self) -> None:
        """The last step is done: no agreement stays in flight."""
        self._agreement.drain()

    def close(self, *, orderly: bool) -> None:
        """No boundary follows."""
        self._agreement.close(orderly=orderly)

    def _is_due(self, policy: SavePolicy | None) -> bool:
        position = self._position
        if policy is None or position.step < self._retry_step:
            return False
        return policy.should_save(
            SaveContext(
                step=position.step,
                work_seconds=position.work_seconds,
                last_save_step=self._last_save_step,
                last_save_work_seconds=self._last_save_step * position.step_seconds,
                notice_active=False,
                hazard_per_hour=0.0 if self._agreed is None else self._agreed.hazard_per_hour,
            )
        )

    def _on_risk(self) -> SavePolicy | None:
        """With what the ranks agreed on, so that all decide alike; None while no step time is known."""
        risk, agreed = self._attempt.config.notices.risk, self._agreed
        if risk is None or agreed is None or self._position.step_seconds <= 0.0:
            return None
        return OnRisk(agreed.stall_seconds or risk.stall_seconds, risk.minimum_seconds)

    def _set_interval(self) -> None:
        """Steps from the config, or from its seconds and the step time that all ranks agreed on (none before)."""
        interval, step_seconds = self._attempt.config.checkpoint.interval, self._position.step_seconds
        if interval.steps is not None:
            self._interval = EverySteps(interval.steps)
        elif interval.seconds is not None and step_seconds > 0.0:
            tuned = self._tuned(step_seconds)
            seconds = interval.seconds if tuned is None else tuned.interval_seconds
            self._interval = EverySteps(interval_steps(seconds, step_seconds))

    def _tuned(self, step_seconds: float) -> Tuned | None:
        """The interval for what was measured so far; from what the ranks agreed on, so that all decide alike."""
        agreed, position, config = self._agreed, self._position, self._attempt.config
        if agreed is None:
            return None
        tuned = tuned_interval(
            config.checkpoint.interval,
            config.plan,
            nodes=self._attempt.placement.nodes,
            stall_seconds=agreed.stall_seconds,
            persist_seconds=agreed.persist_seconds,
            history=position.history.at(position.step, step_seconds),
        )
        if tuned is None or abs(tuned.interval_seconds - self._told_seconds) <= _TELL * self._told_seconds:
            return tuned
        if self._attempt.leads_node:
            self._attempt.telemetry.emit(
                "interval_tuned",
                interval_seconds=tuned.interval_seconds,
                previous_seconds=self._told_seconds,
                stall_seconds=tuned.stall_seconds,
                fleet_rate_per_hour=tuned.rate_per_hour,
                why=tuned.why,
            )
        if self._attempt.placement.rank == 0:
            _log.info(
                "saving every %.4g s instead of %.4g s from here on (%s: stall %.3g s, %.3g losses per hour)",
                tuned.interval_seconds,
                self._told_seconds,
                tuned.why,
                tuned.stall_seconds,
                tuned.rate_per_hour,
            )
        self._told_seconds = tuned.interval_seconds
        return tuned

    def _save(self, reason: str) -> None:
        with self._timer.stall():
            handle = self._attempt.checkpointer.save(self._components(), self._position.progress(), reason=reason)
        step = self._position.step
        if handle.done and handle.result().status == "skipped":
            # Still due, but asking costs: again when an eighth more is at stake.  All ranks skip alike.
            self._retry_step = step + max(1, (step - self._last_save_step) // 8)
        else:
            self._last_save_step = step

    def _leave(self, agreed: Agreed) -> NoReturn:
        """A node is doomed, or the user stops the run: save, then part."""
        placement = self._attempt.placement
        self._position.history.stopped = agreed.stop
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
            reason, ends = "below-minimum", not waits_below_minimum(self._attempt.config)
            detail = f"{left_over} of {placement.nodes} nodes stay, and the run needs {minimum}"
            detail += "" if ends else ": waiting for others"
        else:
            reason, ends = "re-forming", False
            detail = f"{placement.nodes - left_over} of {placement.nodes} nodes leave; the others form up again"
        raise LeavingError(reason, detail, agent_must_end=ends)

    def _save_for_leaving(self) -> None:
        """Do the most valuable thing that fits into the time left, as all ranks decide together, and say which."""
        attempt, step, saver = self._attempt, self._position.step, self._attempt.checkpointer
        clock, heard = attempt.clock, self._board.heard_monotonic
        began = clock.monotonic()
        plan = decide(self._outlook(), step=step, budget_seconds=attempt.config.notices.emergency_budget_seconds)
        # Nothing fits: go on for as long as the budget allows, the node may live longer than it was told.
        until = began + (plan.seconds_left if plan.fits else attempt.config.notices.emergency_budget_seconds)
        if attempt.leads_node:
            fits = "" if plan.fits else ", which is not expected to be done in time"
            _log.info("leaving: %s%s (%s)", _ACTIONS[plan.action], fits, plan.why)
        durable = False
        try:
            with self._timer.stall():
                # A save waits for the one in flight: not longer than the node has, and on no rank when not on all.
                self._wait(until)
                over = saver.latest is None or saver.latest.done
                if all(attempt.ranks.gather(over)) and (
                    plan.action != "finish-upload" or self._still_fits_locally(until)
                ):
                    saver.save(self._components(), self._position.progress(), reason="notice")
                    error = self._wait(until)
                    durable = error is None
                    if error is not None:
                        _log.error("the emergency save of step %d did not become durable: %s", step, error)
        except (CheckpointError, ExternalServiceError) as error:
            _log.error("the emergency save of step %d did not become durable: %s", step, error)
        if not attempt.leads_node:
            return
        name = None if saver.latest is None else saver.latest.name
        attempt.telemetry.emit(
            "emergency_saved",
            checkpoint=name,
            durable=durable,
            agreement_seconds=None if heard is None else max(0.0, began - heard),
            emergency_seconds=clock.monotonic() - (began if heard is None else min(heard, began)),
            action=plan.action,
            seconds_left=plan.seconds_left,
            expected_seconds=plan.expected_seconds,
            fits=plan.fits,
            local=name is not None and attempt.speeds.local_name == name,
            durable_step=attempt.durable_step,
        )
        if durable:
            _log.info("step %d is durable as %s, %.1f s after the save began", step, name, clock.monotonic() - began)

    def _outlook(self) -> Outlook:
        """What all ranks know together.  Collective."""
        attempt, latest = self._attempt, self._attempt.checkpointer.latest
        in_flight = None if latest is None or latest.done else (latest.name, latest.step)
        mine = attempt.speeds.outlook(
            seconds_left=self._board.seconds_left, in_flight=in_flight, now_monotonic=attempt.clock.monotonic()
        )
        return combine(attempt.ranks.gather(mine))

    def _still_fits_locally(self, until: float) -> bool:
        """The upload came through sooner than it might have: is there time for this step on the nodes' own disks?"""
        outlook = self._outlook()
        needed = (outlook.snapshot_seconds or 0.0) + (outlook.local_seconds or 0.0)
        left = until - self._attempt.clock.monotonic()
        return min(self._attempt.ranks.gather(left)) >= needed

    def _wait(self, until: float) -> CheckpointError | ExternalServiceError | None:
        """Wait for the save in flight, if there is one; why it is not durable in time, else None."""
        try:
            self._attempt.checkpointer.wait(timeout_seconds=max(0.0, until - self._attempt.clock.monotonic()))
        except (CheckpointError, ExternalServiceError) as error:
            return error
        return None


def node_age_hours() -> float:
    """Time since this machine was started (a container sees its host's)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) / 3600.0


def _risk_of(config: RiskConfig | None) -> HazardTable | None:
    if config is None:
        return None
    return HazardTable(
        tuple(step.age_hours for step in config.hazard), tuple(step.rate_per_hour for step in config.hazard)
    )
