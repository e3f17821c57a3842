"""Understand: one run as a timeline, what moves the answer, prices, hazards."""

from __future__ import annotations

import streamlit as st

from app import state
from app.charts import hazards, prices, timeline, tornado
from app.figure_block import figure_block
from app.text import dollars, note, plain, show_error
from app.waiting import result_of
from planner.views import market, sentences, tables
from planner.views.link import SHOW_RUN
from planner.views.plan import Plan
from planner.views.timeline import TYPICAL, first_window, notable_runs, view_run
from planner.views.tornado import sources
from planner.views.tornado import tornado as tornado_rows


def draw(plan: Plan) -> None:
    """The page."""
    st.title("Understand the plan", anchor=False)
    _one_run(plan)
    _sensitivities(plan)
    _hazards(plan)
    _prices(plan)


def _one_run(plan: Plan) -> None:
    st.header("One simulated run", anchor=False)
    best = plan.best
    notable = notable_runs(best)
    last = best.runs.first_run + len(best.runs) - 1
    held = state.chosen()
    given = plan.link.get(SHOW_RUN)
    chosen = notable[TYPICAL] if given is None else int(given)

    def go(run: int) -> None:
        held.change({SHOW_RUN: None if run == notable[TYPICAL] else str(run)})

    with st.container(horizontal=True):
        st.button("Previous", on_click=go, args=(chosen - 1,), disabled=chosen == 0)
        st.button("Next", on_click=go, args=(chosen + 1,), disabled=chosen == last)
        for name, run in notable.items():
            st.button(name, on_click=go, args=(run,), key=f"run-{name}")
    try:
        view = view_run(best, chosen)
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    sentence = sentences.run_sentence(view)
    st.markdown(dollars(sentence))
    whole = float(view.result.makespan_hours)
    window = st.slider(
        "Stretch that is shown in detail (hours)",
        0.0,
        whole,
        first_window(view),
        format="%.1f",
        key=f"window-{chosen}-{whole:.6f}",
    )
    dark = state.is_dark()
    figure_block(
        "Progress against time",
        timeline.progress_chart(view.progress, view.marks, window, dark=dark),
        view.progress,
        name="run-progress",
        alt=f"Progress against time. {sentence}",
        note="The shaded stretch is shown below, phase by phase.",
    )
    figure_block(
        "Phase by phase",
        timeline.window_chart(view.spans, view.marks, window, dark=dark),
        view.spans,
        name="run-phases",
        alt=f"What the job did from hour {window[0]:.1f} to hour {window[1]:.1f} of run {chosen}, what was in flight "
        "and what happened to it; the table has every phase with its start and end.",
    )
    with st.expander("Everything that happened"):
        st.dataframe(view.marks, hide_index=True, alt=f"Events of run {chosen} in order of time.", key="run-marks")


def _sensitivities(plan: Plan) -> None:
    st.header("What moves the answer", anchor=False)
    try:
        rows = result_of(
            "tornado", ("tornado", plan.link.question, state.prices_key()), lambda say: tornado_rows(plan, say)
        )
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    if rows is None:
        return
    left, right = st.columns(2)
    dark = state.is_dark()
    with left:
        figure_block(
            "Change of the expected cost",
            tornado.tornado_chart(rows, dark=dark),
            rows,
            name="tornado",
            alt=sentences.tornado_alt(rows),
            note="Each value at the lower and upper end of its range, everything else as planned.",
        )
    with right:
        figure_block(
            "Regret of this plan's interval",
            tornado.regret_chart(rows, dark=dark),
            rows[["name", "changed_to", "best_interval_minutes", "regret_percent"]],
            name="regret",
            alt="What keeping this plan's interval costs more than the best interval would, should a value be another "
            "than assumed; the table has every case.",
            note="Should the changed value be the true one: what keeping this plan's interval costs.",
        )


def _hazards(plan: Plan) -> None:
    st.header("How often nodes are taken", anchor=False)
    known = sources(plan)
    hazard = plan.best.completed.hazard
    dark = state.is_dark()
    if not known:
        st.info("The rate is given; no bundled source knows this type.")
        return
    rates = tables.hazard_rates(known, None if hazard is None else hazard.name)
    figure_block(
        "What the sources say",
        hazards.rates_chart(rates, dark=dark),
        rates,
        name="hazard-rates",
        alt="Interruptions per node-hour by source, on a logarithmic scale: "
        + "; ".join(f"{row.name} {row.rate_per_hour:.3g}" for row in known)
        + ".",
        note="Orange diamond: the source in use. Lines: the range that a source states.",
    )
    shown = list(known[:4])
    chosen = st.multiselect(
        "Sources", [row.name for row in known], default=[row.name for row in shown], key="hazard-sources"
    )
    picked = [row for row in known if row.name in chosen] or shown
    curves = tables.hazard_curves(picked, until_hours=tables.HAZARD_HOURS)
    left, right = st.columns(2)
    with left:
        figure_block(
            "Survival", hazards.survival_chart(curves, dark=dark), curves, name="survival",
            alt="Share of nodes not yet reclaimed against their age in hours, for " + ", ".join(chosen) + ".",
        )  # fmt: skip
    with right:
        figure_block(
            "Hazard", hazards.hazard_chart(curves, dark=dark),
            curves[["source", "age_hours", "hazard_per_hour"]], name="hazard",
            alt="Reclaims per node-hour against age in hours, for " + ", ".join(chosen) + ".",
        )  # fmt: skip
    for row in picked:
        note(plain(f"{row.name}: {row.source} ({row.as_of}). {row.note}"))


def _prices(plan: Plan) -> None:
    st.header("Prices", anchor=False)
    now = market.prices_now(plan)
    dark = state.is_dark()
    found = state.chosen().live
    if found is not None and found.instance == plan.best.offer.instance:
        zones = st.multiselect(
            "Zones", list(now["place"]), default=list(now["place"][:4]), key="price-zones", max_selections=5
        )
        steps = market.price_steps(found, zones)
        if not steps.empty:
            figure_block(
                "The last 30 days",
                prices.price_history_chart(steps, dark=dark),
                steps,
                name="price-history",
                alt=f"Spot price per hour over the last 30 days in {', '.join(zones)}.",
            )
        else:
            st.info("The providers that answered have no history of these zones.")
    else:
        st.info(
            "No history is bundled: “Ask for live prices” (at the side, under Prices) asks AWS for the last 30 days. "
            "It needs the network and AWS credentials."
        )
    if not now.empty:
        figure_block(
            "What the zones cost now",
            prices.price_now_chart(now, dark=dark),
            now,
            name="prices",
            alt=f"Spot and on-demand price of {plan.best.offer.instance} per zone, cheapest first.",
        )
