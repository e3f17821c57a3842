"""A bandwidth limit: bytes spread over time, across all threads that share it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MIB = 1024 * 1024


class Throttle:
    """Lets bytes pass at `bytes_per_second` on average, whatever the number of threads; None is no limit.

    What is taken is paid for afterwards: the first piece passes at once, the next waits until the rate allows it.
    """

    def __init__(
        self,
        bytes_per_second: float | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    @classmethod
    def of_mib(cls, mib_per_second: float | None) -> Throttle:
        """From what a config says."""
        return cls(None if mib_per_second is None else mib_per_second * MIB)

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        if self.bytes_per_second is None:
            return
        with self._lock:
            now = self._monotonic()
            start = max(now, self._free_at)
            self._free_at = start + count / self.bytes_per_second
        if start > now:
            self._sleep(start - now)
