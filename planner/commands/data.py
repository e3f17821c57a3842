"""`planner data`: the bundled tables, checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from harness.errors import EXIT_BAD_INPUT
from planner.catalogue import FLAGS
from planner.commands import HELP_NAMES
from planner.data_check import DataReport, Finding, check_data
from planner.data_files import data_directory

SCHEMA_VERSION = 1


@click.group("data", context_settings=HELP_NAMES)
def command() -> None:
    """The tables that plans are made from."""


@command.command("check")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Check the tables in this folder instead of the bundled ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(ctx: click.Context, directory: Path | None, as_json: bool) -> None:
    """Validate every table: cells, duplicates, unknown names, future dates, odd prices.

    Exits with 2 when something must be put right.
    """
    report = check_data(directory, today=datetime.now(UTC).date())
    click.echo(json.dumps(_document(report), indent=2) if as_json else _text(report, directory or data_directory()))
    if report.errors:
        ctx.exit(EXIT_BAD_INPUT)


def _document(report: DataReport) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "ok": not report.errors,
        "rows": report.rows,
        "instances": report.instances,
        "offers": report.offers,
        "flags": report.flags,
        "unpriced": list(report.unpriced),
        "errors": [_finding(finding) for finding in report.errors],
        "warnings": [_finding(finding) for finding in report.warnings],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"where": finding.where, "message": finding.message}


def _text(report: DataReport, directory: Path) -> str:
    lines = [f"Tables in {directory}"]
    lines += [f"  {name:<24}{count:>6} rows" for name, count in report.rows.items()]
    if report.instances:
        lines.append("Catalogue")
        for provider, count in report.instances.items():
            lines.append(f"  {provider:<6}{count:>4} instance types{report.offers.get(provider, 0):>6} offers")
        lines += [f"  {count:>5} x {flag}: {FLAGS[flag]}" for flag, count in report.flags.items()]
        if report.unpriced:
            lines.append(f"  without any price: {', '.join(report.unpriced)}")
    for title, findings in (("Errors", report.errors), ("Warnings", report.warnings)):
        if findings:
            lines.append(f"{title} ({len(findings)})")
            lines += [f"  {finding.where}: {finding.message}" for finding in findings]
    lines.append("Nothing to put right." if not report.errors else f"{len(report.errors)} to put right.")
    return "\n".join(lines)
