"""Faults by position: how far a running job has come, read from its telemetry as it is written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from harness.clock import Clock, SystemClock
from harness.telemetry.reader import FILE_PATTERN


class StepWatcher:
    """Follows the telemetry below a directory (which may not exist yet) and knows the furthest step.

    `events` filters: only these count.  Each call reads only what was added.
    """

    def __init__(self, directory: Path, *, events: tuple[str, ...] = ("window",)) -> None:
        self._directory = directory
        self._events = events
        self._offsets: dict[Path, int] = {}
        self._step = -1

    def step(self) -> int:
        """The furthest step of any such event so far; −1 before the first."""
        for file in self._directory.rglob(FILE_PATTERN):
            offset = self._offsets.get(file, 0)
            try:
                with file.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read()
            except FileNotFoundError:
                continue  # the node's disk went away between the listing and here
            whole = data.rfind(b"\n") + 1
            self._offsets[file] = offset + whole
            for line in data[:whole].splitlines():
                try:
                    document = json.loads(line)
                except ValueError:
                    continue  # a line that a kill cut short
                if document.get("event") in self._events:
                    self._step = max(self._step, int(document.get("step", -1)))
        return self._step


def when_step(
    watcher: StepWatcher,
    step: int,
    action: Callable[[], object],
    *,
    stop: threading.Event,
    clock: Clock | None = None,
    poll_seconds: float = 0.05,
) -> bool:
    """Run `action` once the job has reached `step`; False when `stop` was set before."""
    clock = clock or SystemClock()
    while not stop.is_set():
        if watcher.step() >= step:
            action()
            return True
        clock.wait(stop, poll_seconds)
    return False
