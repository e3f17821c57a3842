"""Where time and money go: everything on one bar that adds up, and below it what is not work, enlarged."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, at_pixel, drawing
from app.charts.palette import part_colours


def parts_chart(
    parts: pd.DataFrame, beyond_work: pd.DataFrame, *, unit: str, number_format: str, dark: bool = False
) -> Drawing:
    """`parts` and what of it is not work, both as `planner.views.tables` lays them out."""
    names, colours = part_colours(dark)
    shown = [name for name in names if name in set(parts["part"])]
    scale = alt.Scale(domain=shown, range=[colours[names.index(name)] for name in shown])

    def bar(rows: pd.DataFrame, title: str) -> alt.Chart:
        made: alt.Chart = (
            alt.Chart(rows)
            .mark_bar(height=34, stroke="#0E1117" if dark else "white", strokeWidth=0.8)
            .encode(
                x=alt.X("from:Q", title=title, scale=alt.Scale(nice=False)),
                x2=alt.X2("to:Q"),
                y=at_pixel(24),
                color=alt.Color(
                    "part:N",
                    title=None,
                    scale=scale,
                    legend=alt.Legend(orient="bottom", columns=2, labelLimit=220, direction="horizontal"),
                ),
                tooltip=[
                    alt.Tooltip("part:N"),
                    alt.Tooltip("mean:Q", title=f"mean ({unit})", format=number_format),
                    alt.Tooltip("share:Q", title="share of this bar", format=".2%"),
                ],
            )
            .properties(height=48, width="container")
        )
        return made

    whole = bar(parts, f"All of it ({unit})")
    rest = bar(beyond_work, f"What is not work, enlarged ({unit})")
    return drawing(alt.vconcat(whole, rest, spacing=14).resolve_scale(color="shared", x="independent"))
