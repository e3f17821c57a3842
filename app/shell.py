"""What surrounds every page: settings, navigation, the inputs at the side, corrections, the wait for the plan."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import streamlit as st

from app import state
from app.inputs import sidebar
from app.text import plain, show_error
from app.waiting import result_of
from planner.views.link import Link
from planner.views.plan import Plan, make_plan, plan_key
from planner.views.sentences import PlannerError

PAGES = (
    ("plan", "Plan", ":material/payments:"),
    ("compare", "Compare", ":material/scatter_plot:"),
    ("understand", "Understand", ":material/timeline:"),
    ("assumptions", "Assumptions", ":material/checklist:"),
    ("export", "Export", ":material/download:"),
    ("runs", "Runs", ":material/monitor_heart:"),
)
ICON = "data:image/png;base64," + b64encode(Path(__file__).with_name("icon.png").read_bytes()).decode()
"""In the page itself: Streamlit would fetch a named icon from the internet, and forgets a file's with the session."""
WITHOUT_PLAN = frozenset({"runs"})


def run() -> None:
    """One run of the script."""
    st.set_page_config(page_title="Spot planner", page_icon=ICON, layout="wide")
    pages = [
        st.Page(_page(name), title=title, icon=icon, url_path=name, default=name == "plan")
        for name, title, icon in PAGES
    ]
    st.navigation(pages, position="top").run()


def _page(name: str) -> Callable[[], None]:
    def draw() -> None:
        show(name)

    draw.__name__ = name
    return draw


def show(name: str) -> None:
    """The page `name` with everything around it."""
    module = import_module(f"app.screens.{name}")
    held = state.chosen()
    held.is_new_page = held.page != name
    link: Link | None = None
    wrong: PlannerError | None = None
    try:
        link = state.current_link()
    except PlannerError as error:
        wrong = error
    sidebar(held, link)
    held.page = name
    _corrections(held)
    state.write_url()
    if name in WITHOUT_PLAN:
        module.draw()
    elif link is None:
        assert wrong is not None
        show_error(wrong)
    elif (plan := plan_of(link)) is not None:
        module.draw(plan)


def _corrections(held: state.Chosen) -> None:
    if held.refused is not None:
        show_error(held.refused)
    for correction in held.corrections:
        st.warning(plain(correction.sentence), icon=":material/edit:")


def plan_of(link: Link) -> Plan | None:
    """The plan of `link`; None while it is being worked out or where there is none (the page says which)."""
    try:
        found: Plan | None = result_of("plan", plan_key(link, state.prices_key()), lambda say: make_plan(link, say))
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return None
    # Links that differ only in what is shown or written share a plan.
    return None if found is None else replace(found, link=link)
