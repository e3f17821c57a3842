"""What saving and restoring give back.  Importable without torch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from harness.checkpoint.progress import Progress
from harness.errors import CheckpointError, SpotPlannerError

Status = Literal["durable", "failed", "fenced", "skipped"]
Source = Literal["local", "remote", "local and remote"]


@dataclass(frozen=True, slots=True)
class SaveResult:
    """How a save ended."""

    name: str
    step: int
    status: Status
    local: bool
    """Whether the part of this node was published on its own disk."""
    error: str | None = None
    """One line saying why, when it is neither durable nor skipped."""
    persist_seconds: float = 0.0
    """From the return of `save` to durable (or to the failure)."""
    bytes: int = 0
    """Size of the whole checkpoint."""

    @property
    def durable(self) -> bool:
        return self.status == "durable"


class SaveHandle:
    """A save that was started: training goes on while it becomes durable in the background."""

    def __init__(self, name: str, step: int, reason: str) -> None:
        self.name, self.step, self.reason = name, step, reason
        self.stall_seconds = 0.0
        """How long `save` held up the caller, waiting for an earlier save included."""
        self.waited_seconds = 0.0
        """The part of it that was spent waiting for an earlier save."""
        self.previous_failure: str | None = None
        """Why the save before this one did not become durable; None when it did."""
        self._finished = threading.Event()
        self._result: SaveResult | None = None
        self._exception: SpotPlannerError | None = None

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._finished.is_set()

    def wait(self, timeout_seconds: float) -> bool:
        """Until the outcome is known, at most so long; whether it is."""
        return self._finished.wait(timeout_seconds)

    def result(self, timeout_seconds: float | None = None) -> SaveResult:
        """The outcome, once it is known; CheckpointError when it is not after `timeout_seconds`.  Never raises for a
        save that failed: `SaveResult.status` says so.
        """
        if not self._finished.wait(timeout_seconds):
            raise CheckpointError(
                f"{self.name} is not durable after {timeout_seconds:.0f} s; it goes on in the background"
            )
        assert self._result is not None
        return self._result

    @property
    def exception(self) -> SpotPlannerError | None:
        """What made the save fail, for raising; None while it runs and when it is durable."""
        return self._exception

    def finish(self, result: SaveResult, exception: SpotPlannerError | None = None) -> None:
        """Set the outcome (the checkpointer's own business)."""
        self._result, self._exception = result, exception
        self._finished.set()


@dataclass(frozen=True, slots=True)
class RestoredState:
    """What a restore brought back; the components have been loaded already."""

    name: str
    step: int
    generation: int
    progress: Progress
    world_size: int
    """Of the attempt that saved it."""
    source: Source
    """Where this node's bytes came from."""
    bytes_fetched: int
    """From the durable target, on this node."""
    bytes: int
    """Size of the whole checkpoint."""
    missing: tuple[str, ...]
    """Components that were asked for but not loaded: per-rank state that no rank of this number had saved, and, under
    ``on_corrupt: newest-model``, damaged ones."""
    skipped: tuple[tuple[str, str], ...] = field(default=())
    """(name, reason) of each newer checkpoint that was not taken."""
    line: str = ""
    """One line for people: what was chosen, what was skipped, and why."""
