"""What moves the answer: a bar per value for each end of its range; and what it costs to be wrong about it."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette


def tornado_chart(rows: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`rows` as `planner.views.tornado` makes them."""
    colours = palette(dark)
    data = rows.dropna(subset=["cost_percent"])
    order = list(dict.fromkeys(data["name"]))
    y = alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=150, ticks=False))
    bars = (
        alt.Chart(data)
        .mark_bar(height=16)
        .encode(
            x=alt.X("cost_percent:Q", title="Change of cost (%)"),
            y=y,
            color=alt.Color(
                "side:N",
                title=None,
                scale=alt.Scale(domain=["low", "high", "other"], range=[colours.main, colours.accent, colours.other]),
                legend=alt.Legend(
                    orient="top",
                    columns=1,
                    labelExpr="{low: 'lower end', high: 'higher end', other: 'another source'}[datum.label]",
                ),
            ),
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("changed_to:N", title="changed to"),
                alt.Tooltip("cost_percent:Q", title="cost (%)", format="+.2f"),
                alt.Tooltip("makespan_hours:Q", title="finish (h)", format="+.2f"),
                alt.Tooltip("best_interval_minutes:Q", title="best interval then (min)", format=".3~g"),
                alt.Tooltip("regret_percent:Q", title="regret of this interval (%)", format=".2f"),
            ],
        )
    )
    zero = alt.Chart(pd.DataFrame([{"at": 0.0}])).mark_rule(color=colours.text).encode(x=alt.X("at:Q"))
    return drawing(alt.layer(bars, zero).properties(height=150 + 28 * len(order)))


def regret_chart(rows: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """What keeping this plan's interval costs, should a changed value be the true one."""
    colours = palette(dark)
    data = rows.dropna(subset=["regret_percent"]).assign(case=lambda t: t["name"] + ": " + t["changed_to"])
    y = alt.Y(
        "case:N",
        title=None,
        sort=alt.SortField("regret_percent", order="descending"),
        axis=alt.Axis(labelLimit=170, ticks=False),
    )
    x = alt.X("regret_percent:Q", title="Regret (%)")
    sticks = alt.Chart(data).mark_rule(color=colours.quiet, strokeWidth=2).encode(x=x, x2=alt.X2Datum(0), y=y)
    dots = (
        alt.Chart(data)
        .mark_point(filled=True, size=90, opacity=1.0, color=colours.accent)
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("case:N"),
                alt.Tooltip("regret_percent:Q", title="regret (%)", format=".2f"),
                alt.Tooltip("best_interval_minutes:Q", title="best interval then (min)", format=".3~g"),
            ],
        )
    )
    return drawing(alt.layer(sticks, dots).properties(height=90 + 26 * len(data)))
