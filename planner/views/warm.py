"""A warm start: the example's plan, and what drawing it needs, before the first visitor asks."""

from __future__ import annotations

import importlib
import threading

from planner.catalogue import load_catalogue
from planner.views.link import resolve
from planner.views.plan import make_plan, plan_key
from planner.views.work import WORK, Job

_DRAWING = ("altair", "pandas", "planner.views.ledger", "planner.views.timeline", "planner.views.tornado")


def warm_up() -> Job:
    """Start working the example out (in a thread) and load the charts' library; the job of the example's plan."""
    link = resolve((), load_catalogue())
    job = WORK.start(plan_key(link), lambda say: make_plan(link, say))
    threading.Thread(target=_load, daemon=True, name="planner-warm-up").start()
    return job


def _load() -> None:
    for name in _DRAWING:
        importlib.import_module(name)
