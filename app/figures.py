"""Figures for documents: the same tables as the charts, drawn with matplotlib, readable in black and white."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.charts.palette import LIGHT, part_colours
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


def _axes(title: str, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def interval_figure(plan: Plan) -> Figure:
    """Cost against checkpoint interval."""
    curve = tables.interval_curve(plan.curve)
    marks = tables.interval_marks(plan.curve, plan.best.interval.hours)
    flat = tables.plateau(plan.curve).iloc[0]
    figure, axes = _axes("Cost against checkpoint interval")
    axes.axvspan(flat["low_minutes"], flat["high_minutes"], color=LIGHT.good, alpha=0.12, label="as good as the best")
    x = curve["interval_minutes"]
    axes.fill_between(x, curve["cost_p5_usd"], curve["cost_p95_usd"], color=LIGHT.main, alpha=0.18, label="P5 to P95")
    axes.plot(x, curve["cost_mean_usd"], color=LIGHT.main, linewidth=2, label="expected")
    for (_, row), shape in zip(marks.iterrows(), "^sPoDvX", strict=False):
        chosen = row["rule"] == tables.THIS_PLAN
        axes.plot(
            row["interval_minutes"], row["cost_mean_usd"], "D" if chosen else shape, linestyle="none", markersize=7,
            color=LIGHT.accent if chosen else LIGHT.text, label=row["rule"],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("Work between two checkpoints (minutes)")
    axes.set_ylabel("Cost (USD)")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure


def cost_figure(plan: Plan) -> Figure:
    """Distribution of the cost."""
    best = plan.best
    return _distribution(tables.distribution(best.costs), tables.quantiles(best.cost_usd), "Cost (USD)", None)


def finish_figure(plan: Plan) -> Figure:
    """Distribution of the finish time."""
    best = plan.best
    bins, marks = tables.distribution(best.runs.makespan_hours), tables.quantiles(best.makespan_hours)
    return _distribution(bins, marks, "Hours from the first request", best.completed["job.deadline_hours"])


def _distribution(bins: pd.DataFrame, marks: pd.DataFrame, label: str, deadline: float | None) -> Figure:
    figure, axes = _axes("Share of simulated runs", height=3.4)
    widths = bins["to"] - bins["from"]
    axes.bar(bins["from"], bins["share_of_runs"], width=widths, align="edge", color=LIGHT.main, alpha=0.75)
    for _, row in marks.iterrows():
        axes.axvline(row["value"], color=LIGHT.text, linestyle="--", linewidth=1)
        axes.annotate(
            row["quantile"], (row["value"], axes.get_ylim()[1]), fontsize=8, rotation=90, va="top", ha="right"
        )
    if deadline is not None:
        axes.axvline(deadline, color=LIGHT.accent, linewidth=2, label="deadline")
        axes.legend(frameon=False)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    return figure


def parts_figure(plan: Plan) -> Figure:
    """Where time and money go."""
    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
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
