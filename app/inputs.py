"""The inputs at the side: each is one key of the query, shows it, and writes it back when changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import state
from app.state import Chosen, held_input
from app.text import note, plain, show_error
from app.waiting import result_of
from planner.catalogue import Catalogue, Instance
from planner.views import choices
from planner.views.link import EXAMPLE, Link
from planner.views.market import ask_live

_ANYWHERE = "anywhere"


def sidebar(held: Chosen, link: Link | None) -> None:
    """All inputs.  `link` is None where the query cannot be used: the inputs are there to mend it."""
    catalogue = state.catalogue()
    given = dict(held.query or ())
    with st.sidebar:
        st.header("Your job")
        _number(held, "Work (hours)", "work-hours", given, link, help="Useful training hours on the whole fleet.")
        _number(
            held,
            "Checkpoint (GiB)",
            "checkpoint-gib",
            given,
            link,
            help="Model and optimizer state; with Adam about 0.013 GiB per million parameters.",
        )
        _number(held, "Deadline (hours)", "deadline-hours", given, link, optional=True, help="From the first request.")
        st.header("Where")
        _instance(held, catalogue, given)
        _number(held, "Nodes", "nodes", given, link, whole=True)
        _place(held, catalogue, given)
        st.header("What if")
        _hazard(held, given, link)
        _notice(held, given, link)
        with st.expander("More"):
            _number(
                held,
                "Save every (seconds)",
                "interval-seconds",
                given,
                link,
                optional=True,
                help="Empty: the cheapest interval is looked for.",
            )
            _number(held, "Go on with at least (nodes)", "min-nodes", given, link, whole=True, optional=True)
            _choice(held, "Look for the least", "objective", choices.objectives(given), given, default="cost")
            _choice(held, "Policy", "policy", choices.policies(), given, default="spot-only")
            _choice(held, "Simulated runs", "runs", choices.run_counts(given.get("runs")), given, default=choices.RUNS)
            _text(held, "Seed", "seed", given, default="1")
        _prices(held, catalogue, given)
        _scenario(held)
        st.button("Start over with the example", on_click=held.start_over, width="stretch")


def _writer(held: Chosen, key: str) -> Callable[[Any], None]:
    """Puts what an input holds into the query."""

    def write(value: Any) -> None:
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        held.change({key: None if value is None or value == "" else text})

    return write


def _number(
    held: Chosen,
    label: str,
    key: str,
    given: dict[str, str],
    link: Link | None,
    *,
    whole: bool = False,
    optional: bool = False,
    help: str | None = None,  # noqa: A002  Streamlit's name for it
) -> None:
    widget = held.input(f"in-{key}")
    value = choices.number(given.get(key), link, key, whole=whole, optional=optional)
    st.number_input(
        label,
        min_value=1 if whole else 0.0,
        value=None,
        step=1 if whole else None,
        format=None if whole else "%.10g",
        key=widget,
        on_change=held_input(widget, value, _writer(held, key)),
        placeholder="none" if optional else "",
        help=help,
    )


def _text(held: Chosen, label: str, key: str, given: dict[str, str], *, default: str) -> None:
    widget = held.input(f"in-{key}")
    on_change = held_input(widget, given.get(key, default), _writer(held, key))
    st.text_input(label, key=widget, on_change=on_change, max_chars=40)


def _choice(held: Chosen, label: str, key: str, options: Sequence[str], given: dict[str, str], *, default: str) -> None:
    widget = held.input(f"in-{key}")
    now = given.get(key, default)
    shown = list(options) if now in options else [*options, now]
    st.selectbox(label, shown, key=widget, on_change=held_input(widget, now, _writer(held, key)))


def _instance(held: Chosen, catalogue: Catalogue, given: dict[str, str]) -> None:
    rows: dict[str, Instance] = choices.instances(catalogue)
    widget = held.input("in-instance")

    def choose(picked: str) -> None:
        # Places and sources of another type mean nothing here.
        held.change({"instance": picked, **dict.fromkeys(choices.BELONGS_TO_TYPE)})

    on_change = held_input(widget, given.get("instance", EXAMPLE["instance"]), choose)
    st.selectbox(
        "Instance type",
        list(rows),
        key=widget,
        format_func=lambda name: choices.instance_label(rows[name]),
        on_change=on_change,
    )


def _place(held: Chosen, catalogue: Catalogue, given: dict[str, str]) -> None:
    instance, region = given.get("instance", EXAMPLE["instance"]), given.get("region")
    regions, zones = choices.places(catalogue, instance, region)

    def choose_region(picked: str) -> None:
        held.change({"region": None if picked == _ANYWHERE else picked, "zone": None})

    def choose_zone(picked: str) -> None:
        held.change({"zone": None if picked == _ANYWHERE else picked})

    # Named after what they depend on: what the browser still holds of another type's places is nobody's choice.
    for label, key, name, options, choose in (
        ("Region", "region", f"in-region-{instance}", regions, choose_region),
        ("Zone", "zone", f"in-zone-{instance}-{region}", zones, choose_zone),
    ):
        now = given.get(key, _ANYWHERE)
        shown = [_ANYWHERE, *options] if now in (_ANYWHERE, *options) else [_ANYWHERE, *options, now]
        widget = held.input(name)
        st.selectbox(label, shown, key=widget, on_change=held_input(widget, now, choose))


def _hazard(held: Chosen, given: dict[str, str], link: Link | None) -> None:
    names = choices.hazards(link, state.catalogue(), given.get("instance", EXAMPLE["instance"]))
    labels = {choices.BEST_SOURCE: f"best source ({names[0]})" if names else "no source knows this type"}
    own = choices.has_own_lifetime(given)
    rate_in_use = choices.rate_text(link)

    def choose(picked: str) -> None:
        changes: dict[str, Any] = dict.fromkeys((*choices.LIFETIME_KEYS, "hazard"))
        if picked == choices.OWN_RATE:
            changes["rate-per-hour"] = rate_in_use
        elif picked != choices.BEST_SOURCE:
            changes["hazard"] = picked
        held.change(changes)

    def slide(rate: str) -> None:
        held.change({**dict.fromkeys((*choices.LIFETIME_KEYS, "hazard")), "rate-per-hour": rate})

    widget = held.input("in-hazard")
    now = choices.OWN_RATE if own else given.get("hazard", choices.BEST_SOURCE)
    st.selectbox(
        "Interruption rate from",
        [choices.BEST_SOURCE, *names, choices.OWN_RATE],
        key=widget,
        format_func=lambda name: labels.get(name, name),
        on_change=held_input(widget, now, choose),
    )
    if own or link is None:
        rate = given.get("rate-per-hour") or rate_in_use
        widget = held.input("in-rate")
        on_change = held_input(widget, rate, slide)
        st.select_slider("Interruptions per node-hour", choices.rate_steps(rate), key=widget, on_change=on_change)


def _notice(held: Chosen, given: dict[str, str], link: Link | None) -> None:
    widget = held.input("in-notice-success")
    value = choices.share(given.get("notice-success"), link, "notice-success")
    st.slider(
        "Notices that are acted on",
        0.0,
        1.0,
        step=0.01,
        key=widget,
        on_change=held_input(widget, value, _writer(held, "notice-success")),
        help="Probability that a notice which leaves enough time leads to an emergency save.",
    )


def _scenario(held: Chosen) -> None:
    widget = held.input("in-scenario")

    def taken() -> None:
        file = st.session_state.to_dict()[widget]
        if file is not None:
            held.open(file.name, file.getvalue())

    with st.expander("Open a scenario file"):
        st.file_uploader(
            "Scenario (YAML or JSON)",
            type=["yaml", "yml", "json"],
            key=widget,
            on_change=taken,
            max_upload_size=1,
            help="What planner recommend reads. It replaces all inputs.",
        )


def _prices(held: Chosen, catalogue: Catalogue, given: dict[str, str]) -> None:
    name = given.get("instance", EXAMPLE["instance"])
    with st.expander("Prices"):
        note(plain(choices.price_age(catalogue, name, held.live)))
        if held.live is not None:
            for line in held.live.missing:
                note(plain(line))
            st.button("Use the bundled prices", on_click=held.use_live, args=(None,), width="stretch")
        st.button("Ask for live prices", on_click=held.ask_live, width="stretch")
        if held.asking is not None:
            _ask_live(held, choices.instances(catalogue).get(name))


def _ask_live(held: Chosen, instance: Instance | None) -> None:
    if instance is None:
        held.asking = None
        return
    try:
        found = result_of(
            "live prices",
            ("live", instance.name, held.asking, held.session),
            lambda _say: ask_live(state.bundled(), instance),
        )
    except Exception as error:  # noqa: BLE001 - whatever a provider's library raises becomes a sentence
        held.asking = None
        show_error(error)
        return
    if found is not None:
        held.use_live(found)
        st.rerun()
