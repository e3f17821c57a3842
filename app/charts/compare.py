"""Places compared: cost against time with uncertainty, and the front that no place beats in both."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette

HEIGHT = 380


def compare_chart(rows: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`rows` as `planner.views.tables.candidate_rows` makes them."""
    colours = palette(dark)
    data = rows.assign(
        place=rows["zone"].where(rows["zone"] != "", rows["region"]),
        kind=[_kind(*pair) for pair in zip(rows["standing"], rows["doubtful_price"], rows["pareto"], strict=True)],
    )
    tooltip = [
        alt.Tooltip("instance:N"),
        alt.Tooltip("place:N"),
        alt.Tooltip("nodes:Q"),
        alt.Tooltip("cost_p50_usd:Q", title="cost P50 (USD)", format=",.2f"),
        alt.Tooltip("cost_p95_usd:Q", title="cost P95 (USD)", format=",.2f"),
        alt.Tooltip("makespan_p50_hours:Q", title="done after P50 (h)", format=",.1f"),
        alt.Tooltip("makespan_p95_hours:Q", title="done after P95 (h)", format=",.1f"),
        alt.Tooltip("saved_percent:Q", title="below on-demand (%)", format=".0f"),
        alt.Tooltip("kind:N", title="standing"),
    ]
    x = alt.X("makespan_p50_hours:Q", title="Done after (hours, P50 and P5 to P95)", scale=alt.Scale(zero=False))
    y = alt.Y("cost_p50_usd:Q", title="Cost (USD, P50 and P5 to P95)", scale=alt.Scale(zero=False))
    kinds = ["this plan", "no place beats it", "price looks wrong", "dearer or slower"]
    points = (
        alt.Chart(data)
        .mark_point(size=90, filled=True, opacity=0.95)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=kinds, range=[colours.accent, colours.good, colours.warn, colours.main]),
                legend=alt.Legend(orient="top", columns=2, labelLimit=240),
            ),
            shape=alt.Shape(
                "kind:N", title=None, scale=alt.Scale(domain=kinds, range=["diamond", "square", "cross", "circle"])
            ),
            tooltip=tooltip,
        )
    )
    sideways = (
        alt.Chart(data)
        .mark_rule(color=colours.quiet, opacity=0.5)
        .encode(x=alt.X("makespan_p5_hours:Q"), x2=alt.X2("makespan_p95_hours:Q"), y=y)
    )
    upright = (
        alt.Chart(data)
        .mark_rule(color=colours.quiet, opacity=0.5)
        .encode(x=x, y=alt.Y("cost_p5_usd:Q"), y2=alt.Y2("cost_p95_usd:Q"))
    )
    front = (
        alt.Chart(data[data["pareto"]])
        .mark_line(color=colours.good, strokeDash=[5, 4], interpolate="step-after", opacity=0.8)
        .encode(x=x, y=y)
    )
    return drawing(alt.layer(front, sideways, upright, points).properties(height=HEIGHT).interactive())


def _kind(standing: str, doubtful: bool, pareto: bool) -> str:
    if standing == "this plan":
        return "this plan"
    if doubtful:
        return "price looks wrong"
    return "no place beats it" if pareto else "dearer or slower"
