"""Cost against checkpoint interval: the curve, its uncertainty, the plateau, and where the rules stand."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette

HEIGHT = 400


def interval_chart(curve: pd.DataFrame, marks: pd.DataFrame, plateau: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`curve`, `marks` and `plateau` are the tables of the same names (`planner.views.tables`)."""
    colours = palette(dark)
    x = alt.X(
        "interval_minutes:Q",
        title="Work between checkpoints (minutes, log)",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format="~g", tickCount=8, grid=False),
    )
    y_title = "Cost of the job (USD)"
    band = (
        alt.Chart(plateau)
        .mark_rect(opacity=0.14, color=colours.good)
        .encode(x=alt.X("low_minutes:Q"), x2=alt.X2("high_minutes:Q"))
    )
    spread = (
        alt.Chart(curve)
        .mark_area(opacity=0.18, color=colours.main)
        .encode(x=x, y=alt.Y("cost_p5_usd:Q", title=y_title, scale=alt.Scale(zero=False)), y2=alt.Y2("cost_p95_usd:Q"))
    )
    mean = (
        alt.Chart(curve)
        .mark_line(color=colours.main, strokeWidth=2.5)
        .encode(
            x=x,
            y=alt.Y("cost_mean_usd:Q", title=y_title, scale=alt.Scale(zero=False)),
            tooltip=[
                alt.Tooltip("interval_minutes:Q", title="interval (min)", format=".3~g"),
                alt.Tooltip("cost_mean_usd:Q", title="mean cost (USD)", format=",.2f"),
                alt.Tooltip("cost_p5_usd:Q", title="P5 (USD)", format=",.2f"),
                alt.Tooltip("cost_p95_usd:Q", title="P95 (USD)", format=",.2f"),
                alt.Tooltip("makespan_mean_hours:Q", title="mean finish (h)", format=",.1f"),
            ],
        )
    )
    error = (
        alt.Chart(curve)
        .mark_rule(color=colours.main, strokeWidth=1.5)
        .encode(x=x, y=alt.Y("cost_low_usd:Q"), y2=alt.Y2("cost_high_usd:Q"))
    )
    points = (
        alt.Chart(marks)
        .mark_point(size=110, filled=True, opacity=1.0)
        .encode(
            x=x,
            y=alt.Y("cost_mean_usd:Q"),
            color=alt.Color(
                "rule:N",
                title=None,
                scale=alt.Scale(
                    domain=["this plan", "Young", "Daly", "exact (exponential)", "every 15 min"],
                    range=[colours.accent, colours.text, colours.other, colours.good, colours.warn],
                ),
                legend=alt.Legend(orient="top", columns=3, symbolOpacity=1.0),
            ),
            shape=alt.Shape(
                "rule:N",
                title=None,
                scale=alt.Scale(
                    domain=["this plan", "Young", "Daly", "exact (exponential)", "every 15 min"],
                    range=["diamond", "triangle-up", "square", "cross", "circle"],
                ),
            ),
            tooltip=[
                alt.Tooltip("rule:N"),
                alt.Tooltip("interval_minutes:Q", title="interval (min)", format=".3~g"),
                alt.Tooltip("cost_mean_usd:Q", title="mean cost (USD)", format=",.2f"),
                alt.Tooltip("regret_percent:Q", title="above the best (%)", format=".2f"),
            ],
        )
    )
    return drawing(alt.layer(band, spread, error, mean, points).properties(height=HEIGHT))
