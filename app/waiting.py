"""Asking for long work from a page: at once where it is quick, else with progress and a way to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from planner.views.plan import Say
from planner.views.work import WORK, Cancelled, Job

PATIENCE_SECONDS = 1.5
"""What takes no longer than this is simply waited for: a progress bar that flashes by only disturbs."""
_POLL_SECONDS = 0.25
_SLICE_SECONDS = 0.05


def result_of(slot: str, key: Hashable, function: Callable[[Say], Any]) -> Any:
    """The result of `function`, cached by `key`; None while it is not there yet (progress is on the page then).

    `slot` names what the page is waiting for: a new key in a slot stops the old work, unless somebody else waits for
    it too.  Raises what the work raised.
    """
    session = _session()
    held: dict[str, Job] = st.session_state.setdefault("jobs", {})
    stopped = held.get(slot)
    if stopped is not None and stopped.key == key and stopped.was_cancelled:
        # Asked for again only when the user says so.
        _show_stopped(slot)
        return None
    job = WORK.start(key, function)
    job.watchers.add(session)
    previous = held.get(slot)
    if previous is not None and previous is not job:
        previous.leave(session)
    held[slot] = job
    if not _comes_soon(job):
        _show_progress(slot, job)
        return None
    try:
        return job.result()
    except Cancelled:
        _show_stopped(slot)
        return None


def _comes_soon(job: Job) -> bool:
    """Wait for the job a little, but no longer than until the user does something else."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not job.wait(_SLICE_SECONDS):
        if time.monotonic() > until:
            return False
        # Looking at the session's state ends this run where another has been asked for: an answer to an input that has
        # been moved on since is not waited for.
        st.session_state.get("jobs")
    return True


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context is not None else "no session"


def _show_progress(slot: str, job: Job) -> None:
    @st.fragment(run_every=_POLL_SECONDS)
    def progress() -> None:
        # (Stopping shows at once, even where the work notices only after a while.)
        if job.is_done or job.was_cancelled:
            st.rerun()
        text, stop = st.columns([5, 1], vertical_alignment="center")
        text.progress(job.fraction, text=f"{job.what.capitalize()} …")
        stop.button("Stop", key=f"stop-{slot}", width="stretch", on_click=job.cancel)

    progress()


def _show_stopped(slot: str) -> None:
    st.info("Stopped. Nothing was kept of it.", icon=":material/pan_tool:")
    st.button("Start again", key=f"again-{slot}", on_click=st.session_state["jobs"].pop, args=(slot, None))
