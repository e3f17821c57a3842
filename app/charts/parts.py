"""Where time and money go: everything on one bar that adds up, and below it what is not work, enlarged."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import part_colours


def parts_chart(parts: pd.DataFrame, *, unit: str, number_format: str, dark: bool = False) -> Drawing:
    """`parts` as `planner.views.tables` lays them out."""
    overhead = parts[parts["part"] != "Work"]
    whole = _bar(parts, unit, number_format, dark, title=f"All of it ({unit})", zero=True, legend=False)
    rest = _bar(
        overhead, unit, number_format, dark, title=f"What is not work, enlarged ({unit})", zero=False, legend=True
    )
    return drawing(alt.vconcat(whole, rest, spacing=14).resolve_scale(color="shared", x="independent"))


def _bar(
    rows: pd.DataFrame, unit: str, number_format: str, dark: bool, *, title: str, zero: bool, legend: bool
) -> Drawing:
    names, colours = part_colours(dark)
    shown = [name for name in names if name in set(rows["part"])]
    return drawing(
        alt.Chart(rows)
        .mark_bar(height=34, stroke="white" if not dark else "#0E1117", strokeWidth=0.8)
        .encode(
            x=alt.X("from:Q", title=title, scale=alt.Scale(zero=zero, nice=False)),
            x2="to:Q",
            y=alt.value(24),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=shown, range=[colours[names.index(name)] for name in shown]),
                legend=alt.Legend(orient="bottom", columns=3, labelLimit=200) if legend else None,
            ),
            tooltip=[
                alt.Tooltip("part:N"),
                alt.Tooltip("mean:Q", title=f"mean ({unit})", format=number_format),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
        .properties(height=48, width="container")
    )
