"""The inputs at the side: each is one key of the query, set from it before it is drawn, written back when changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import state
from app.text import note, plain, show_error
from app.waiting import result_of
from planner.catalogue import Catalogue, Instance
from planner.views import choices
from planner.views.link import EXAMPLE, Link, Query
from planner.views.market import ask_live

_ANYWHERE = "anywhere"


def sidebar(query: Query, link: Link | None) -> None:
    """All inputs.  `link` is None where the query cannot be used: the inputs are there to mend it."""
    catalogue = state.catalogue()
    given = dict(query)
    with st.sidebar:
        st.header("Your job")
        _number("Work (hours)", "work-hours", given, link, help="Useful training hours on the whole fleet.")
        _number(
            "Checkpoint (GiB)",
            "checkpoint-gib",
            given,
            link,
            help="Model and optimizer state; with Adam about 0.013 GiB per million parameters.",
        )
        _number("Deadline (hours)", "deadline-hours", given, link, optional=True, help="From the first request.")
        st.header("Where")
        _instance(catalogue, given)
        _number("Nodes", "nodes", given, link, whole=True)
        _place(catalogue, given)
        st.header("What if")
        _hazard(given, link)
        _notice(given, link)
        with st.expander("More"):
            _number(
                "Save every (seconds)",
                "interval-seconds",
                given,
                link,
                optional=True,
                help="Empty: the cheapest interval is looked for.",
            )
            _number("Go on with at least (nodes)", "min-nodes", given, link, whole=True, optional=True)
            _choice("Look for the least", "objective", choices.objectives(given), given, default="cost")
            _choice("Policy", "policy", choices.policies(), given, default="spot-only")
            _choice("Simulated runs", "runs", choices.run_counts(given.get("runs")), given, default=choices.RUNS)
            _text("Seed", "seed", given, default="1")
        _prices(catalogue, given)
        st.button("Start over with the example", on_click=state.start_over, width="stretch")


def _changed(key: str, widget: str) -> None:
    value = st.session_state[widget]
    if isinstance(value, float):
        value = f"{value:.10g}"
    state.change({key: None if value is None or value == "" else str(value)})


def _number(
    label: str,
    key: str,
    given: dict[str, str],
    link: Link | None,
    *,
    whole: bool = False,
    optional: bool = False,
    help: str | None = None,  # noqa: A002  Streamlit's name for it
) -> None:
    widget = f"in-{key}"
    st.session_state[widget] = choices.number(given.get(key), link, key, whole=whole, optional=optional)
    st.number_input(
        label,
        min_value=1 if whole else 0.0,
        value=None,
        step=1 if whole else None,
        format=None if whole else "%.10g",
        key=widget,
        on_change=_changed,
        args=(key, widget),
        placeholder="none" if optional else "",
        help=help,
    )


def _text(label: str, key: str, given: dict[str, str], *, default: str) -> None:
    widget = f"in-{key}"
    st.session_state[widget] = given.get(key, default)
    st.text_input(label, key=widget, on_change=_changed, args=(key, widget), max_chars=40)


def _choice(label: str, key: str, options: Sequence[str], given: dict[str, str], *, default: str) -> None:
    widget = f"in-{key}"
    chosen = given.get(key, default)
    shown = list(options) if chosen in options else [*options, chosen]
    st.session_state[widget] = chosen
    st.selectbox(label, shown, key=widget, on_change=_changed, args=(key, widget))


def _instance(catalogue: Catalogue, given: dict[str, str]) -> None:
    rows: dict[str, Instance] = choices.instances(catalogue)

    def choose() -> None:
        # Places and sources of another type mean nothing here.
        picked = st.session_state["in-instance"]
        state.change({"instance": picked, **dict.fromkeys(choices.BELONGS_TO_TYPE)})

    st.session_state["in-instance"] = given.get("instance", EXAMPLE["instance"])
    st.selectbox(
        "Instance type",
        list(rows),
        key="in-instance",
        format_func=lambda name: choices.instance_label(rows[name]),
        on_change=choose,
    )


def _place(catalogue: Catalogue, given: dict[str, str]) -> None:
    regions, zones = choices.places(catalogue, given.get("instance", EXAMPLE["instance"]), given.get("region"))

    def choose(key: str) -> None:
        picked = st.session_state[f"in-{key}"]
        changes = {key: None if picked == _ANYWHERE else picked}
        if key == "region":
            changes["zone"] = None
        state.change(changes)

    for label, key, options in (("Region", "region", regions), ("Zone", "zone", zones)):
        chosen = given.get(key, _ANYWHERE)
        shown = [_ANYWHERE, *options] if chosen in (_ANYWHERE, *options) else [_ANYWHERE, *options, chosen]
        st.session_state[f"in-{key}"] = chosen
        st.selectbox(label, shown, key=f"in-{key}", on_change=choose, args=(key,))


def _hazard(given: dict[str, str], link: Link | None) -> None:
    names = choices.hazards(link, state.catalogue(), given.get("instance", EXAMPLE["instance"]))
    labels = {choices.BEST_SOURCE: f"best source ({names[0]})" if names else "no source knows this type"}
    own = choices.has_own_lifetime(given)

    def choose() -> None:
        picked = st.session_state["in-hazard"]
        changes: dict[str, Any] = dict.fromkeys((*choices.LIFETIME_KEYS, "hazard"))
        if picked == choices.OWN_RATE:
            changes["rate-per-hour"] = choices.rate_text(link)
        elif picked != choices.BEST_SOURCE:
            changes["hazard"] = picked
        state.change(changes)

    def slide() -> None:
        state.change(
            {**dict.fromkeys((*choices.LIFETIME_KEYS, "hazard")), "rate-per-hour": st.session_state["in-rate"]}
        )

    st.session_state["in-hazard"] = choices.OWN_RATE if own else given.get("hazard", choices.BEST_SOURCE)
    st.selectbox(
        "Interruption rate from",
        [choices.BEST_SOURCE, *names, choices.OWN_RATE],
        key="in-hazard",
        format_func=lambda name: labels.get(name, name),
        on_change=choose,
    )
    if own or link is None:
        rate = given.get("rate-per-hour") or choices.rate_text(link)
        st.session_state["in-rate"] = rate
        st.select_slider("Interruptions per node-hour", choices.rate_steps(rate), key="in-rate", on_change=slide)


def _notice(given: dict[str, str], link: Link | None) -> None:
    st.session_state["in-notice-success"] = choices.share(given.get("notice-success"), link, "notice-success")
    st.slider(
        "Notices that are acted on",
        0.0,
        1.0,
        step=0.01,
        key="in-notice-success",
        on_change=_changed,
        args=("notice-success", "in-notice-success"),
        help="Probability that a notice which leaves enough time leads to an emergency save.",
    )


def _prices(catalogue: Catalogue, given: dict[str, str]) -> None:
    found = state.live()
    with st.expander("Prices"):
        note(plain(choices.price_age(catalogue, given.get("instance", EXAMPLE["instance"]), found)))
        if found is not None:
            for line in found.missing:
                note(plain(line))
            st.button("Use the bundled prices", on_click=state.use_live, args=(None,), width="stretch")
        if st.button("Ask for live prices", width="stretch") or st.session_state.get("asking_live"):
            _ask_live(catalogue, given.get("instance", EXAMPLE["instance"]))


def _ask_live(catalogue: Catalogue, name: str) -> None:
    asked = st.session_state.setdefault("asking_live", st.session_state.get("times_asked", 0) + 1)
    instance = choices.instances(catalogue).get(name)
    if instance is None:
        st.session_state.pop("asking_live")
        return
    try:
        found = result_of(
            "live prices", ("live", name, asked, state.prices_key()), lambda _say: ask_live(catalogue, instance)
        )
    except Exception as error:  # noqa: BLE001 - whatever a provider's library raises becomes a sentence
        st.session_state.pop("asking_live")
        show_error(error)
        return
    if found is not None:
        st.session_state["times_asked"] = asked
        st.session_state.pop("asking_live")
        state.use_live(found)
        st.rerun()
