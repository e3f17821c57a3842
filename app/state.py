"""What the user chose: one query (key and value pairs), held in the session and mirrored in the URL.

The query is the only state: widgets are set from it before they are drawn and write back into it.  A URL that was
pasted (or reached with the browser's back button) replaces it, after `planner.views.link.resolve` has corrected it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import streamlit as st

from planner.catalogue import Catalogue, load_catalogue
from planner.views.link import Correction, Link, Query, changed, resolve, with_assumption
from planner.views.market import Live
from planner.views.plan import BUNDLED

_QUERY = "query"
_WRITTEN = "query_written"
_CORRECTIONS = "corrections"
_LIVE = "live_prices"
_START = "start"


def catalogue() -> Catalogue:
    """The bundled tables, with live prices where this session asked for them."""
    found: Catalogue | None = st.session_state.get("catalogue")
    return bundled() if found is None else found


@cache
def bundled() -> Catalogue:
    """The bundled tables, read once: a run of the script asks for them several times."""
    return load_catalogue()


def live() -> Live | None:
    """Live prices, once this session asked for them."""
    found: Live | None = st.session_state.get(_LIVE)
    return found


def use_live(found: Live | None) -> None:
    """Plan with these prices from now on; None: with the bundled ones."""
    st.session_state[_LIVE] = found
    st.session_state["catalogue"] = None if found is None else found.catalogue(bundled())
    st.session_state["prices_version"] = st.session_state.get("prices_version", 0) + 1


def prices_key() -> tuple[str, int]:
    """What tells this session's prices from others' in the cache of results."""
    if live() is None:
        return BUNDLED
    return (str(id(st.session_state)), st.session_state.get("prices_version", 0))


def current_link() -> Link:
    """The scenario of this session: from the URL if that is new, else as the widgets left it.

    Raises InvalidInputError where the scenario cannot be used.
    """
    url = _url_query()
    pasted = bool(url) and url != st.session_state.get(_WRITTEN)
    if pasted or _QUERY not in st.session_state:
        st.session_state[_CORRECTIONS] = ()
        st.session_state[_QUERY] = url
    link = resolve(st.session_state[_QUERY], catalogue())
    if link.corrections:
        st.session_state[_CORRECTIONS] = link.corrections
    st.session_state[_QUERY] = link.query
    return link


def query() -> Query:
    """The session's query as it stands."""
    found: Query = st.session_state.get(_QUERY, ())
    return found


def write_url() -> None:
    """Put the session's query into the URL, so that it can be sent to someone."""
    query: Query = st.session_state.get(_QUERY, ())
    if _url_query() != query:
        several: dict[str, list[str]] = {}
        for key, value in query:
            several.setdefault(key, []).append(value)
        st.query_params.from_dict(several)
    st.session_state[_WRITTEN] = _url_query()


def _url_query() -> Query:
    return tuple((key, value) for key in st.query_params for value in st.query_params.get_all(key))


def corrections() -> tuple[Correction, ...]:
    """What had to be corrected in the link, until something is changed."""
    found: tuple[Correction, ...] = st.session_state.get(_CORRECTIONS, ())
    return found


def change(changes: Mapping[str, str | None]) -> None:
    """Set keys of the query; None takes one out."""
    st.session_state[_CORRECTIONS] = ()
    st.session_state[_QUERY] = changed(st.session_state.get(_QUERY, ()), changes)


def assume(name: str, value: str | None) -> None:
    """Replace a stated assumption, or (None) take the replacement out."""
    st.session_state[_CORRECTIONS] = ()
    st.session_state[_QUERY] = with_assumption(st.session_state.get(_QUERY, ()), name, value)


def start_over() -> None:
    """Back to the example."""
    st.session_state[_CORRECTIONS] = ()
    st.session_state[_QUERY] = ()


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
