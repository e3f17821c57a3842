"""One simulated run: the whole of it as progress against time, and a stretch of it phase by phase."""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.drawing import Drawing, drawing
from app.charts.palette import palette

_PHASES = (
    "training",
    "checkpoint stall",
    "upload in flight",
    "startup",
    "waiting for capacity",
    "idle after notice",
    "loss not noticed yet",
    "regrouping",
    "final checkpoint",
)
_EVENTS = ("node arrives", "notice acted on", "node reclaimed", "work lost", "checkpoint durable", "finished")

_TOOLTIP = [
    alt.Tooltip("what:N"),
    alt.Tooltip("at_hours:Q", title="at (h)", format=".3f"),
    alt.Tooltip("progress_hours:Q", title="progress (h)", format=".3f"),
    alt.Tooltip("lost_hours:Q", title="lost (h)", format=".3f"),
    alt.Tooltip("nodes:N"),
]


def progress_chart(
    progress: pd.DataFrame, marks: pd.DataFrame, window: tuple[float, float], *, dark: bool = False
) -> Drawing:
    """Progress of the whole run, its reclaims and losses, and the stretch that is shown below."""
    colours = palette(dark)
    shade = (
        alt.Chart(pd.DataFrame([{"from": window[0], "to": window[1]}]))
        .mark_rect(color=colours.good, opacity=0.15)
        .encode(x=alt.X("from:Q"), x2=alt.X2("to:Q"))
    )
    line = (
        alt.Chart(progress)
        .mark_line(color=colours.main, strokeWidth=2, interpolate="linear")
        .encode(
            x=alt.X("at_hours:Q", title="Hours since the first request", scale=alt.Scale(nice=False)),
            y=alt.Y("progress_hours:Q", title="Progress (h)"),
        )
    )
    happened = marks[marks["what"].isin(["node reclaimed", "work lost", "finished"])]
    return drawing(alt.layer(shade, line, _points(happened, dark)).properties(height=300))


def window_chart(
    spans: pd.DataFrame, marks: pd.DataFrame, window: tuple[float, float], *, dark: bool = False
) -> Drawing:
    """The stretch `window` (hours): what the job did, what was in flight, what happened."""
    low, high = window
    seen = spans[(spans["end_hours"] > low) & (spans["start_hours"] < high)].assign(
        start_hours=lambda table: table["start_hours"].clip(lower=low),
        end_hours=lambda table: table["end_hours"].clip(upper=high),
    )
    happened = marks[(marks["at_hours"] >= low) & (marks["at_hours"] <= high)].assign(lane="events")
    colours = palette(dark)
    phases = [phase for phase in _PHASES if phase in set(seen["phase"])]
    scale = dict(
        zip(
            _PHASES,
            (
                colours.main,
                colours.text,
                colours.good,
                colours.warn,
                colours.quiet,
                colours.other,
                "#8C564B",
                "#B79CED",
                colours.accent,
            ),
            strict=True,
        )
    )
    lanes = ["events", "job", "upload"]
    bars = (
        alt.Chart(seen)
        .mark_bar(height=26)
        .encode(
            x=alt.X(
                "start_hours:Q",
                title="Hours since the first request",
                scale=alt.Scale(domain=[low, high], nice=False),
            ),
            x2=alt.X2("end_hours:Q"),
            y=alt.Y("lane:N", title=None, scale=alt.Scale(domain=lanes), axis=alt.Axis(ticks=False)),
            color=alt.Color(
                "phase:N",
                title=None,
                scale=alt.Scale(domain=phases, range=[scale[phase] for phase in phases]),
                legend=alt.Legend(orient="bottom", columns=2, labelLimit=180),
            ),
            tooltip=[
                alt.Tooltip("phase:N"),
                alt.Tooltip("start_hours:Q", title="from (h)", format=".3f"),
                alt.Tooltip("end_hours:Q", title="to (h)", format=".3f"),
            ],
        )
    )
    return drawing(alt.layer(bars, _lane(happened, dark)).properties(height=420))


def _points(marks: pd.DataFrame, dark: bool) -> alt.Chart:
    """Events on the line of progress, told apart by shape and colour."""
    colours = palette(dark)
    kinds, shapes = _kinds(marks)
    shades = dict(
        zip(
            _EVENTS,
            (colours.good, colours.warn, colours.accent, colours.other, colours.main, colours.text),
            strict=True,
        )
    )
    made: alt.Chart = (
        alt.Chart(marks)
        .mark_point(size=80, filled=True, opacity=0.95)
        .encode(
            x=alt.X("at_hours:Q"),
            y=alt.Y("progress_hours:Q"),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=kinds, range=[shades[kind] for kind in kinds]),
                legend=alt.Legend(orient="top", columns=2, labelLimit=180),
            ),
            shape=alt.Shape("what:N", title=None, scale=alt.Scale(domain=kinds, range=shapes)),
            tooltip=_TOOLTIP,
        )
    )
    return made


def _lane(marks: pd.DataFrame, dark: bool) -> alt.Chart:
    """Events in a lane of their own above the phases, told apart by shape alone: colour belongs to the phases."""
    kinds, shapes = _kinds(marks)
    made: alt.Chart = (
        alt.Chart(marks)
        .mark_point(size=90, filled=True, opacity=0.9, color=palette(dark).text)
        .encode(
            x=alt.X("at_hours:Q"),
            y=alt.Y("lane:N"),
            shape=alt.Shape(
                "what:N",
                title=None,
                scale=alt.Scale(domain=kinds, range=shapes),
                legend=alt.Legend(orient="top", columns=2, labelLimit=180),
            ),
            tooltip=_TOOLTIP,
        )
    )
    return made


def _kinds(marks: pd.DataFrame) -> tuple[list[str], list[str]]:
    shapes = dict(zip(_EVENTS, ("triangle-up", "triangle-down", "cross", "square", "circle", "diamond"), strict=True))
    kinds = [kind for kind in _EVENTS if kind in set(marks["what"])]
    return kinds, [shapes[kind] for kind in kinds]
