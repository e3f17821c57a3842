"""What this process has heard so far: notices and signals, from threads, read by the training loop at a boundary."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping

from harness.agreement import NO_NOTICE, PRECAUTION, RECLAIM
from harness.clock import Clock
from harness.notices import Notice

_log = logging.getLogger("harness.notices")


class NoticeBoard:
    """Thread-safe.  `on_notice(notice, seconds_left)` is called once per notice, from the thread that heard it.

    `warnings`: signals of a scheduler (Slurm's USR1), with the seconds that each leaves; the agent does not know them.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_notice: Callable[[Notice, float | None], None],
        shutdown_timeout_seconds: float,
        warnings: Mapping[signal.Signals, float] | None = None,
    ) -> None:
        self._clock = clock
        self._on_notice = on_notice
        self._shutdown_timeout = shutdown_timeout_seconds
        self._warnings = dict(warnings or {})
        self._warned: set[signal.Signals] = set()
        self._lock = threading.Lock()
        self._level = NO_NOTICE
        self._heard_monotonic: float | None = None
        self._deadline_monotonic: float | None = None
        self.signalled = threading.Event()
        """A SIGTERM or SIGINT has arrived: whoever sent it (the agent) knows that this process is to end."""
        self.stop = threading.Event()
        """The user wants the whole run to stop (SIGINT)."""
        self.expecting_signal = False
        """This process asked its agent to end: the signal that comes back is no notice."""

    @property
    def level(self) -> int:
        """NO_NOTICE, PRECAUTION or RECLAIM: what this rank contributes to the agreement."""
        return self._level

    @property
    def heard_monotonic(self) -> float | None:
        """When the notice that counts was heard, on the monotonic clock."""
        return self._heard_monotonic

    @property
    def seconds_left(self) -> float | None:
        """Until the earliest deadline of a reclaim that was announced; None when none was, or none has a time."""
        deadline = self._deadline_monotonic
        return None if deadline is None else max(0.0, deadline - self._clock.monotonic())

    def hear(self, notice: Notice) -> None:
        """Take note of `notice`."""
        level = RECLAIM if notice.kind == "reclaim" else PRECAUTION
        seconds_left = None
        if notice.deadline_wall is not None:
            seconds_left = max(0.0, notice.deadline_wall - self._clock.wall())
        with self._lock:
            if level > self._level:
                self._level = level
                self._heard_monotonic = self._clock.monotonic()
            if seconds_left is not None and level == RECLAIM:
                deadline = self._clock.monotonic() + seconds_left
                self._deadline_monotonic = min(deadline, self._deadline_monotonic or deadline)
        _log.warning(
            "notice from %s: %s%s",
            notice.source,
            notice.detail or notice.kind,
            "" if seconds_left is None else f", {seconds_left:.0f} s left",
        )
        self._on_notice(notice, seconds_left)

    def hear_warning(self, number: signal.Signals, *, sent_wall: float | None = None) -> None:
        """A scheduler's warning, sent at `sent_wall` (None: now); once, however often it comes."""
        if number in self._warnings and number not in self._warned:
            self._warned.add(number)
            deadline = (self._clock.wall() if sent_wall is None else sent_wall) + self._warnings[number]
            self.hear(Notice(number.name.lower(), "reclaim", deadline, f"received {number.name}"))

    def hear_signal(self, number: signal.Signals) -> None:
        """SIGTERM is a notice for this node, SIGINT a wish to stop the whole run, another one a scheduler's warning."""
        if number in self._warnings:
            self.hear_warning(number)
            return
        repeated = self.signalled.is_set()
        self.signalled.set()
        if repeated or self.expecting_signal:
            return
        if number == signal.SIGINT:
            self.stop.set()
        deadline = self._clock.wall() + self._shutdown_timeout
        self.hear(Notice(number.name.lower(), "reclaim", deadline, f"received {number.name}"))

    def precaution_taken(self) -> None:
        """The early save was made: this rank asks for no other because of the same hint."""
        with self._lock:
            if self._level == PRECAUTION:
                self._level = NO_NOTICE
