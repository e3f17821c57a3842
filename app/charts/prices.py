"""Spot prices: as steps against time where a history is known, else one mark per zone."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette


def price_history_chart(steps: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`steps` as `planner.views.market.price_steps` makes them: between two changes the earlier price holds."""
    colours = palette(dark)
    return drawing(
        alt.Chart(steps)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("time:T", title=None),
            y=alt.Y("usd_per_hour:Q", title="Spot price (USD per hour)", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "zone:N",
                title=None,
                scale=alt.Scale(range=[colours.accent, colours.main, colours.good, colours.other, colours.warn]),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash("zone:N", title=None),
            tooltip=[alt.Tooltip("zone:N"), alt.Tooltip("time:T"), alt.Tooltip("usd_per_hour:Q", format=",.4f")],
        )
        .properties(height=260)
    )


def price_now_chart(prices: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """Spot (dot) and on-demand (tick) price of each zone."""
    colours = palette(dark)
    y = alt.Y("place:N", title=None, sort=list(prices["place"]), axis=alt.Axis(ticks=False, labelLimit=220))
    spot = (
        alt.Chart(prices)
        .mark_point(filled=True, size=90, opacity=1.0)
        .encode(
            x=alt.X("spot_usd_per_hour:Q", title="USD per node-hour: spot (dot), on-demand (bar)"),
            y=y,
            color=alt.condition("datum.chosen", alt.value(colours.accent), alt.value(colours.main)),
            shape=alt.condition("datum.chosen", alt.value("diamond"), alt.value("circle")),
            tooltip=[
                alt.Tooltip("place:N"),
                alt.Tooltip("spot_usd_per_hour:Q", title="spot (USD/h)", format=",.4f"),
                alt.Tooltip("on_demand_usd_per_hour:Q", title="on-demand (USD/h)", format=",.4f"),
                alt.Tooltip("as_of:N", title="as of"),
                alt.Tooltip("source:N"),
            ],
        )
    )
    on_demand = (
        alt.Chart(prices.dropna(subset=["on_demand_usd_per_hour"]))
        .mark_tick(thickness=3, color=colours.quiet)
        .encode(x=alt.X("on_demand_usd_per_hour:Q"), y=y)
    )
    return drawing(alt.layer(on_demand, spot).properties(height=90 + 22 * len(prices)))
