"""``planner fit``: lifetimes from recorded interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_DONE, InvalidInputError
from planner import render
from planner.commands import HELP_NAMES
from planner.render import Column

if TYPE_CHECKING:
    from planner.lifetime_fit import FitReport
    from simulator.traces import LossStatistics

_FILE = click.Path(path_type=Path)
_TRUSTED = 10.0
"""A mean up to this many times the longest life seen is printed."""


@click.command("fit", context_settings=HELP_NAMES)
@click.argument("files", nargs=-1, type=_FILE, metavar="FILE...")
@click.option(
    "--format",
    "format_",
    default="auto",
    show_default=True,
    help="counts (a 0/1 series too), membership, lifetimes; auto looks at the first line.",
)
@click.option(
    "--nodes", type=int, default=1, show_default=True, help="Size of the gang whose lifetime a series of counts gives."
)
@click.option("--inverted", is_flag=True, help="In this 0/1 series, 1 means that there is no capacity.")
@click.option("--cap-hours", type=float, help="The platform's age limit: lives that reach it are censored there.")
@click.option(
    "--distribution",
    default="auto",
    show_default=True,
    help="What --out writes: exponential, weibull, bathtub, empirical; auto: the simplest near the lowest AIC.",
)
@click.option("--out", type=_FILE, help="Write market.lifetime to this YAML file, to be passed to planner simulate.")
@click.option("--plot", type=_FILE, help="Write survival and hazard against age to this .png, .svg or .pdf file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(
    files: tuple[Path, ...],
    format_: str,
    nodes: int,
    inverted: bool,
    cap_hours: float | None,
    distribution: str,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Fit lifetime distributions to the traces in FILE..., and compare them.

    Formats: 0/1 or count series (JSON with metadata.gap_seconds and data; or date, time, count lines), add/remove
    lists (milliseconds,add|remove,node), lifetimes (CSV with lifetime_s or lifetime_hours, and end_event).  Lives
    that were not seen to end in a reclaim count as censored, not as reclaimed.
    """
    from planner.documents import to_json
    from planner.lifetime_files import write_lifetime
    from planner.lifetime_fit import fit_files

    report = fit_files(files, format=format_, nodes=nodes, inverted=inverted, cap_hours=cap_hours)
    if distribution not in {"auto", "empirical"}:
        report.fit_of(distribution)  # before anything is written: raises, with the reason
    if distribution != "auto" and out is None:
        raise InvalidInputError("--out", "nothing", f"the file that the {distribution} lifetime goes to")
    written = write_lifetime(report, out, distribution=distribution) if out is not None else ()
    if plot is not None:
        from planner.lifetime_plot import plot_fit

        plot_fit(report, plot)
        written += (plot,)
    if as_json:
        click.echo(to_json(fit_document(report, written)))
    else:
        _print(report, written)
    return EXIT_DONE


def fit_document(report: FitReport, written: tuple[Path, ...] = ()) -> dict[str, Any]:
    """`planner fit --json`: files, fits best first, the measured survival and hazard, joint losses, warnings."""
    from planner.documents import SCHEMA_VERSION

    seen = report.observations
    estimate = report.kaplan_meier
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "files": [
            {
                "name": trace.name,
                "format": trace.format,
                "lives": 0 if trace.observations is None else len(trace.observations),
                "reclaims": 0 if trace.observations is None else trace.observations.events,
                "availability": None if trace.capacity is None else trace.capacity.availability(),
                "mean_wait_hours": sum(trace.waits_hours) / len(trace.waits_hours) if trace.waits_hours else None,
            }
            for trace in report.traces
        ],
        "lives": len(seen),
        "reclaims": seen.events,
        "exposure_hours": seen.exposure_hours,
        "cap_hours": report.cap_hours,
        "preferred": report.chosen.distribution,
        "fits": [
            {
                "distribution": fit.distribution,
                "parameters": fit.parameters,
                "standard_errors": fit.standard_errors,
                "log_likelihood": fit.log_likelihood,
                "aic": fit.aic,
                "mean_hours": fit.lifetime.mean_hours,
                "notes": list(fit.notes),
            }
            for fit in report.comparison.fits
        ],
        "not_fitted": report.comparison.failures,
        "kaplan_meier": {
            "age_hours": estimate.ages_hours.tolist(),
            "survival": estimate.survival.tolist(),
            "standard_error": estimate.standard_error.tolist(),
            "mean_hours": report.empirical.mean_hours,
            "tail_share": report.empirical.tail_share,
            "tail_rate_per_hour": report.empirical.tail_rate_per_hour,
        },
        "hazard": [
            {
                "start_hours": part.start_hours,
                "end_hours": part.end_hours,
                "reclaims": part.events,
                "exposure_hours": part.exposure_hours,
                "rate_per_hour": part.rate_per_hour,
                "low_per_hour": part.low_per_hour,
                "high_per_hour": part.high_per_hour,
            }
            for part in report.hazard
        ],
        "losses": None if report.losses is None else _losses(report.losses),
        "warnings": list(report.warnings),
        "written": [str(path) for path in written],
    }


