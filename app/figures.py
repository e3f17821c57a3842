"""Figures for documents: the same tables as the charts, drawn with matplotlib, readable in black and white."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from app.charts.palette import LIGHT, part_colours
from planner.figures import draw_distribution, draw_interval
from planner.views import tables
from planner.views.plan import Plan


@dataclass(frozen=True, slots=True)
class FigureKind:
    """One figure: its title and how it is drawn."""

    title: str
    draw: Callable[[Plan], Figure]


def figure_svg(name: str, plan: Plan) -> str:
    """The figure `name` of `FIGURES` as an SVG document."""
    figure = FIGURES[name].draw(plan)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Title": FIGURES[name].title})
    return stream.getvalue()


def _margins() -> ConstrainedLayoutEngine:
    """A fifth of an inch around, so that nothing touches the edge where the figure is put into a document."""
    return ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.2)


def _axes(title: str, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, height), layout=_margins())
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def interval_figure(plan: Plan) -> Figure:
    """Cost against checkpoint interval."""
    figure, axes = _axes("Cost against checkpoint interval")
    draw_interval(axes, plan.curve, plan.best.interval.hours)
    return figure


def cost_figure(plan: Plan) -> Figure:
    """Distribution of the cost."""
    figure, axes = _axes("Distribution of the cost", height=3.4)
    draw_distribution(axes, plan.best.costs, "Cost (USD)")
    return figure


def finish_figure(plan: Plan) -> Figure:
    """Distribution of the finish time."""
    figure, axes = _axes("Distribution of the finish time", height=3.4)
    deadline = plan.best.completed["job.deadline_hours"]
    hours = plan.best.runs.makespan_hours
    draw_distribution(axes, hours, "Hours from the first request", limit=("deadline", deadline))
    return figure


def parts_figure(plan: Plan) -> Figure:
    """Where time and money go."""
    figure = Figure(figsize=(8.0, 4.0), layout=_margins())
    upper, lower = figure.subplots(2, 1)
    names, colours = part_colours(dark=False)
    for axes, rows, label in (
        (upper, tables.time_parts(plan.best), "Hours beyond the work"),
        (lower, tables.money_parts(plan.best), "USD beyond the work"),
    ):
        rest = tables.beyond_work(rows)
        shades = [colours[names.index(part)] for part in rest["part"]]
        axes.barh(rest["part"], rest["mean"], color=shades)
        axes.axvline(0.0, color=LIGHT.text, linewidth=0.8)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def compare_figure(plan: Plan) -> Figure:
    """Places by cost and time."""
    rows = tables.candidates(plan)
    figure, axes = _axes("Places by cost and time")
    for _, row in rows.iterrows():
        chosen = row["standing"] == tables.THIS_PLAN
        x, y = row["makespan_p50_hours"], row["cost_p50_usd"]
        axes.plot([row["makespan_p5_hours"], row["makespan_p95_hours"]], [y, y], color=LIGHT.quiet, linewidth=0.8)
        axes.plot([x, x], [row["cost_p5_usd"], row["cost_p95_usd"]], color=LIGHT.quiet, linewidth=0.8)
        axes.plot(x, y, "D" if chosen else "o", color=LIGHT.accent if chosen else LIGHT.main)
        axes.annotate(row["zone"] or row["region"], (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("Done after (hours)")
    axes.set_ylabel("Cost (USD)")
    return figure


FIGURES = {
    "interval": FigureKind("Cost against checkpoint interval", interval_figure),
    "cost-distribution": FigureKind("Distribution of the cost", cost_figure),
    "finish-distribution": FigureKind("Distribution of the finish time", finish_figure),
    "parts": FigureKind("Where time and money go", parts_figure),
    "compare": FigureKind("Places by cost and time", compare_figure),
}
"""Figures by file name (without suffix)."""
