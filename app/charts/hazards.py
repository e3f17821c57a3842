"""What the sources say about interruptions: rates on one logarithmic scale; survival and hazard against age."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette


def rates_chart(rates: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`rates` as `planner.views.tables.hazard_rates` makes them."""
    colours = palette(dark)
    y = alt.Y("source:N", title=None, sort=list(rates["source"]), axis=alt.Axis(labelLimit=240, ticks=False))
    scale = alt.Scale(type="log")
    x_title = "Per node-hour (log)"
    ranges = (
        alt.Chart(rates.dropna(subset=["rate_low_per_hour", "rate_high_per_hour"]))
        .mark_rule(strokeWidth=3, opacity=0.45, color=colours.main)
        .encode(
            x=alt.X(
                "rate_low_per_hour:Q", title=x_title, scale=scale, axis=alt.Axis(format="~g", tickCount=6, grid=False)
            ),
            x2=alt.X2("rate_high_per_hour:Q"),
            y=y,
        )
    )
    dots = (
        alt.Chart(rates)
        .mark_point(size=110, filled=True, opacity=1.0)
        .encode(
            x=alt.X("rate_per_hour:Q", title=x_title, scale=scale),
            y=y,
            color=alt.condition("datum.used", alt.value(colours.accent), alt.value(colours.main)),
            shape=alt.condition("datum.used", alt.value("diamond"), alt.value("circle")),
            tooltip=[
                alt.Tooltip("source:N"),
                alt.Tooltip("rate_per_hour:Q", title="rate (1/h)", format=".3~g"),
                alt.Tooltip("rate_low_per_hour:Q", title="from", format=".3~g"),
                alt.Tooltip("rate_high_per_hour:Q", title="to", format=".3~g"),
                alt.Tooltip("where_from:N", title="where from"),
                alt.Tooltip("as_of:N", title="as of"),
                alt.Tooltip("note:N"),
            ],
        )
    )
    return drawing(alt.layer(ranges, dots).properties(height=90 + 36 * len(rates)))


def survival_chart(curves: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """Share of nodes still there, against age; the band is the range that a source states."""
    colour, dash = _by_source(curves, dark)
    x = alt.X("age_hours:Q", title="Age of the node (hours)")
    bands = (
        alt.Chart(curves.dropna(subset=["survival_low", "survival_high"]))
        .mark_area(opacity=0.14)
        .encode(
            x=x,
            y=alt.Y("survival_low:Q", title="Share of nodes still there"),
            y2=alt.Y2("survival_high:Q"),
            color=colour,
        )
    )
    lines = (
        alt.Chart(curves)
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x,
            y=alt.Y("survival:Q", title="Share of nodes still there", scale=alt.Scale(domain=[0, 1])),
            color=colour,
            strokeDash=dash,
            tooltip=[
                alt.Tooltip("source:N"),
                alt.Tooltip("age_hours:Q", title="age (h)", format=".2f"),
                alt.Tooltip("survival:Q", format=".3f"),
            ],
        )
    )
    return drawing(alt.layer(bands, lines).properties(height=260))


def hazard_chart(curves: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """Reclaims per node-hour against age, logarithmic: sources differ by orders of magnitude."""
    colour, dash = _by_source(curves, dark)
    data = curves[curves["hazard_per_hour"].notna() & (curves["hazard_per_hour"] > 0.0)]
    return drawing(
        alt.Chart(data)
        .mark_line(strokeWidth=2.2)
        .encode(
            x=alt.X("age_hours:Q", title="Age of the node (hours)"),
            y=alt.Y(
                "hazard_per_hour:Q",
                title="Reclaims per node-hour (log)",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~g", tickCount=6, grid=False),
            ),
            color=colour,
            strokeDash=dash,
            tooltip=[
                alt.Tooltip("source:N"),
                alt.Tooltip("age_hours:Q", title="age (h)", format=".2f"),
                alt.Tooltip("hazard_per_hour:Q", title="hazard (1/h)", format=".3~g"),
            ],
        )
        .properties(height=260)
    )


def _by_source(curves: pd.DataFrame, dark: bool) -> tuple[alt.Color, alt.StrokeDash]:
    colours = palette(dark)
    names = list(dict.fromkeys(curves["source"]))
    shades = [colours.accent, colours.main, colours.good, colours.other, colours.warn, colours.quiet]
    dashes = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3]]
    span = range(len(names))
    legend = alt.Legend(orient="top", columns=2, labelLimit=260)
    return (
        alt.Color(
            "source:N", title=None, legend=legend,
            scale=alt.Scale(domain=names, range=[shades[i % len(shades)] for i in span]),
        ),
        alt.StrokeDash(
            "source:N", title=None, legend=legend,
            scale=alt.Scale(domain=names, range=[dashes[i % len(dashes)] for i in span]),
        ),
    )  # fmt: skip
