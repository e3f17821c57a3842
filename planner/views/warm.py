"""A warm start: the example's plan, and what drawing it needs, before the first visitor asks."""

from __future__ import annotations

import gc
import importlib

from planner.catalogue import load_catalogue
from planner.views.link import resolve
from planner.views.plan import make_plan, plan_key
from planner.views.work import WORK, Job

_DRAWING = ("streamlit", "altair", "pandas", "pyarrow", "planner.views.ledger", "planner.views.timeline")


def warm_up() -> Job:
    """Load what the pages need and work the example out; the finished job of its plan.

    Takes two to three seconds, a fifth less without looking for garbage meanwhile.  What is loaded stays loaded: later
    searches for garbage leave it out.

    Raises InvalidInputError where the bundled tables cannot be read.
    """
    gc.disable()
    try:
        link = resolve((), load_catalogue())
        job = WORK.start(plan_key(link), lambda say: make_plan(link, say))
        for name in _DRAWING:
            importlib.import_module(name)
        job.wait(None)
        gc.freeze()
    finally:
        gc.enable()
    return job
