"""Compare: every place by cost and time; pick one and it becomes the plan."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import state
from app.charts.compare import compare_chart
from app.figure_block import figure_block
from app.state import Chosen, held_input
from app.text import note, plain, show_error
from app.waiting import result_of
from planner.views import sentences, tables
from planner.views.compare import COLUMN_NAMES, SCOPES, Comparison, compare, pick
from planner.views.link import COMPARE
from planner.views.plan import Plan


def draw(plan: Plan) -> None:
    """The page."""
    st.title("Compare places", anchor=False)
    held = state.chosen()
    by_name = {scope.name: scope for scope in SCOPES}
    first = SCOPES[0].name
    now = plan.link.get(COMPARE) or first
    widget = held.input("compare-scope")
    st.segmented_control(
        "What to compare",
        list(by_name),
        required=True,
        format_func=lambda scope: by_name[scope].label,
        key=widget,
        on_change=held_input(widget, now, lambda name: held.change({COMPARE: None if name == first else name})),
    )
    scope = by_name[now]
    try:
        found: Comparison | None = result_of(
            "compare",
            ("compare", plan.link.question, state.prices_key(), scope.name),
            lambda say: compare(plan, scope, say),
        )
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    if found is not None:
        _draw(held, plan, found)


def _draw(held: Chosen, plan: Plan, found: Comparison) -> None:
    for line in found.notes:
        note(plain(line))
    rows = found.rows
    figure_block(
        "Cost against time",
        compare_chart(rows, dark=state.is_dark()),
        rows,
        name="compare",
        alt=sentences.compare_alt(rows),
        note="Each mark is a place at its own cheapest interval; thin lines reach from P5 to P95; the dashed line "
        "joins the places that no other beats in both cost and time.",
    )
    st.subheader("All of them")
    note("Click a heading to sort. Mark a row, then make it the plan.")
    event = st.dataframe(
        rows,
        hide_index=True,
        column_order=list(COLUMN_NAMES),
        column_config={
            name: st.column_config.NumberColumn(heading, format=form) if form else heading
            for name, (heading, form) in COLUMN_NAMES.items()
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"compare-table-{found.scope.name}",
        alt="Every place that was compared, cheapest first, with cost, finish time, price and savings.",
    )
    labels = [found.label(index) for index in range(len(rows))]
    marked = event.selection.rows if hasattr(event, "selection") else []
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    index = left.selectbox(
        "Place",
        range(len(rows)),
        index=int(marked[0]) if marked else found.index_of(plan),
        format_func=labels.__getitem__,
    )
    right.button(
        "Make it the plan",
        width="stretch",
        on_click=lambda: held.pick(pick(found, index or 0)),
    )
    rejected = tables.rejected_rows(found.rejected)
    if not rejected.empty:
        st.subheader(f"Not considered ({len(rejected)})")
        _rejected(rejected)


def _rejected(rows: pd.DataFrame) -> None:
    for reason, group in rows.groupby("reason", sort=False):
        where = [
            zone or region or instance
            for zone, region, instance in zip(group.zone, group.region, group.instance, strict=True)
        ]
        many = f"{', '.join(where[:12])}{' and ' + str(len(where) - 12) + ' more' if len(where) > 12 else ''}"
        st.markdown(f"- {plain(str(reason))}: {plain(many)}")
