"""How a quantity is distributed over the simulated runs, with median, P95 and, where there is one, a limit."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, at_pixel, drawing
from app.charts.palette import palette

HEIGHT = 240


def distribution_chart(
    bins: pd.DataFrame,
    quantiles: pd.DataFrame,
    *,
    title: str,
    limit: tuple[str, float] | None = None,
    dark: bool = False,
) -> Drawing:
    """`bins` and `quantiles` as `planner.views.tables` makes them; `limit` is a name and a value to be marked."""
    colours = palette(dark)
    bars = (
        alt.Chart(bins)
        .mark_bar(color=colours.main, opacity=0.75, binSpacing=0)
        .encode(
            x=alt.X("from:Q", title=title, scale=alt.Scale(zero=False, nice=False)),
            x2=alt.X2("to:Q"),
            y2=alt.Y2Datum(0),
            y=alt.Y("share_of_runs:Q", title="Share of runs", axis=alt.Axis(format="%", tickCount=4)),
            tooltip=[
                alt.Tooltip("from:Q", format=",.2f"),
                alt.Tooltip("to:Q", format=",.2f"),
                alt.Tooltip("share_of_runs:Q", title="share of runs", format=".2%"),
                alt.Tooltip("share_at_or_below:Q", title="at or below", format=".1%"),
            ],
        )
    )
    lines = [_line(quantiles.rename(columns={"quantile": "name"}), colours.text, [4, 3])]
    if limit is not None:
        lines.append(_line(pd.DataFrame([{"name": limit[0], "value": limit[1]}]), colours.accent, [1, 0]))
    return drawing(alt.layer(bars, *lines).properties(height=HEIGHT))


def _line(rows: pd.DataFrame, colour: str, dash: list[int]) -> Drawing:
    rule = alt.Chart(rows).mark_rule(color=colour, strokeDash=dash, strokeWidth=1.5).encode(x=alt.X("value:Q"))
    name = (
        alt.Chart(rows)
        .mark_text(color=colour, align="center", baseline="bottom", fontSize=11)
        .encode(x=alt.X("value:Q"), y=at_pixel(-4), text=alt.Text("name:N"))
    )
    return drawing(alt.layer(rule, name))
