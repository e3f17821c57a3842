"""A run that is going on: steps against time, with what happened."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette

_KINDS = ("checkpoint durable", "notice", "restored")


def steps_chart(steps: pd.DataFrame, happenings: pd.DataFrame, *, dark: bool = False) -> Drawing:
    """`steps` and `happenings` as `planner.views.runs` makes them; a line per attempt."""
    colours = palette(dark)
    x = alt.X("wall_minutes:Q", title="Minutes since the first event")
    line = (
        alt.Chart(steps)
        .mark_line(point=alt.OverlayMarkDef(size=24), strokeWidth=2, color=colours.main)
        .encode(
            x=x,
            y=alt.Y("step:Q", title="Step"),
            detail=alt.Detail("attempt:N"),
            tooltip=[
                alt.Tooltip("step:Q"),
                alt.Tooltip("wall_minutes:Q", title="minutes", format=".2f"),
                alt.Tooltip("loss:Q", format=".4f"),
                alt.Tooltip("attempt:N"),
            ],
        )
    )
    kinds = [kind for kind in _KINDS if kind in set(happenings["what"])]
    shapes = dict(zip(_KINDS, ("circle", "triangle-down", "square"), strict=True))
    shades = dict(zip(_KINDS, (colours.good, colours.accent, colours.other), strict=True))
    points = (
        alt.Chart(happenings)
        .mark_point(filled=True, size=80, opacity=0.95)
        .encode(
            x=x,
            y=alt.Y("step:Q"),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=kinds, range=[shades[kind] for kind in kinds]),
                legend=alt.Legend(orient="top"),
            ),
            shape=alt.Shape(
                "what:N", title=None, scale=alt.Scale(domain=kinds, range=[shapes[kind] for kind in kinds])
            ),
            tooltip=[alt.Tooltip("what:N"), alt.Tooltip("step:Q"), alt.Tooltip("wall_minutes:Q", format=".2f")],
        )
    )
    return drawing(alt.layer(line, points).properties(height=280))
