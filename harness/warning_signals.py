"""A scheduler's warning signal (Slurm's USR1) on its way through launcher and agent to the training processes.

Slurm sends it to the launcher alone or to every process of a job step, and its default action is to end a process.  The
launcher therefore blocks the signals that the config names before it starts anything.  A blocked signal waits; every
process that it starts inherits that; and each of the three takes it when it is ready:

    launcher           looks for it while it waits for the agent, and sends it on
    agent              waits for it in a thread, and sends it to its workers
    training process   its listener thread unblocks it (`harness.notices.signals`)

One that arrives while a training process is being started is therefore heard, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Collection, Mapping

from harness.processes import children

HELD = "HARNESS_WARNING_SIGNALS"
"""Names of the signals that the launcher has blocked."""
WARNED = "HARNESS_WARNED"
"""``SIGUSR1@<seconds since the Unix epoch>``: set in the agent, so that workers it starts later know of the warning."""

_LATE_SECONDS, _LOOK_SECONDS = 5.0, 0.25


def hold(signals: Collection[signal.Signals]) -> None:
    """Block `signals` in this thread and in whatever it starts from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def held_signals(environment: Mapping[str, str]) -> tuple[signal.Signals, ...]:
    """What the launcher has blocked, from the agent's environment."""
    return tuple(signal.Signals[name] for name in environment.get(HELD, "").split(",") if name)


def take(signals: Collection[signal.Signals]) -> signal.Signals | None:
    """One of the blocked `signals` that has arrived; None when none has."""
    if not signals:
        return None
    found = signal.sigtimedwait(signals, 0)
    return None if found is None else signal.Signals(found.si_signo)


def pass_on_to_children(signals: Collection[signal.Signals]) -> None:
    """In a thread of its own, send on to this process's children whichever of the blocked `signals` arrives."""

    def loop() -> None:
        while True:
            number = signal.Signals(signal.sigwait(signals))
            os.environ[WARNED] = f"{number.name}@{time.time():.3f}"
            told: set[int] = set()
            # Again for a while: a worker may be between the copy of the environment and its place among the children.
            end = time.monotonic() + _LATE_SECONDS
            while time.monotonic() < end:
                for pid in set(children().get(os.getpid(), [])) - told:
                    told.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                time.sleep(_LOOK_SECONDS)

    if signals:
        threading.Thread(target=loop, name="harness-warnings", daemon=True).start()


def warned_before_start(environment: Mapping[str, str]) -> tuple[signal.Signals, float] | None:
    """(signal, wall time) of a warning that the agent got before it started this process; None without one."""
    name, _, moment = environment.get(WARNED, "").partition("@")
    try:
        return signal.Signals[name], float(moment)
    except (KeyError, ValueError):
        return None
