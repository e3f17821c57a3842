"""How often saves are tried while they fail: a disk or a bucket that refuses must not cost training its time."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 3
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 900.0


@dataclass
class BackOff:
    """From the third failure in a row on, periodic saves are left out for a time that doubles with each.

    The first time is as long as the failed save took: with any interval, trying takes at most half of the time, then a
    third, a fifth, and so on.  One save that succeeds ends it.
    """

    failures: int = 0
    """In a row."""
    _until: float = 0.0

    def failed(self, now_monotonic: float, took_seconds: float) -> None:
        """A save failed after `took_seconds`."""
        self.failures += 1
        if self.failures >= PATIENCE:
            first = max(SHORTEST_SECONDS, took_seconds)
            self._until = now_monotonic + min(LONGEST_SECONDS, first * 2.0 ** min(self.failures - PATIENCE, 30))

    def succeeded(self) -> None:
        """A save became durable."""
        self.failures, self._until = 0, 0.0

    def seconds_left(self, now_monotonic: float) -> float:
        """Until the next periodic save is tried; 0 when it may be tried now."""
        return max(0.0, self._until - now_monotonic)
