"""Long work in threads: progress that a page can show, cancelling, and results cached by their inputs.

One `Work` serves the whole process.  A job is a function of its key: who asks for the same key gets the same job, so a
second visitor (or a second look) costs nothing.  Cancelling raises `Cancelled` from the job's next progress report.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from planner.views.plan import Say

KEPT = 96
"""Finished jobs that are kept; a plan with 20,000 runs holds a few MB."""


class Cancelled(Exception):  # noqa: N818  nothing went wrong: the user changed their mind
    """The user stopped the job."""


class Job:
    """One piece of work: how far it is, then its result or its error."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.what = "starting"
        self.fraction = 0.0
        self.started = time.monotonic()
        self.watchers: set[str] = set()
        """Sessions that wait for it."""
        self._stop = threading.Event()
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is a result or an error."""
        return self._done.is_set()

    @property
    def was_cancelled(self) -> bool:
        """Whether the user stopped it."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop at the next progress report."""
        self._stop.set()

    def leave(self, watcher: str) -> None:
        """`watcher` waits no more; when nobody does, an unfinished job is stopped."""
        self.watchers.discard(watcher)
        if not self.watchers and not self.is_done:
            self.cancel()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end, at most so long (None: until it comes); whether it has come."""
        return self._done.wait(seconds)

    def result(self) -> Any:
        """The result; raises what the work raised."""
        assert self.is_done
        if self._error is not None:
            raise self._error
        return self._result

    def say(self, what: str, done: int, total: int) -> None:
        """Progress report from the work; negative numbers only say that it is alive."""
        if self._stop.is_set():
            raise Cancelled
        if total > 0 and done >= 0:
            self.what, self.fraction = what, min(1.0, done / total)

    def run(self, function: Callable[[Say], Any]) -> None:
        """Do it, in the calling thread."""
        try:
            self._result = function(self.say)
        except BaseException as error:  # noqa: BLE001 - carried to whoever asks for the result
            self._error = error
        finally:
            self._done.set()


class Work:
    """All jobs of the process, by key."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, key: Hashable, function: Callable[[Say], Any]) -> Job:
        """The job of `key`: the one that exists, else a new one in a thread of its own."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.was_cancelled:
                self._jobs.move_to_end(key)
                return job
            job = Job(key)
            self._jobs[key] = job
            self._forget()
        threading.Thread(target=job.run, args=(function,), daemon=True, name="planner-work").start()
        return job

    def __len__(self) -> int:
        return len(self._jobs)

    def _forget(self) -> None:
        finished = [key for key, job in self._jobs.items() if job.is_done]
        for key in finished[: max(0, len(self._jobs) - self._kept)]:
            del self._jobs[key]


WORK = Work()
"""The process's jobs: the command that starts the dashboard puts the example's plan here before anybody asks."""
