"""Watch every source in threads of their own, so that a notice is heard while training is inside a collective."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.clock import Clock, SystemClock
from harness.notices.base import Notice, NoticeSourceError, PolledSource

_log = logging.getLogger("harness.notices")


@dataclass
class _Watch:
    """One source and what was last said about it."""

    source: PolledSource
    complaint: str | None = None
    reported: set[str] = field(default_factory=set)


class NoticeWatcher:
    """Collects notices; the first reclaim notice ends the watch of its source, a rebalance hint does not.

    `on_notice` is called once per source and kind, from the thread that heard it.  Nothing that a source does
    reaches training: an error is logged when it begins, when its cause changes and when it is over.
    """

    def __init__(
        self,
        sources: Sequence[PolledSource],
        *,
        poll_seconds: float,
        on_notice: Callable[[Notice], None],
        clock: Clock | None = None,
    ) -> None:
        self._watches = [_Watch(source) for source in sources]
        self._poll_seconds = poll_seconds
        self._on_notice = on_notice
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to poll, each source in its own daemon thread: a slow one delays no other."""
        for watch in self._watches:
            thread = threading.Thread(
                target=self._loop, args=(watch,), name=f"harness-notice-{watch.source.name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop polling.  A thread inside a slow request ends by itself; nobody waits for it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(0.2)

    def poll_once(self) -> None:
        """Ask every source once in this thread (tests and `--check`)."""
        for watch in self._watches:
            self._ask(watch)

    def _loop(self, watch: _Watch) -> None:
        while not self._stop.is_set():
            if self._ask(watch):
                return
            self._clock.wait(self._stop, self._poll_seconds)

    def _ask(self, watch: _Watch) -> bool:
        """True when this source has nothing more to say."""
        try:
            notice = watch.source.poll()
        except NoticeSourceError as error:
            self._complain(watch, str(error))
            return False
        except Exception as error:  # noqa: BLE001  a bug in one source must neither end the watch nor training
            self._complain(watch, f"{watch.source.name}: {type(error).__name__}: {error}")
            return False
        if watch.complaint is not None:
            _log.info("notice source %s answers again", watch.source.name)
            watch.complaint = None
        if notice is None:
            return False
        if notice.kind not in watch.reported:
            watch.reported.add(notice.kind)
            self._on_notice(notice)
        return notice.kind == "reclaim"

    def _complain(self, watch: _Watch, cause: str) -> None:
        if watch.complaint != cause:
            watch.complaint = cause
            _log.warning("notice source %s: %s; training goes on, and it is asked again", watch.source.name, cause)
