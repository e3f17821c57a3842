"""One plan for all tests (few runs), the pages under Streamlit's AppTest, and Debian's chromium."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import app.waiting
from planner.catalogue import load_catalogue
from planner.views.link import resolve
from planner.views.plan import Plan, make_plan

QUERY = (("instance", "p4d.24xlarge"), ("work-hours", "100"), ("checkpoint-gib", "50"), ("runs", "2000"))
"""The example with fewer runs."""
PATIENCE_SECONDS = 240
"""On a machine that has not compiled the engines yet, and is busy, the first plan takes a minute."""


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The plan of `QUERY`."""
    return make_plan(resolve(QUERY, load_catalogue()))


def _page(name: str) -> None:
    from app.shell import show

    show(name)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """A function that opens a page with a query and runs it: nothing is left to a progress bar."""
    monkeypatch.setattr(app.waiting, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    # Streamlit puts the page's script in place of `__main__`: a process that a later test starts would run it.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def open_page(name: str, query: tuple[tuple[str, str], ...] = QUERY) -> AppTest:
        made = AppTest.from_function(_page, default_timeout=PATIENCE_SECONDS, kwargs={"name": name})
        several: dict[str, list[str]] = {}
        for key, value in query:
            several.setdefault(key, []).append(value)
        for key, values in several.items():
            made.query_params[key] = values if len(values) > 1 else values[0]
        made.run()
        assert not made.exception, made.exception
        return made

    return open_page
