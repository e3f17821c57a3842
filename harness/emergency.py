"""What to do with the time that a notice leaves: a pure decision from what this run has measured.

In order of value: this step on the durable target; else the upload that is in flight, completed; else this step on the
nodes' own disks, from where the next attempt finishes the upload if the provider keeps them.  Standard library only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["remote", "finish-upload", "local"]

LEAVING_SECONDS = 2.0
"""Kept of the notice for what follows the save: status, telemetry, the agent's end."""
_RECENT = 3


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one process, or the whole job, knows when it has to leave.  None: not known."""

    seconds_left: float | None = None
    """Until the node goes."""
    snapshot_seconds: float | None = None
    """Training thread: from the start of a save until the state is copied."""
    local_seconds: float | None = None
    """From there until the part is published on the node's own disk."""
    persist_seconds: float | None = None
    """From there until durable; contains `local_seconds`."""
    in_flight_step: int | None = None
    """Step of the newest save that is neither durable nor failed."""
    in_flight_seconds: float = 0.0
    """How long ago its state was copied."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and what it is expected to take."""

    action: Action
    expected_seconds: float
    """0 where nothing is known."""
    fits: bool
    """Expected to be done in time.  False: nothing is, and this is what loses least if it succeeds all the same."""
    seconds_left: float
    """For saving."""
    why: str


def combine(outlooks: Sequence[Outlook]) -> Outlook:
    """The job's outlook from its processes': the least time, the slowest speeds, the newest upload."""

    def known(name: str) -> list[float]:
        return [value for outlook in outlooks if (value := getattr(outlook, name)) is not None]

    steps = [outlook.in_flight_step for outlook in outlooks if outlook.in_flight_step is not None]
    return Outlook(
        seconds_left=min(known("seconds_left"), default=None),
        snapshot_seconds=max(known("snapshot_seconds"), default=None),
        local_seconds=max(known("local_seconds"), default=None),
        persist_seconds=max(known("persist_seconds"), default=None),
        in_flight_step=max(steps, default=None),
        # Processes that do not measure report 0: the longest is the true one.
        in_flight_seconds=max((o.in_flight_seconds for o in outlooks if o.in_flight_step is not None), default=0.0),
    )


def decide(outlook: Outlook, *, step: int, budget_seconds: float) -> Plan:
    """The most valuable thing that fits into min(budget, time left − LEAVING_SECONDS).

    One save is in flight at a time, so a new one starts when the upload in flight is over.  What was never measured
    counts as nothing: without any measurement the whole save is tried.  When nothing fits, what is nearest to its end
    is tried: the time left may be wrong (a clock, a provider that is late), and staying costs nothing.
    """
    left = budget_seconds
    if outlook.seconds_left is not None:
        left = min(left, max(0.0, outlook.seconds_left - LEAVING_SECONDS))
    snapshot, local = outlook.snapshot_seconds or 0.0, outlook.local_seconds or 0.0
    persist = max(outlook.persist_seconds or 0.0, local)
    upload = 0.0 if outlook.in_flight_step is None else max(0.0, persist - outlook.in_flight_seconds)
    if outlook.in_flight_step == step:
        options: list[tuple[Action, float]] = [("remote", upload)]
    else:
        options = [("remote", upload + snapshot + persist)]
        if outlook.in_flight_step is not None:
            options.append(("finish-upload", upload))
        else:
            options.append(("local", snapshot + local))
    why = f"{left:.1f} s for saving, {'; '.join(f'{name} needs {seconds:.1f} s' for name, seconds in options)}"
    if outlook.persist_seconds is None:
        why += " (no save of this run has been measured)"
    for action, seconds in options:
        if seconds <= left:
            return Plan(action, seconds, True, left, why)
    action, seconds = options[-1]
    return Plan(action, seconds, False, left, why)


@dataclass
class SaveSpeeds:
    """This process's own saves, from the checkpointer's events; the slowest of the last three counts."""

    planned: Outlook = field(default_factory=Outlook)
    """What the plan expects, until something has been measured."""
    _snapshots: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _locals: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _persists: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _copied: tuple[str, float] | None = None
    local_name: str | None = None
    """The newest checkpoint whose part is on this node's own disk."""

    def on_event(self, name: str, fields: Mapping[str, object], now_monotonic: float) -> None:
        """Take note of an event of the checkpointer."""
        checkpoint = str(fields.get("checkpoint"))
        if name == "checkpoint_started":
            self._snapshots.append(_number(fields, "stall_seconds") - _number(fields, "waited_seconds"))
            self._copied = checkpoint, now_monotonic
        elif name == "checkpoint_local":
            self._locals.append(max(0.0, _number(fields, "seconds") - _number(fields, "stall_seconds")))
            self.local_name = checkpoint
        elif name == "checkpoint_durable":
            self._persists.append(_number(fields, "persist_seconds"))

    @property
    def snapshot_seconds(self) -> float | None:
        """Measured, else planned."""
        return max(self._snapshots, default=self.planned.snapshot_seconds)

    @property
    def persist_seconds(self) -> float | None:
        """Measured; None before (what is planned is no measurement of the time until durable)."""
        return max(self._persists, default=None)

    def outlook(
        self, *, seconds_left: float | None, in_flight: tuple[str, int] | None, now_monotonic: float
    ) -> Outlook:
        """What this process knows; `in_flight` is the name and step of the save that is not over yet."""
        since = 0.0
        if in_flight is not None and self._copied is not None and self._copied[0] == in_flight[0]:
            since = now_monotonic - self._copied[1]
        return Outlook(
            seconds_left=seconds_left,
            snapshot_seconds=self.snapshot_seconds,
            local_seconds=max(self._locals, default=None),
            persist_seconds=max(self._persists, default=self.planned.persist_seconds),
            in_flight_step=None if in_flight is None else in_flight[1],
            in_flight_seconds=since,
        )


def _number(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
