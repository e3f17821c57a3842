"""The picture of a fit: survival and hazard against age, with uncertainty, readable in black and white."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.figure_files import check_plot_path, save_figure
from planner.lifetime_fit import FitReport

_STYLES = {"exponential": (":", "0.0"), "weibull": ("--", "0.0"), "bathtub": ("-", "0.35")}


def plot_fit(report: FitReport, path: Path) -> None:
    """Write the picture to `path` (.png, .svg or .pdf); InvalidInputError for another suffix or an unwritable place."""
    check_plot_path(path)
    save_figure(fit_figure(report), path)


def fit_figure(report: FitReport) -> Figure:
    """Two panels: share of nodes still there, and reclaims per node-hour, both against age in hours."""
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _survival(left, report)
    _hazard(right, report)
    seen = report.observations
    figure.suptitle(f"{len(seen):,} lives, {seen.events:,} reclaims, {seen.exposure_hours:,.0f} node-hours")
    return figure


def _survival(axes: Axes, report: FitReport) -> None:
    estimate = report.kaplan_meier
    longest = float(report.observations.exit_hours.max())
    ages = np.concatenate([[0.0], estimate.ages_hours, [longest]])
    survival = np.concatenate([[1.0], estimate.survival, estimate.survival[-1:] if estimate.survival.size else [1.0]])
    error = np.concatenate([[0.0], estimate.standard_error, estimate.standard_error[-1:] if survival.size > 2 else [0]])
    low, high = np.clip(survival - 1.96 * error, 0.0, 1.0), np.clip(survival + 1.96 * error, 0.0, 1.0)
    axes.fill_between(ages, low, high, step="post", color="0.85", label="95 % interval")
    axes.step(ages, survival, where="post", color="black", linewidth=1.2, label="Kaplan–Meier")
    grid = np.linspace(0.0, longest, 400)
    for fit in report.comparison.fits:
        line, shade = _STYLES[fit.distribution]
        values = [fit.lifetime.survival(age) for age in grid]
        axes.plot(grid, values, line, color=shade, linewidth=1.8, label=f"{fit.distribution}, AIC {fit.aic:.0f}")
    axes.set_xlabel("Age of the node (hours)")
    axes.set_ylabel("Share of nodes not yet reclaimed")
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(0.0, longest)
    axes.legend(frameon=False)


def _hazard(axes: Axes, report: FitReport) -> None:
    bins = [part for part in report.hazard if part.exposure_hours > 0.0]
    shown = [part for part in bins if part.events > 0]
    centres = np.array([_centre(part.start_hours, part.end_hours) for part in shown])
    rates = np.array([part.rate_per_hour for part in shown])
    if shown:
        below = rates - np.array([part.low_per_hour for part in shown])
        above = np.array([part.high_per_hour for part in shown]) - rates
        starts, ends = np.array([[part.start_hours, part.end_hours] for part in shown]).T
        axes.errorbar(
            centres, rates, yerr=[below, above], xerr=[centres - starts, ends - centres],
            fmt="ko", markersize=4, linewidth=0.9, capsize=2,
            label="reclaims / node-hours, 95 % interval",
        )  # fmt: skip
    longest = float(report.observations.exit_hours.max())
    first = float(centres.min()) / 4.0 if shown else longest / 100.0
    grid = np.geomspace(first, longest, 300)
    ceiling = 10.0 * float(rates.max()) if shown else math.inf
    for fit in report.comparison.fits:
        line, shade = _STYLES[fit.distribution]
        values = np.array([fit.lifetime.hazard(age) for age in grid])
        axes.plot(grid, np.where(values < ceiling, values, np.nan), line, color=shade, label=fit.distribution)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Age of the node (hours)")
    axes.set_ylabel("Reclaims per node-hour")
    axes.legend(frameon=False)


def _centre(start: float, end: float) -> float:
    """Geometric, so that a bin looks centred on a logarithmic axis; the first one begins at 0."""
    return math.sqrt(start * end) if start > 0.0 else 0.5 * end
