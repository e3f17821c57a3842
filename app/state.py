"""What the user chose: one query (key and value pairs), held in the session and mirrored in the URL.

The query is the only state.  A link that was followed (or reached with the browser's back button) replaces it, after
`planner.views.link.resolve` has corrected it; inputs show it and write back into it.

Streamlit may cut a run of the script short at any of its own calls, `st.session_state[...]` included, when the user
does the next thing.  So the choices are one plain object, and a callback changes it without any such call in between:
what a user did is never lost.  Nor does a slow run put an old value back into an input that has been moved on since:
`held_input` writes to a widget only where it shows something else than the query says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from planner.catalogue import Catalogue, load_catalogue
from planner.views.link import Correction, Link, Query, changed, resolve, with_assumption
from planner.views.market import Live
from planner.views.plan import BUNDLED
from planner.views.sentences import PlannerError
from planner.views.upload import scenario_query

_CHOSEN = "chosen"
_START = "start"


@dataclass
class Chosen:
    """The choices of one session.  Its methods make no call of Streamlit's."""

    query: Query | None = None
    """None until the URL has been read."""
    corrections: tuple[Correction, ...] = ()
    refused: PlannerError | None = None
    """Why an uploaded scenario was not taken."""
    written: Query | None = None
    """What the URL was last set to."""
    version: int = 0
    """Part of each input's name: inputs start afresh when the query is replaced as a whole."""
    page: str = ""
    """The page whose inputs were drawn last, ..."""
    is_new_page: bool = True
    """... and whether this run draws another one: Streamlit makes every input anew there, and empty."""
    session: str = field(default_factory=lambda: uuid4().hex)
    """Tells this session's results from others' where they rest on what only this session has."""

    live: Live | None = None
    """Live prices, once they were asked for, ..."""
    live_catalogue: Catalogue | None = None
    """... and the tables with them."""
    prices_version: int = 0
    asking: int | None = None
    """Number of the question for live prices that waits for its answer."""
    asked: int = 0

    def change(self, changes: Mapping[str, str | None]) -> None:
        """Set keys of the query; None takes one out."""
        self.corrections, self.refused = (), None
        self.query = changed(self.query or (), changes)

    def assume(self, name: str, value: str | None) -> None:
        """Replace a stated assumption, or (None) take the replacement out."""
        self.corrections, self.refused = (), None
        self.query = with_assumption(self.query or (), name, value)

    def pick(self, changes: Mapping[str, str | None]) -> None:
        """Set several keys from outside of their inputs."""
        self.replace(changed(self.query or (), changes))

    def replace(self, query: Query) -> None:
        """Take over another query."""
        self.corrections, self.refused = (), None
        self.query = query
        self.version += 1

    def open(self, name: str, data: bytes) -> None:
        """Take over a scenario file; where it cannot be used, everything stays and `refused` says why."""
        try:
            self.replace(scenario_query(name, data))
        except PlannerError as error:
            self.refused = error

    def start_over(self) -> None:
        """Back to the example."""
        self.replace(())

    def ask_live(self) -> None:
        """Live prices are wanted."""
        self.asked += 1
        self.asking = self.asked

    def use_live(self, found: Live | None) -> None:
        """Plan with these prices from now on; None: with the bundled ones."""
        self.live_catalogue = None if found is None else found.catalogue(bundled())
        self.live = found
        self.prices_version += 1
        self.asking = None

    def input(self, name: str) -> str:
        """The key of the input `name`."""
        return f"{name}-{self.version}" if self.version else name


def chosen() -> Chosen:
    """This session's choices."""
    if _CHOSEN not in st.session_state:
        st.session_state[_CHOSEN] = Chosen()
    found: Chosen = st.session_state[_CHOSEN]
    return found


def held_input(widget: str, value: Any, write: Callable[[Any], None]) -> Callable[[], None]:
    """Make `widget` show `value`; the callback that hands what the user makes of it to `write`.

    `write` must make no call of Streamlit's.
    """
    if chosen().is_new_page or widget not in st.session_state or st.session_state[widget] != value:
        st.session_state[widget] = value

    def callback() -> None:
        # All values at once: unlike st.session_state[widget], this cannot be cut short.
        write(st.session_state.to_dict()[widget])

    return callback


def current_link() -> Link:
    """The scenario of this session: from the URL at first and after the browser's back button, else as it was left.

    Raises InvalidInputError where the scenario cannot be used.
    """
    held = chosen()
    url = _url_query()
    if held.query is None:
        held.query = url
    elif url and url != held.query and _went_back():
        held.replace(url)
    link = resolve(held.query, catalogue())
    if link.corrections:
        held.corrections = link.corrections
    held.query = link.query
    return link


def _went_back() -> bool:
    """Whether this run is due to the browser's back or forward button.

    At any other time the URL that came with a run may be older than what the user did since.
    """
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def write_url() -> None:
    """Put the session's query into the URL, so that it can be sent to someone."""
    held = chosen()
    query = held.query or ()
    if query != held.written or _url_query() != query:
        several: dict[str, list[str]] = {}
        for key, value in query:
            several.setdefault(key, []).append(value)
        st.query_params.from_dict(several)
        held.written = query


def _url_query() -> Query:
    return tuple((key, value) for key in st.query_params for value in st.query_params.get_all(key))


def catalogue() -> Catalogue:
    """The bundled tables, with live prices where this session asked for them."""
    return chosen().live_catalogue or bundled()


@cache
def bundled() -> Catalogue:
    """The bundled tables, read once: a run of the script asks for them several times."""
    return load_catalogue()


def prices_key() -> tuple[str, int]:
    """What tells this session's prices from others' in the cache of results."""
    held = chosen()
    return BUNDLED if held.live is None else (held.session, held.prices_version)


def start_moment() -> datetime:
    """When this session began, in the browser's time zone: what "done Friday 14:00" counts from."""
    if _START not in st.session_state:
        zone = st.context.timezone
        try:
            here = ZoneInfo(zone) if zone else UTC
        except (KeyError, ValueError):
            here = UTC
        st.session_state[_START] = datetime.now(here)
    moment: datetime = st.session_state[_START]
    return moment


def is_dark() -> bool:
    """Whether the page is dark; light until the browser has said."""
    return st.context.theme.type == "dark"
