"""The background of a save takes the processor when training does not want it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICER_BY = 10
"""Beside a thread that computes, one that is nicer by 10 gets a tenth of a core (Linux's weights: 110 to 1024)."""


def yield_to_training() -> None:
    """Lower the priority of this thread and of the threads that it starts.  Linux only: elsewhere it is per process."""
    if sys.platform.startswith("linux"):
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that forbids it costs speed, not the checkpoint
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICER_BY))
