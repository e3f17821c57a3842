"""Many runs on all cores, in pieces short enough to be interrupted and reported on between them.

Kernels release the interpreter lock, so plain threads share the work; numba's own threads would compile longer, may
not be entered from two threads at once (a dashboard does) and would not return before the end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

Piece = Callable[[int, int], None]
"""Does the runs begin … end − 1."""

Progress = Callable[[int, int], None]
"""Called with (runs done, runs in all)."""

_PIECE_SECONDS = 0.03
"""A piece is sized to take about this long: how late Ctrl-C is noticed."""
_FIRST_PIECE = 16
_ALONE_SECONDS = 0.003
"""Less work than this is done by one thread: starting others costs about as much as they would save."""
_PROGRESS_SECONDS = 0.1


def default_threads() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


class _Plan:
    """Hands out pieces in order and remembers which are done."""

    def __init__(self, runs: int) -> None:
        self._lock = threading.Lock()
        self._runs, self._next, self._size = runs, 0, _FIRST_PIECE
        self._finished: dict[int, int] = {}
        self.prefix = 0
        """Runs 0 … prefix − 1 are done."""
        self.stopped = False

    def take(self, threads: int) -> tuple[int, int] | None:
        with self._lock:
            if self.stopped or self._next >= self._runs:
                return None
            begin = self._next
            # Towards the end smaller pieces, so that no thread is left with a long one while the others wait.
            size = min(self._size, max((self._runs - begin) // (2 * threads), _FIRST_PIECE))
            self._next = min(begin + size, self._runs)
            return begin, self._next

    def finish(self, begin: int, end: int, seconds: float) -> None:
        with self._lock:
            self._finished[begin] = end
            while self.prefix in self._finished:
                self.prefix = self._finished.pop(self.prefix)
            fitting = int((end - begin) * _PIECE_SECONDS / max(seconds, 1e-6))
            self._size = max(1, min(fitting, 4 * self._size))


def run_in_pieces(piece: Piece, runs: int, *, threads: int, progress: Progress | None = None) -> int:
    """Do all runs; returns how many of them, counted from the first, are done: less than `runs` after Ctrl-C.

    `piece` fills in results by run number, so neither the sizes of pieces nor the number of threads can change them.
    An exception in any thread stops all and is raised here.
    """
    plan = _Plan(runs)
    failures: list[BaseException] = []

    def one_piece(sharing: int) -> float | None:
        """Seconds per run of the next piece; None when there is none left."""
        span = plan.take(sharing)
        if span is None:
            return None
        started = time.perf_counter()
        piece(*span)
        seconds = time.perf_counter() - started
        plan.finish(*span, seconds)
        return seconds / (span[1] - span[0])

    def work(sharing: int, report: Progress | None) -> None:
        reported = time.monotonic()
        while one_piece(sharing) is not None:
            if report is not None and time.monotonic() - reported >= _PROGRESS_SECONDS:
                reported = time.monotonic()
                report(plan.prefix, runs)

    def work_aside() -> None:
        try:
            work(threads, None)
        except BaseException as failure:  # noqa: BLE001 - carried over to the calling thread, which raises it
            failures.append(failure)
            plan.stopped = True

    helpers: list[threading.Thread] = []
    try:
        # The first piece tells whether threads are worth their start; a sweep simulates hundreds of small samples.
        per_run = one_piece(threads)
        if per_run is not None and per_run * (runs - plan.prefix) > _ALONE_SECONDS:
            helpers += [threading.Thread(target=work_aside, daemon=True) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        work(1 + len(helpers), progress)
        for helper in helpers:
            helper.join()
    except KeyboardInterrupt:
        plan.stopped = True
        for helper in helpers:
            helper.join()
    except BaseException:
        plan.stopped = True
        raise
    if failures:
        raise failures[0]
    if progress is not None:
        progress(plan.prefix, runs)
    return plan.prefix
