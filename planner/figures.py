"""Figures of simulated runs and of interval sweeps, drawn with matplotlib, without a screen.

Pure functions of results.  What colour says is also said by line style, marker, hatch or words, so that a black and
white print reads the same.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from planner import render
from planner.views import tables
from simulator.runs import PARTS, Runs
from simulator.statistics import Summary, summarize
from simulator.sweep import Sweep

MAIN, ACCENT, GOOD, TEXT = "#0072B2", "#D55E00", "#007A5A", "#31333F"
"""Okabe and Ito (2008): told apart by colour-blind readers."""

_QUANTILE_LINES = {"P5": ":", "P50": "-", "P95": "--"}
_RULE_MARKERS = "^sPovX"
_MINUTES_BETWEEN_LABELS = (1.0, 2.0, 5.0)


def simulate_figure(runs: Runs, costs: NDArray[np.float64], *, budget_usd: float | None = None) -> Figure:
    """Three panels: distribution of cost, distribution of makespan, and where the time beyond the work goes.

    `costs` is the whole bill of each run in USD, shape (runs,).
    """
    figure = Figure(figsize=(8.0, 9.0), layout="constrained")
    cost, done, parts = figure.subplots(3, 1)
    every = render.duration(runs.spec.interval_hours * 3600.0)
    figure.suptitle(
        f"{runs.spec.work_hours:g} h of work, saving every {every}: {len(runs):,} simulated runs", fontsize=11
    )
    draw_distribution(cost, costs, "Cost (USD)", limit=("budget", budget_usd))
    draw_distribution(
        done,
        runs.makespan_hours,
        "Hours from the first request to the end of the work",
        limit=("deadline", runs.spec.deadline_hours),
    )
    _draw_parts(parts, runs)
    return figure


def sweep_figure(curve: Sweep) -> Figure:
    """Two panels over the interval: what it costs and how long it takes, with the plateau and the rules."""
    figure = Figure(figsize=(8.0, 7.6), layout="constrained")
    cost, done = figure.subplots(2, 1, sharex=True)
    figure.suptitle(f"{curve.spec.work_hours:g} h of work: {curve.runs:,} simulated runs per interval", fontsize=11)
    draw_interval(cost, curve, curve.optimum.interval_hours, chosen_name="best")
    rows = pd.DataFrame([_makespan_row(point.interval_hours, point.makespan) for point in curve.points])
    _draw_plateau(done, curve)
    _draw_band(done, rows)
    done.set_xlabel(cost.get_xlabel())
    done.set_ylabel("Makespan (hours)")
    done.legend(framealpha=0.9, edgecolor="none", fontsize=8)
    cost.set_xlabel("")
    return figure


def draw_interval(axes: Axes, curve: Sweep, chosen_hours: float, *, chosen_name: str = tables.THIS_PLAN) -> None:
    """Cost against checkpoint interval: mean with its error, range of outcomes, plateau, rules and the one chosen."""
    _draw_plateau(axes, curve)
    rows = tables.interval_curve(curve).rename(columns=lambda name: name.removeprefix("cost_").removesuffix("_usd"))
    _draw_band(axes, rows)
    marks = tables.interval_marks(curve, chosen_hours)
    rules = [name for name in marks["rule"] if name != tables.THIS_PLAN]
    for _, row in marks.iterrows():
        chosen = row["rule"] == tables.THIS_PLAN
        regret = row["regret_percent"]
        more = "" if chosen or regret is None or math.isnan(regret) else f" (+{regret:.2g} %)"
        axes.plot(
            row["interval_minutes"], row["cost_mean_usd"],
            "D" if chosen else _RULE_MARKERS[rules.index(row["rule"]) % len(_RULE_MARKERS)],
            linestyle="none", markersize=8 if chosen else 7, color=ACCENT if chosen else TEXT,
            markerfacecolor=ACCENT if chosen else "white", zorder=4,
            label=(chosen_name if chosen else row["rule"]) + more,
        )  # fmt: skip
    axes.set_xlabel("Work between two checkpoints (minutes)")
    axes.set_ylabel("Cost (USD)")
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=8, ncols=2)


def draw_distribution(
    axes: Axes,
    values: NDArray[np.float64],
    label: str,
    *,
    limit: tuple[str, float | None] = ("", None),
) -> None:
    """Share of runs in equal bins with P5, P50 and P95; `limit` (name, value) says how many runs keep within it."""
    bins, summary = tables.distribution(values), summarize(values)
    axes.bar(
        bins["from"], bins["share_of_runs"], width=bins["to"] - bins["from"], align="edge",
        color=MAIN, alpha=0.45, edgecolor="white", linewidth=0.3,
    )  # fmt: skip
    for name, line in _QUANTILE_LINES.items():
        value = getattr(summary, name.lower())
        axes.axvline(value, color=TEXT, linestyle=line, linewidth=1.3, label=f"{name}  {value:,.4g}")
    name, value = limit
    if value is not None:
        text = f"{name} {value:,.4g}: kept in {100 * float(np.mean(values <= value)):.3g} % of the runs"
        low, high = float(bins["from"].iloc[0]), float(bins["to"].iloc[-1])
        # Drawn far away from every run, it would squeeze what there is to see into a line.
        near = low - (high - low) <= value <= high + (high - low)
        if near:
            axes.axvline(value, color=ACCENT, linestyle="-.", linewidth=2.2, label=text)
        else:
            axes.plot([], [], linestyle="none", label=f"{text} (beyond this axis)")
    axes.set_xlabel(label)
    axes.set_ylabel("Share of runs")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=8)
    _plain(axes)


def _draw_parts(axes: Axes, runs: Runs) -> None:
    parts = [(tables.PART_NAMES[name], summarize(getattr(runs, name))) for name in PARTS]
    parts = [(name, summary) for name, summary in parts if summary.p99 > 0.0 or summary.mean > 0.0]
    parts.sort(key=lambda part: part[1].mean, reverse=True)
    if parts:
        means = [summary.mean for _, summary in parts]
        ends = [[s.p5 for _, s in parts], [s.p95 for _, s in parts]]
        positions = range(len(parts))
        axes.barh(positions, means, color=MAIN, alpha=0.45, hatch="//", edgecolor="white", label="mean")
        axes.hlines(positions, ends[0], ends[1], color=TEXT, linewidth=1.3, label="P5 to P95")
        for end in ends:
            axes.plot(end, positions, "|", color=TEXT, markersize=8)
        axes.set_yticks(positions, [f"{name}  {summary.mean:.3g} h" for name, summary in parts])
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="lower right")
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"Hours beyond the {runs.spec.work_hours:g} h of work")
    _plain(axes)


def _makespan_row(interval_hours: float, makespan: Summary) -> dict[str, float]:
    error = 1.96 * makespan.standard_error
    return {
        "interval_minutes": interval_hours * tables.MINUTES,
        "mean": makespan.mean,
        "low": makespan.mean - error,
        "high": makespan.mean + error,
        "p5": makespan.p5,
        "p95": makespan.p95,
    }


def _draw_plateau(axes: Axes, curve: Sweep) -> None:
    flat = tables.plateau(curve).iloc[0]
    axes.axvspan(
        flat["low_minutes"], flat["high_minutes"], facecolor="none", edgecolor=GOOD, alpha=0.3, hatch="..",
        linewidth=0.0, label="cannot be told from the best",
    )  # fmt: skip


def _draw_band(axes: Axes, rows: pd.DataFrame) -> None:
    """Mean with its 95 % Monte Carlo interval, and the P5 to P95 of single runs, over a logarithmic interval."""
    x = rows["interval_minutes"]
    axes.fill_between(x, rows["p5"], rows["p95"], color=MAIN, alpha=0.15, linewidth=0.0, label="runs, P5 to P95")
    axes.plot(x, rows["p5"], color=TEXT, linestyle=":", linewidth=0.8)
    axes.plot(x, rows["p95"], color=TEXT, linestyle=":", linewidth=0.8)
    errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    axes.errorbar(
        x, rows["mean"], yerr=errors, color=MAIN, linewidth=1.8, marker=".", markersize=4, capsize=2,
        elinewidth=1.0, label="mean, 95 % interval",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
    axes.xaxis.set_minor_formatter(
        FuncFormatter(lambda minutes, _: f"{minutes:g}" if _leading(minutes) in _MINUTES_BETWEEN_LABELS else "")
        if rows["interval_minutes"].max() < 100.0 * rows["interval_minutes"].min()
        else NullFormatter()
    )
    _plain(axes)


def _leading(value: float) -> float:
    return round(value / 10.0 ** math.floor(math.log10(value)), 6) if value > 0.0 else 0.0


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
