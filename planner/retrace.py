"""The simulator on the interruptions that a run really met: what is left of the error is the model's.

`report` asks whether a run was an ordinary one; here chance is taken out.  Every loss comes when it came, every wait
and startup lasts as long as it did, and the durations of a step, a stall, an upload and an emergency save are the
measured means.  The model then says how long the run should have taken and how much work it should have lost.  Pure
functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.telemetry.schema import AnyEvent, EmergencySaved, Measurement, NoticeReceived, Window
from harness.telemetry.summary import AttemptSummary
from planner.completion import SECONDS_PER_HOUR
from planner.telemetry_runs import MeasuredRun, work_between_saves_seconds
from simulator.reference.history import Life, simulate_history
from simulator.spec import SHORTEST_INTERVAL_HOURS, Spec


@dataclass(frozen=True, slots=True)
class Retraced:
    """The same run, as the model has it and as it was; hours."""

    makespan_hours: float
    measured_makespan_hours: float
    lost_work_hours: float
    measured_lost_work_hours: float
    interruptions: int
    """That the simulated run met; the measured one met `measured_interruptions`."""
    measured_interruptions: int

    @property
    def makespan_error(self) -> float:
        """Simulated over measured, minus one."""
        return self.makespan_hours / self.measured_makespan_hours - 1.0

    def sentence(self) -> str:
        """The finding in one sentence."""
        losses = f"{self.measured_interruptions} interruption{'' if self.measured_interruptions == 1 else 's'}"
        return (
            f"The simulator on this run's own {losses} and measured durations: {_span(self.makespan_hours)} "
            f"({_span(self.measured_makespan_hours)} measured, {self.makespan_error:+.1%}), "
            f"{_span(self.lost_work_hours)} of work lost ({_span(self.measured_lost_work_hours)} measured)."
        )


def retrace(run: MeasuredRun) -> Retraced | str:
    """`run` in the simulator, or why it cannot be: only a finished run of a fleet of one size can."""
    attempts, profile = run.summary.attempts, run.summary.profile
    if not run.summary.finished:
        return "the run is not finished"
    if len({attempt.world_size for attempt in attempts}) > 1:
        return "the fleet changed its size while it ran"
    step = profile.step_seconds
    if step is None or not profile.useful_steps or profile.wall_hours <= 0.0:
        return "no step was measured"
    interval = work_between_saves_seconds(run)
    saves = _emergencies(run.events)
    after_agreement = Measurement.of(
        [save.emergency_seconds - (save.agreement_seconds or 0.0) for save in saves.values()]
    )
    spec = Spec(
        work_hours=profile.useful_steps * step.mean / SECONDS_PER_HOUR,
        interval_hours=math.inf if interval is None else max(_hours(interval), SHORTEST_INTERVAL_HOURS),
        stall_hours=_hours(profile.stall_seconds),
        persist_hours=_hours(profile.persist_seconds),
        emergency_hours=_hours(after_agreement),
    )
    found = simulate_history(spec, _lives(run.events, attempts, saves, step.mean))
    return Retraced(
        makespan_hours=found.makespan_hours,
        measured_makespan_hours=profile.wall_hours,
        lost_work_hours=found.lost_work_hours,
        measured_lost_work_hours=profile.lost_steps * step.mean / SECONDS_PER_HOUR,
        interruptions=int(found.interruptions),
        measured_interruptions=len(attempts) - 1,
    )


def sentence_of(found: Retraced | str) -> str:
    """What `retrace` found, or why it found nothing, in one sentence."""
    if isinstance(found, Retraced):
        return found.sentence()
    return f"Not simulated on this run's own interruptions: {found}."


def _emergencies(events: Iterable[AnyEvent]) -> dict[str, EmergencySaved]:
    """By attempt: the save that a notice asked for and that became durable, as the node that heard it tells it."""
    found: dict[str, EmergencySaved] = {}
    for event in events:
        if isinstance(event, EmergencySaved) and event.durable and event.agreement_seconds is not None:
            found.setdefault(event.attempt_id, event)
    return found


def _lives(
    events: Iterable[AnyEvent],
    attempts: Sequence[AttemptSummary],
    saves: dict[str, EmergencySaved],
    step_seconds: float,
) -> list[Life]:
    """One life per attempt: up from its launcher's start until it trained no longer."""
    own: dict[str, list[AnyEvent]] = {attempt.attempt_id: [] for attempt in attempts}
    for event in events:
        if event.attempt_id in own:
            own[event.attempt_id].append(event)
    lives: list[Life] = []
    ended = attempts[0].first_wall
    for attempt in attempts:
        save = saves.get(attempt.attempt_id)
        end = _end(own[attempt.attempt_id], attempt, save, step_seconds)
        up = max(0.0, end - attempt.first_wall)
        notice = None if save is None else _notice(own[attempt.attempt_id], attempt, save)
        lives.append(
            Life(
                wait_hours=max(0.0, attempt.first_wall - ended) / SECONDS_PER_HOUR,
                up_hours=math.inf if attempt is attempts[-1] else up / SECONDS_PER_HOUR,
                startup_hours=(up if attempt.startup_seconds is None else attempt.startup_seconds) / SECONDS_PER_HOUR,
                notice_at_hours=None if notice is None else min(up, notice - attempt.first_wall) / SECONDS_PER_HOUR,
            )
        )
        ended = end
    return lives


def _end(
    events: Iterable[AnyEvent], attempt: AttemptSummary, save: EmergencySaved | None, step_seconds: float
) -> float:
    """When an attempt stopped, as wall time; `events` are its own.

    One that had saved on a notice: its last sign.  Another: the last step that any event names, in time, because its
    survivors were there for longer: they waited for the lost node.
    """
    windows = [event for event in events if isinstance(event, Window)]
    if save is not None or not windows:
        return attempt.last_wall
    newest = max(windows, key=lambda window: window.step)
    return min(attempt.last_wall, newest.wall_time + (attempt.last_step - newest.step) * step_seconds)


def _notice(events: Iterable[AnyEvent], attempt: AttemptSummary, save: EmergencySaved) -> float:
    """When training stopped for a notice that was acted on: hearing it, and the steps until all ranks agreed."""
    heard = [event.wall_time for event in events if isinstance(event, NoticeReceived) and event.node == save.node]
    agreed = min(heard) + (save.agreement_seconds or 0.0) if heard else save.wall_time - save.emergency_seconds
    return max(agreed, attempt.first_wall)


def _hours(measured: Measurement | None) -> float:
    return 0.0 if measured is None else max(0.0, measured.mean) / SECONDS_PER_HOUR


def _span(hours: float) -> str:
    seconds = hours * SECONDS_PER_HOUR
    if seconds < 120.0:
        return f"{seconds:.3g} s"
    return f"{seconds / 60.0:.3g} min" if seconds < 7200.0 else f"{hours:,.4g} h"
