"""Writing a fitted lifetime as a file that scenarios take (`market.lifetime`)."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from harness.errors import InvalidInputError
from planner.lifetime_fit import FitReport
from simulator.traces import Observations


def write_lifetime(report: FitReport, out: Path, *, distribution: str = "auto") -> tuple[Path, ...]:
    """Write `out`: a scenario that holds nothing but ``market.lifetime``; returns the files written.

    An empirical lifetime refers to its observations, written beside it as CSV.  Each file is replaced atomically.
    InvalidInputError when the distribution was not fitted or the place cannot be written to.
    """
    if out.suffix not in {".yaml", ".yml"}:
        raise InvalidInputError("--out", out, "a file name that ends in .yaml")
    if distribution == "empirical":
        table = out.with_suffix(".csv")
        _replace(table, _observations_csv(report.observations))
        lines = ["distribution: empirical", f"file: {json.dumps(str(table))}"]
        seen = report.observations
        if seen.events:  # (how well the rate is known: without a reclaim there is nothing to scale)
            lines += [f"events: {seen.events}", f"exposure_hours: {seen.exposure_hours:.6g}"]
        comment = f"Kaplan-Meier; {report.empirical.tail_share:.1%} of lives are drawn from its exponential tail"
        _replace(out, _document(report, lines, comment))
        return out, table
    fit = report.chosen if distribution == "auto" else report.fit_of(distribution)
    lines = [f"distribution: {fit.distribution}"]
    for name, value in fit.parameters.items():
        error = fit.standard_errors[name]
        lines.append(f"{name}: {value:.6g}" + (f"  # standard error {error:.3g}" if error is not None else ""))
    if fit.distribution == "bathtub" and report.cap_hours is not None:
        lines.append(f"cap_hours: {report.cap_hours:g}")
    lines += [f"events: {fit.events}", f"exposure_hours: {fit.exposure_hours:.6g}"]
    _replace(out, _document(report, lines, "; ".join((f"AIC {fit.aic:.1f}", *fit.notes))))
    return (out,)


def _document(report: FitReport, lines: list[str], comment: str) -> str:
    names = ", ".join(Path(trace.name).name for trace in report.traces[:5])
    more = f" and {len(report.traces) - 5} more" if len(report.traces) > 5 else ""
    seen = report.observations
    head = [
        f"# planner fit: {names}{more}",
        f"# {len(seen)} lives, {seen.events} reclaims, {seen.exposure_hours:.6g} node-hours; {comment}",
        "market:",
        "  lifetime:",
    ]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


def _observations_csv(observations: Observations) -> str:
    rows = zip(
        observations.entry_hours.tolist(),
        observations.exit_hours.tolist(),
        observations.observed.tolist(),
        strict=True,
    )
    lines = [f"{entry!r},{age!r},{'reclaimed' if seen else 'censored'}" for entry, age, seen in rows]
    return "\n".join(["entry_hours,lifetime_hours,end_event", *lines]) + "\n"


def _replace(path: Path, text: str) -> None:
    """The whole text or nothing, in one rename."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as stream:
            stream.write(text)
        try:
            umask = os.umask(0)
            os.umask(umask)
            Path(stream.name).chmod(0o666 & ~umask)
            Path(stream.name).replace(path)
        except OSError:
            Path(stream.name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidInputError("--out", path, "a place that can be written to", error.strerror) from None
