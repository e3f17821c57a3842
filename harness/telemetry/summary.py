"""What a run's events add up to: attempts, lost steps, goodput, and the measured profile.  No torch needed.

executed steps = Σ over attempts (last step − step it started from)
lost steps     = Σ over attempts (last step − step from which the next attempt went on)
useful steps   = the furthest step of the last attempt
goodput        = useful steps · time per step ÷ wall-clock,  time per step without stalls, wall-clock from the start
                 of the first launch to the last event (time between launches counts: nothing was trained)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.telemetry.schema import (
    AnyEvent,
    CheckpointDurable,
    CheckpointFailed,
    EmergencySaved,
    Finished,
    Left,
    Measurement,
    NoticeReceived,
    Profile,
    Restored,
    Started,
    Window,
)

STOPPED_BY_USER = "sigint"
TOLD_TO_END = "sigterm"


@dataclass(frozen=True)
class AttemptSummary:
    """One incarnation of the training processes."""

    attempt_id: str
    generation: int | None
    nodes: int
    world_size: int
    start_step: int
    """From which it went on."""
    last_step: int
    """The furthest step that any of its events names."""
    checkpoint: str | None
    """What it restored; None for a start from nothing."""
    end: str
    """finished; notice, stopped, peer-lost, failed, … (see `Left.reason`); lost when nobody could say."""
    first_wall: float
    last_wall: float
    startup_seconds: float | None
    """Launch to first step."""
    notices: int
    """Reclaims announced."""
    reclaimed_nodes: int
    durable_steps: tuple[int, ...]
    lost_steps: int = 0
    """Done here and done again by a later attempt."""


@dataclass(frozen=True)
class RunSummary:
    """A whole run."""

    run_ids: tuple[str, ...]
    attempts: tuple[AttemptSummary, ...]
    finished: bool
    final_loss: float | None
    first_loss: float | None
    profile: Profile

    @property
    def executed_steps(self) -> int:
        """Steps done, repeated ones counted again."""
        return sum(attempt.last_step - attempt.start_step for attempt in self.attempts)

    @property
    def durable_checkpoints(self) -> int:
        """Checkpoints that became durable."""
        return sum(len(attempt.durable_steps) for attempt in self.attempts)


def summarize_run(events: Iterable[AnyEvent]) -> RunSummary:
    """`events` of all nodes, in time order; an attempt that trained no step still counts as an attempt."""
    ordered = list(events)
    groups: dict[str, list[AnyEvent]] = {}
    for event in ordered:
        groups.setdefault(event.attempt_id, []).append(event)
    known = [group for group in groups.values() if any(isinstance(event, Started) for event in group)]
    known.sort(key=lambda group: (max(event.generation or 0 for event in group), group[0].wall_time))
    attempts = _with_lost_steps([_attempt(group, _restarted_nodes(known, index)) for index, group in enumerate(known)])
    windows = [event for event in ordered if isinstance(event, Window)]
    losses = [window.loss for window in windows if window.loss is not None]
    ended = [event for event in ordered if isinstance(event, Finished)]
    final = ended[-1].loss if ended and ended[-1].loss is not None else (losses[-1] if losses else None)
    return RunSummary(
        run_ids=tuple(sorted({event.run_id for event in ordered})),
        attempts=tuple(attempts),
        finished=bool(ended),
        final_loss=final,
        first_loss=losses[0] if losses else None,
        profile=_profile(ordered, attempts),
    )


def _restarted_nodes(attempts: Sequence[Sequence[AnyEvent]], index: int) -> set[int]:
    """Nodes that the same launch took into the next attempt: torchrun restarted their workers there."""

    def launches(events: Sequence[AnyEvent]) -> set[tuple[int, str]]:
        return {(e.node, e.launch_id) for e in events if isinstance(e, Started) and e.launch_id is not None}

    following = launches(attempts[index + 1]) if index + 1 < len(attempts) else set()
    return {node for node, _ in launches(attempts[index]) & following}


def _attempt(events: Sequence[AnyEvent], restarted_nodes: set[int]) -> AttemptSummary:
    started = next(event for event in events if isinstance(event, Started))
    restored = next((event for event in events if isinstance(event, Restored)), None)
    start_step = restored.step if restored else 0
    reclaims = [e for e in events if isinstance(e, NoticeReceived) and e.kind == "reclaim"]
    # torchrun sends SIGTERM to the workers of a node that stays, too, when another joins.
    announced = {
        event.node
        for event in reclaims
        if event.source != STOPPED_BY_USER and not (event.source == TOLD_TO_END and event.node in restarted_nodes)
    }
    lefts = [event for event in events if isinstance(event, Left)]
    if any(isinstance(event, Finished) for event in events):
        end = "finished"
    elif lefts:
        # The cause before its consequences: a node that failed or was reclaimed explains the peers it left behind.
        order = ("bad-input", "failed", "fenced", "notice", "stopped", "below-minimum", "re-forming", "peer-lost")
        end = min((left.reason for left in lefts), key=lambda r: order.index(r) if r in order else len(order))
        if end == "notice" and not announced:
            end = "re-forming"
    else:
        end = "lost"
    vanished = 1 if end in {"peer-lost", "lost"} and not announced else 0
    startup = None
    if started.startup_seconds is not None:
        same_node = restored is not None and restored.node == started.node
        between = restored.monotonic_seconds - started.monotonic_seconds if restored and same_node else 0.0
        startup = started.startup_seconds + max(0.0, between)
    return AttemptSummary(
        attempt_id=started.attempt_id,
        generation=started.generation,
        nodes=started.nodes,
        world_size=started.world_size,
        start_step=start_step,
        last_step=max([start_step, *(event.step for event in events)]),
        checkpoint=restored.checkpoint if restored else None,
        end=end,
        first_wall=started.wall_time - (started.startup_seconds or 0.0),
        last_wall=max(event.wall_time for event in events),
        startup_seconds=startup,
        notices=len(announced),
        reclaimed_nodes=len(announced) + vanished,
        durable_steps=tuple(sorted({e.step for e in events if isinstance(e, CheckpointDurable)})),
    )


def _with_lost_steps(attempts: list[AttemptSummary]) -> list[AttemptSummary]:
    """Steps beyond the point from which the next attempt that started went on were done for nothing."""
    result = []
    for index, attempt in enumerate(attempts):
        lost = 0
        if index + 1 < len(attempts):
            lost = max(0, attempt.last_step - max(attempt.start_step, attempts[index + 1].start_step))
        result.append(AttemptSummary(**{**attempt.__dict__, "lost_steps": lost}))
    return result


def _profile(events: Sequence[AnyEvent], attempts: Sequence[AttemptSummary]) -> Profile:
    windows = [event for event in events if isinstance(event, Window)]
    leading = _of_leading_node(windows)
    durable = [event for event in events if isinstance(event, CheckpointDurable)]
    emergencies = [event for event in events if isinstance(event, EmergencySaved)]
    # On the nodes that heard the notice (elsewhere the clock starts only at the agreed step), and only where there was
    # one: a save before a restart by torchrun is no emergency.
    noticed = {attempt.attempt_id for attempt in attempts if attempt.notices}
    heard = [e for e in emergencies if e.agreement_seconds is not None and e.attempt_id in noticed]
    started = [event for event in events if isinstance(event, Started)]
    useful = attempts[-1].last_step if attempts else 0
    work = [window.seconds - window.stall_seconds for window in leading]
    steps = sum(window.steps for window in leading)
    step_seconds = sum(work) / steps if steps else None
    wall = attempts[-1].last_wall - attempts[0].first_wall if attempts else 0.0
    goodput = None
    if step_seconds is not None and wall > 0.0:
        goodput = min(1.0, useful * step_seconds / wall)
    first = started[0] if started else None
    stalls = [event.stall_seconds for event in durable if event.stall_seconds is not None]
    persists = [event.persist_seconds for event in durable if event.persist_seconds is not None]
    return Profile(
        run_ids=tuple(sorted({event.run_id for event in events})),
        created_wall_time=max((event.wall_time for event in events), default=0.0),
        nodes=first.nodes if first else None,
        world_size=first.world_size if first else None,
        device=first.device if first else None,
        step_seconds=Measurement.of([w / window.steps for w, window in zip(work, leading, strict=True)]),
        samples_per_second=Measurement.of(
            [window.samples / w for w, window in zip(work, leading, strict=True) if w > 0.0]
        ),
        stall_seconds=Measurement.of(stalls),
        persist_seconds=Measurement.of(persists),
        emergency_seconds=Measurement.of([event.emergency_seconds for event in heard if event.durable]),
        startup_seconds=Measurement.of([a.startup_seconds for a in attempts if a.startup_seconds is not None]),
        checkpoint_bytes=Measurement.of(
            [float(event.checkpoint_bytes) for event in _once_each(durable) if event.checkpoint_bytes is not None]
        ),
        notices=sum(attempt.notices for attempt in attempts),
        notices_acted_on=sum(event.durable for event in heard),
        interruptions=sum(attempt.reclaimed_nodes for attempt in attempts),
        exposure_hours=sum(a.nodes * (a.last_wall - a.first_wall) for a in attempts) / 3600.0,
        checkpoints_failed=len({e.checkpoint for e in events if isinstance(e, CheckpointFailed)}),
        lost_steps=sum(attempt.lost_steps for attempt in attempts),
        useful_steps=useful,
        wall_hours=max(0.0, wall) / 3600.0,
        goodput=goodput,
    )


def _of_leading_node(windows: Sequence[Window]) -> list[Window]:
    """Every node reports the same steps: keep, per attempt, those of its lowest rank that reported any."""
    lowest: dict[str, int] = {}
    for window in windows:
        lowest[window.attempt_id] = min(window.rank, lowest.get(window.attempt_id, window.rank))
    return [window for window in windows if window.rank == lowest[window.attempt_id]]


def _once_each(durable: Sequence[CheckpointDurable]) -> list[CheckpointDurable]:
    """Each node reports every checkpoint: one of them."""
    return list({event.checkpoint: event for event in durable}.values())
