"""Plan: the sentence that answers, four numbers, and the charts behind it."""

from __future__ import annotations

import streamlit as st

from app import state
from app.charts.distribution import distribution_chart
from app.charts.interval import interval_chart
from app.charts.parts import parts_chart
from app.figure_block import figure_block
from app.text import dollars, note, plain
from planner.views import sentences, tables
from planner.views.plan import Plan, answer, fine_print, numbers, remarks


def draw(plan: Plan) -> None:
    """The page."""
    best, dark = plan.best, state.is_dark()
    start = state.start_moment()
    st.title(dollars(answer(best, start)), anchor=False)
    note(dollars(f"If it starts now, {start:%A %H:%M}. {fine_print(plan)}"))
    for column, number in zip(st.columns(4), numbers(best), strict=True):
        column.metric(
            number.label,
            dollars(number.value),
            dollars(number.detail),
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    for warning in plan.warnings:
        st.warning(plain(f"{warning[0].upper()}{warning[1:]}."), icon=":material/warning:")
    st.markdown("\n".join(f"- {dollars(line)}" for line in remarks(plan)))

    curve = tables.interval_curve(plan.curve)
    marks = tables.interval_marks(plan.curve, best.interval.hours)
    figure_block(
        "How often to save",
        interval_chart(curve, marks, tables.plateau(plan.curve), dark=dark),
        curve,
        name="interval",
        alt=sentences.interval_alt(plan),
        note="Line: expected cost; blue band: 90 % of the outcomes; green band: intervals that are as good as the "
        "best. The marks are where rules of thumb would save.",
    )
    left, right = st.columns(2)
    deadline = best.completed["job.deadline_hours"]
    with left:
        figure_block(
            "What it may cost",
            distribution_chart(
                tables.distribution(best.costs), tables.quantiles(best.cost_usd), title="Cost (USD)", dark=dark
            ),
            tables.distribution(best.costs),
            name="cost-distribution",
            alt=sentences.distribution_alt("the cost", best.cost_usd, "USD"),
        )
    with right:
        hours = best.runs.makespan_hours
        figure_block(
            "When it may be done",
            distribution_chart(
                tables.distribution(hours),
                tables.quantiles(best.makespan_hours),
                title="Hours from the first request",
                limit=None if deadline is None else ("deadline", deadline),
                dark=dark,
            ),
            tables.distribution(hours),
            name="finish-distribution",
            alt=sentences.distribution_alt("the finish time", best.makespan_hours, "hours"),
        )
    left, right = st.columns(2)
    with left:
        time = tables.time_parts(best)
        figure_block(
            "Where the time goes",
            parts_chart(time, tables.beyond_work(time), unit="hours", number_format=",.2f", dark=dark),
            time,
            name="time-parts",
            alt=sentences.parts_alt("Mean time until done", time),
        )
    with right:
        money = tables.money_parts(best)
        figure_block(
            "Where the money goes",
            parts_chart(money, tables.beyond_work(money), unit="USD", number_format=",.2f", dark=dark),
            money,
            name="money-parts",
            alt=sentences.parts_alt("Mean cost", money),
        )
    _share(plan)


def _share(plan: Plan) -> None:
    st.subheader("Send it to whoever pays")
    url = st.context.url
    note("This link reproduces the plan, on this machine or wherever a dashboard of the same version runs.")
    st.code(sentences.link_text(url or "", plan.link.query), language=None, wrap_lines=True)
