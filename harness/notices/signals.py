"""SIGTERM and SIGINT as notices, heard even while the main thread is inside C++.

Python runs signal handlers only between bytecodes of the main thread; a collective or a synchronize can keep it in
C++ for minutes.  The C-level handler, however, writes the signal's number into a wake-up file descriptor at once, and
a thread of ours reads it from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalListener:
    """Calls `on_signal` from a thread for every SIGTERM and SIGINT; `close` puts the old handlers back.

    Must be created and closed in the main thread (Python's rule for handlers).
    """

    def __init__(
        self, on_signal: Callable[[signal.Signals], None], signals: tuple[signal.Signals, ...] = SIGNALS
    ) -> None:
        self._on_signal = on_signal
        self._signals = signals
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = {number: signal.signal(number, self._in_main_thread) for number in signals}
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._loop, name="harness-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Handlers and wake-up descriptor are again what they were."""
        signal.set_wakeup_fd(self._previous_fd, warn_on_full_buffer=False)
        for number, handler in self._previous.items():
            # None: installed from C, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._writer.close()  # the reader sees the end of the stream
        self._thread.join(1.0)
        self._reader.close()

    def _in_main_thread(self, number: int, frame: FrameType | None) -> None:
        """The wake-up descriptor has told the thread; this only keeps the default action from running."""

    def _loop(self) -> None:
        # What `harness launch` has blocked until somebody is ready for it: in this thread alone, so that processes that
        # the training script starts still inherit it blocked, and do not die of it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
        while True:
            try:
                numbers = self._reader.recv(64)
            except OSError:
                return
            if not numbers:
                return
            for number in numbers:
                if number in self._signals:
                    self._on_signal(signal.Signals(number))
            if self._previous_fd != -1:
                # Whoever listened before us (asyncio does) still gets its wake-ups.
                with contextlib.suppress(OSError):
                    os.write(self._previous_fd, numbers)