def _losses(losses: LossStatistics) -> dict[str, float]:
    return {
        "events": losses.events,
        "nodes_lost": losses.nodes_lost,
        "multi_node_share": losses.multi_node_share,
        "bulk": losses.bulk,
        "marginal_rate_per_hour": losses.marginal_rate_per_hour,
    }


def _print(report: FitReport, written: tuple[Path, ...]) -> None:
    out = render.console()
    seen = report.observations
    render.paragraph(
        out,
        f"{len(seen):,} lives, {seen.events:,} ended by a reclaim, {seen.exposure_hours:,.1f} node-hours: "
        f"{seen.rate_per_hour:.3g} reclaims per node-hour.",
        style="bold",
    )
    out.print()
    best = report.comparison.best
    columns = (
        Column("Distribution"),
        Column("AIC", right=True),
        Column("+", right=True),
        Column("Mean life", right=True),
        Column("Parameter"),
        Column("Value", right=True),
        Column("Std. error", right=True),
    )
    longest = float(seen.exit_hours.max())
    rows = []
    for fit in report.comparison.fits:
        head = (
            fit.distribution,
            f"{fit.aic:.1f}",
            f"{fit.aic - best.aic:.1f}",
            _mean_life(fit.lifetime.mean_hours, longest),
        )
        for index, (name, value) in enumerate(fit.parameters.items()):
            error = fit.standard_errors[name]
            shown = "-" if error is None else f"{error:.3g}"
            rows.append((*(head if index == 0 else ("",) * 4), name, f"{value:.4g}", shown))
    out.print(render.table(columns, rows))
    if seen.events:
        render.paragraph(out, _survival_line(report))
    if report.cap_hours is not None:
        at_cap = seen.events - best.events
        render.paragraph(out, f"{at_cap} of the reclaims came at the age limit and count as censored in these fits.")
    elif report.comparison.preferred is not best:
        render.paragraph(out, f"{report.chosen.distribution} is as likely as {best.distribution}, and simpler.")
    if report.losses is not None and report.losses.events:
        losses = report.losses
        render.paragraph(
            out,
            f"Losses: {losses.events} events took {losses.nodes_lost} nodes; {render.percent(losses.multi_node_share)} "
            f"took more than one (bulk {losses.bulk:.2f}); {losses.marginal_rate_per_hour:.3g} per node-hour.",
        )
    for name, reason in report.comparison.failures.items():
        render.paragraph(out, f"Not fitted: {name}: {reason}.")
    notes = [f"{fit.distribution}: {note}" for fit in report.comparison.fits for note in fit.notes]
    for note in (*notes, *report.warnings):
        render.paragraph(out, f"Note: {note}.")
    for path in written:
        render.paragraph(out, f"Wrote {path}")


def _mean_life(mean_hours: float, longest_hours: float) -> str:
    """A mean far beyond the longest life is the distribution's word, not the log's: only that it is long."""
    beyond = _TRUSTED * longest_hours
    return render.hours(mean_hours) if mean_hours <= beyond else f"> {render.hours(beyond)}"


def _survival_line(report: FitReport) -> str:
    longest = float(report.observations.exit_hours.max())
    ages = [age for age in (0.25, 1.0, 4.0, 12.0, 24.0, 72.0) if age < longest]
    shares = ", ".join(f"{render.percent(report.kaplan_meier.survival_at(age))} after {age:g} h" for age in ages)
    return f"Still there (Kaplan-Meier): {shares or 'every life was shorter than 15 minutes'}."
