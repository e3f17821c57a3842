"""Long work: progress, results by key, cancelling only when nobody waits any more."""

from __future__ import annotations

import threading

import pytest

from planner.views.plan import Say
from planner.views.work import Cancelled, Work


def test_the_same_key_is_worked_out_once() -> None:
    """A second visitor costs nothing."""
    work, calls = Work(), []

    def function(say: Say) -> int:
        calls.append(say)
        return 7

    first, second = work.start("a", function), work.start("a", function)
    assert first is second
    assert first.wait(30.0)
    assert (first.result(), len(calls)) == (7, 1)
    assert work.start("b", function).wait(30.0)
    assert len(calls) == 2


def test_progress_is_seen_and_cancelling_ends_the_work_at_its_next_report() -> None:
    """The work itself never notices anything but its own report raising."""
    work, go, reported, ended = Work(), threading.Event(), threading.Event(), threading.Event()

    def function(say: Say) -> None:
        try:
            say("half", 1, 2)
            reported.set()
            go.wait(30.0)
            say("all", 2, 2)
        finally:
            ended.set()

    job = work.start("a", function)
    assert reported.wait(30.0)
    assert (job.what, job.fraction) == ("half", 0.5)
    job.cancel()
    go.set()
    assert job.wait(30.0)
    assert ended.is_set()
    with pytest.raises(Cancelled):
        job.result()
    again = work.start("a", lambda _say: "fresh")
    assert again is not job
    assert again.wait(30.0)
    assert again.result() == "fresh"


def test_leaving_stops_the_work_only_when_nobody_else_waits() -> None:
    """One session's change of mind does not take the result from another."""
    work, go = Work(), threading.Event()
    job = work.start("a", lambda _say: go.wait(30.0))
    job.watchers |= {"one", "two"}
    job.leave("one")
    assert not job.was_cancelled
    job.leave("two")
    assert job.was_cancelled
    go.set()


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    """Not in the thread, where nobody would see it."""

    def function(_say: Say) -> None:
        raise ValueError("no")

    job = Work().start("a", function)
    assert job.wait(30.0)
    with pytest.raises(ValueError, match="no"):
        job.result()


def test_old_results_are_forgotten_but_never_running_work() -> None:
    """Memory is bounded by `kept`."""
    work, go = Work(kept=2), threading.Event()
    running = work.start("running", lambda _say: go.wait(30.0))
    for key in range(5):
        assert work.start(key, lambda _say: None).wait(30.0)
    assert work.start("running", lambda _say: None) is running
    assert len(work) <= 3
    go.set()
