"""Interruption schedules: the fates of one simulated run, or of a recorded trace, as `harness.chaos` takes them.

Pure functions.  Time 0 is the moment at which the first node comes up.  An interruption begins with its notice where
there is one that the simulated run acts on, else with the loss: a notice that nobody acts on is, as in the simulation,
as if it had never come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.chaos.schedule import Schedule, ScheduledInterruption
from harness.errors import InvalidInputError
from planner.completion import SECONDS_PER_HOUR
from simulator.reference import simulate_timeline
from simulator.spec import Spec
from simulator.traces import CapacitySeries

REAL_TIME = 1.0 / SECONDS_PER_HOUR
"""Hours of the plan per second of the rehearsal that make them the same."""
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Fate:
    """One node is taken.  Hours since the first node came up."""

    node: int
    up_hours: float
    """When this life of the node began."""
    lost_hours: float
    notice_hours: float
    """From the notice to the loss; 0: without one."""
    progress_hours: float
    """The job's progress when it begins."""

    @property
    def begins_hours(self) -> float:
        return self.lost_hours - self.notice_hours


@dataclass(frozen=True, slots=True)
class Pace:
    """How the plan's time becomes the rehearsal's."""

    hours_per_second: float = REAL_TIME
    """Hours of the plan per second of the rehearsal.  Notices keep their own length: a save takes what it takes."""
    step_seconds: float | None = None
    """Seconds per step of the rehearsal: offsets become positions.  None: offsets in seconds."""


def fates_of_run(spec: Spec, seed: int, run: int) -> tuple[Fate, ...]:
    """What happens to the nodes in run number `run` of `seed`, up to its end: the reference simulator's own draws.

    Raises InvalidInputError for a run that does not finish (`simulator.horizon`).
    """
    _, timeline = simulate_timeline(spec, seed, run)
    start = next((mark.at_hours for mark in timeline.marks if mark.kind == "arrival"), 0.0)
    up: dict[int, float] = {}
    noticed: dict[int, tuple[float, float]] = {}
    found: list[Fate] = []
    for mark in timeline.marks:
        at = mark.at_hours - start
        for node in mark.nodes:
            if mark.kind == "arrival":
                up[node] = at
                noticed.pop(node, None)
            elif mark.kind == "notice":
                noticed[node] = (at, mark.progress_hours)
            elif mark.kind == "reclaim":
                began, progress = noticed.pop(node, (at, mark.progress_hours))
                found.append(Fate(node, up.get(node, 0.0), at, at - began, progress))
                up[node] = at
    return tuple(sorted(found, key=lambda fate: (fate.begins_hours, fate.node)))


def fates_of_trace(
    series: CapacitySeries, nodes: int, *, start_hours: float = 0.0, notice_hours: float = 0.0
) -> tuple[Fate, ...]:
    """What a recorded capacity does to `nodes` nodes: node i is there while the trace has more than i.

    Time 0 is the first moment from `start_hours` on at which all of them are there.  The job is taken to train
    throughout.  A notice is not longer than the node's life (rule 4 of docs/model.md).
    InvalidInputError when the trace never has so many.
    """
    whole = [max(start, start_hours) for start, end in series.intervals(nodes) if end > start_hours]
    if not whole:
        most = int(series.counts.max())
        expected = f"at most {most}, what the trace has" if most < nodes else "an earlier --start-hours"
        raise InvalidInputError("--nodes", nodes, f"{expected} (from hour {start_hours:g} on)")
    zero = whole[0]
    found: list[Fate] = []
    for node in range(nodes):
        for began, end in series.intervals(node + 1):
            # What is still there when the log ends has not been taken.
            if end <= zero or end >= series.end_hours:
                continue
            life = end - max(began, zero)
            lost, notice = end - zero, min(notice_hours, life)
            found.append(Fate(node, lost - life, lost, notice, lost - notice))
    return tuple(sorted(found, key=lambda fate: (fate.begins_hours, fate.node)))


def schedule_of(fates: tuple[Fate, ...], pace: Pace, *, horizon_hours: float = math.inf) -> Schedule:
    """The interruptions that begin within `horizon_hours`, at the rehearsal's pace.

    In seconds, a loss takes place at its scaled moment, and its notice comes before it by its own length, but not
    before the node is there again.  In steps, an interruption takes place at the step that the job was at; one that
    comes while lost work is done again is put at the first step that is new, because a position says each step once.
    """
    taken = [fate for fate in fates if fate.begins_hours <= horizon_hours]
    if pace.step_seconds is None:
        timed = [_in_seconds(fate, pace) for fate in taken]
        return Schedule(interruptions=tuple(sorted(timed, key=lambda item: (item.at_seconds, item.node))))
    positions: list[ScheduledInterruption] = []
    furthest, before = 0, -math.inf
    for fate in taken:
        at_once = fate.begins_hours == before
        step = math.floor(fate.progress_hours / pace.hours_per_second / pace.step_seconds + 1e-9)
        if not at_once:
            furthest, before = max(step, furthest + 1), fate.begins_hours
        positions.append(_interruption(fate.node, fate.notice_hours * SECONDS_PER_HOUR, at_step=furthest))
    return Schedule(interruptions=tuple(positions))


def _in_seconds(fate: Fate, pace: Pace) -> ScheduledInterruption:
    lost, up = fate.lost_hours / pace.hours_per_second, fate.up_hours / pace.hours_per_second
    notice = min(fate.notice_hours * SECONDS_PER_HOUR, lost - up)
    return _interruption(fate.node, notice, at_seconds=round(lost - notice, _DIGITS))


def _interruption(
    node: int, notice_seconds: float, *, at_step: int | None = None, at_seconds: float | None = None
) -> ScheduledInterruption:
    seconds = round(notice_seconds, _DIGITS)
    return ScheduledInterruption(
        node=node,
        at_step=at_step,
        at_seconds=at_seconds,
        kind="notice" if seconds > 0.0 else "kill",
        notice_seconds=seconds if seconds > 0.0 else None,
    )
