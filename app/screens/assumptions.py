"""Assumptions: every value with its unit, source and date; each can be edited, and what was edited is marked."""

from __future__ import annotations

from itertools import groupby

import streamlit as st

from app import state
from app.state import Chosen, held_input
from app.text import plain
from planner.views.choices import LIFETIME_KEYS
from planner.views.ledger import Entry, ledger
from planner.views.plan import Plan


def draw(plan: Plan) -> None:
    """The page."""
    entries = ledger(plan)
    edited = sum(entry.edited for entry in entries)
    st.title("Assumptions", anchor=False)
    st.markdown(
        f"{len(entries)} values; {edited} given or edited by you (marked :material/edit:), the rest from the bundled "
        "tables or stated assumptions. Change any of them: the plan follows."
    )
    held = state.chosen()
    st.button("Reset all", on_click=held.start_over)
    for section, rows in groupby(entries, key=lambda entry: entry.section):
        st.subheader(section)
        for entry in rows:
            _row(held, entry)


def _row(held: Chosen, entry: Entry) -> None:
    widget = held.input(f"value-{'stated-' if entry.stated else ''}{entry.name}")

    name, value, source, reset = st.columns([2.2, 1.6, 4.4, 0.9], vertical_alignment="center")
    unit = f" ({entry.unit})" if entry.unit else ""
    mark = ":material/edit: " if entry.edited else ""
    name.markdown(mark + plain(f"{entry.name}{unit}"))
    if entry.key is None:
        value.markdown(plain(entry.shown))
    else:
        value.text_input(
            f"{entry.name}{unit}",
            key=widget,
            label_visibility="collapsed",
            on_change=held_input(widget, entry.text, lambda text: _set(held, entry, str(text).strip() or None)),
            max_chars=60,
            placeholder="not set",
        )
    as_of = f" ({entry.as_of})" if entry.as_of else ""
    where = f"{entry.source}{as_of}" if entry.source else entry.help
    source.markdown(f":small[{plain(where)}]")
    if entry.edited and entry.key is not None:
        reset.button(
            "Reset",
            key=f"reset-{widget}",
            on_click=_set,
            args=(held, entry, None),
            help=f"Back to what {entry.name} was without you",
        )


def _set(held: Chosen, entry: Entry, text: str | None) -> None:
    if entry.key is None:
        return
    if entry.stated:
        held.assume(entry.key, text)
    elif entry.key == "rate-per-hour":
        held.change({**dict.fromkeys((*LIFETIME_KEYS, "hazard")), entry.key: text})
    elif entry.key == "provision-hours":
        held.change({**dict.fromkeys(("provision-distribution", "provision-mean-hours")), entry.key: text})
    else:
        held.change({entry.key: text})
