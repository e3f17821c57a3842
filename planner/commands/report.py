"""``planner report``: predicted against actual, and what explains the difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_DONE, InvalidInputError
from planner import render
from planner.options import BoundedNumber
from planner.render import Column

if TYPE_CHECKING:
    from planner.attribution import Contribution
    from planner.report import PlanReport

_CONFIG_NAME = "harness.yaml"
_SUFFIXES = (".yaml", ".yml")


@click.command("report")
@click.argument("places", nargs=-1, required=True, metavar="DIR|harness.yaml...")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The harness.yaml with the plan, where it is not beside."
)
@click.option(
    "--spot-usd-per-hour",
    type=BoundedNumber(above=0.0),
    envvar="PLANNER_SPOT_USD_PER_HOUR",
    help="What a node really cost per hour; the plan's price without it.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=100, max=1_000_000),
    default=4_000,
    show_default=True,
    help="Simulated runs per comparison.",
)
@click.option("--endpoint-url", help="Another S3-compatible server, for s3:// places.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(
    places: tuple[str, ...],
    config: Path | None,
    spot_usd_per_hour: float | None,
    runs: int,
    endpoint_url: str | None,
    as_json: bool,
) -> int:
    """Hold a run's plan against its telemetry, and say what explains the difference.

    DIR is a telemetry folder or a durable target (a folder or s3://bucket/prefix); its harness.yaml is looked for in it
    and above it. Given harness.yaml alone, the telemetry is where that file says. The plan is simulated again with each
    measured parameter in its place, one at a time: the difference is what that parameter's error did.

    Example: planner report s3://bucket/prefix --config harness.yaml
    """
    from harness.config import load_run_config
    from planner.assumptions import load_assumptions
    from planner.catalogue import load_catalogue
    from planner.completion import Knowledge
    from planner.plan_spec import require_plan
    from planner.report import report
    from planner.run_places import places_of
    from planner.telemetry_runs import only_run, read_runs

    path, telemetry = _split(places, config)
    loaded = load_run_config(path)
    require_plan(loaded.plan, str(path))
    run = only_run(
        read_runs(telemetry or places_of(loaded, path), endpoint_url=endpoint_url or loaded.checkpoint.s3_endpoint_url),
        "name the run's own folder",
    )
    knowledge = Knowledge(load_catalogue(), load_assumptions())
    with render.ProgressBar("simulating the plan with measured values") as bar:
        found = report(
            loaded,
            run,
            knowledge,
            runs=runs,
            spot_usd_per_hour=spot_usd_per_hour,
            name=str(path),
            progress=bar.update,
        )
    if as_json:
        from planner.documents import to_json

        click.echo(to_json(report_document(found)))
    else:
        _print(found)
    return EXIT_DONE


def _split(places: Sequence[str], config: Path | None) -> tuple[Path, list[str]]:
    """The config and the places with telemetry."""
    configs = [Path(place) for place in places if place.endswith(_SUFFIXES)]
    telemetry = [place for place in places if not place.endswith(_SUFFIXES)]
    if config is not None:
        configs.append(config)
    if len(configs) > 1:
        raise InvalidInputError("--config", ", ".join(map(str, configs)), "one harness.yaml")
    if configs:
        return configs[0], telemetry
    for place in telemetry:
        here = Path(place.removeprefix("file://"))
        if "://" not in str(here):
            if not here.exists():
                raise InvalidInputError("telemetry", place, "an existing file or directory")
            for folder in (here, *here.resolve().parents):
                if (folder / _CONFIG_NAME).is_file():
                    return folder / _CONFIG_NAME, telemetry
    raise InvalidInputError(
        "--config", "nothing", f"the run's {_CONFIG_NAME}: it is not in {', '.join(telemetry)} or above"
    )


def report_document(found: PlanReport) -> dict[str, Any]:
    """`planner report --json`."""
    from planner.documents import SCHEMA_VERSION

    attribution, retraced = found.attribution, found.retraced
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "run_id": found.run.run_id,
        "finished": found.run.summary.finished,
        "work_hours": found.work_hours,
        "planned_work_hours": found.planned_work_hours,
        "reproduced": found.reproduced,
        "quantities": [
            {
                "quantity": row.quantity,
                "unit": row.unit,
                "planned": row.planned,
                "predicted": row.predicted,
                "actual": row.actual,
                "n": row.n,
                "ratio": row.ratio,
                "band": row.band,
                "low": row.low,
                "high": row.high,
                "inside": row.inside,
            }
            for row in found.rows
        ],
        "attribution": None
        if attribution is None
        else {
            "contributions": [_contribution(row) for row in attribution.contributions],
            "totals": {
                name: {
                    "predicted": total.base,
                    "actual": total.actual,
                    "explained": total.explained,
                    "interaction": total.interaction,
                    "not_in_telemetry": total.outside,
                    "rest": total.rest,
                    "p5": total.band[0],
                    "p95": total.band[1],
                    "rest_is_chance": total.rest_is_chance,
                }
                for name, total in attribution.totals.items()
            },
            "why_no_totals": attribution.why_not,
            "not_attributable": list(attribution.not_attributable),
        },
        "why_no_attribution": found.why_not,
        "retraced": None if isinstance(retraced, str) else dataclasses.asdict(retraced),
        "why_not_retraced": retraced if isinstance(retraced, str) else "",
        "runs": found.runs,
        "notes": list(found.notes),
    }


def _contribution(row: Contribution) -> dict[str, Any]:
    change = row.change
    effects = None
    if row.effects is not None:
        effects = {k: {"mean": e.mean, "standard_error": e.standard_error} for k, e in row.effects.items()}
    return {
        "parameter": change.name,
        "unit": change.unit,
        "planned": change.planned,
        "measured": change.measured,
        "n": change.n,
        "effects": effects,
        "why_not": row.why_not,
    }


def _print(found: PlanReport) -> None:
    from planner.retrace import sentence_of

    out = render.console()
    state = "finished" if found.run.summary.finished else "not finished"
    inside = [row.inside for row in found.rows if row.inside is not None]
    render.paragraph(
        out,
        f"Run {found.run.run_id}, {state}: {sum(inside)} of {len(inside)} banded quantities agree with the plan.",
        style="bold",
    )
    out.print()
    columns = (
        Column("Quantity", wrap=True),
        Column("Planned", right=True),
        Column("This work", right=True),
        Column("Actual", right=True),
        Column("Ratio", right=True),
        Column("Band", right=True),
        Column("In"),
    )
    rows = []
    for row in found.rows:
        band = "-" if row.low is None or row.high is None else f"{row.low:.3g} to {row.high:.3g}"
        agrees = {True: "yes", False: "NO", None: "-"}[row.inside]
        ratio = "-" if row.ratio is None else f"{row.ratio:.3g}"
        shown = [*(_short(value) for value in (row.planned, row.predicted, row.actual)), ratio]
        rows.append((row.quantity, *shown, band, agrees))
    out.print(render.table(columns, rows))
    render.paragraph(
        out,
        "Bands: totals, P5-P95 of simulated runs (the actual should be inside); rate and durations, 95% interval "
        "of the measurement (the plan should be).",
    )
    _print_attribution(found)
    out.print()
    render.paragraph(out, sentence_of(found.retraced))
    for note in found.notes:
        render.paragraph(out, f"Note: {note}.")


def _print_attribution(found: PlanReport) -> None:
    out = render.console()
    out.print()
    attribution = found.attribution
    if attribution is None:
        render.paragraph(out, f"The difference cannot be taken apart: {found.why_not}.")
        return
    columns = (
        Column("With, measured instead of planned", wrap=True),
        Column("Planned", right=True),
        Column("Measured", right=True),
        Column("Cost", right=True),
        Column("Makespan", right=True),
    )
    rows = []
    for row in attribution.contributions:
        change = row.change
        cells = [change.name, _short(change.planned), _short(change.measured)]
        if row.effects is None:
            rows.append((*cells, "see below", ""))
        else:
            cost, time = row.effects["cost_usd"], row.effects["makespan_hours"]
            rows.append((*cells, f"{cost.mean:+,.3g} $", f"{time.mean:+.3g} h"))
    totals = attribution.totals
    if totals:
        bill, clock = totals.get("cost_usd"), totals["makespan_hours"]
        for label, field in (
            ("together beyond their sum", "interaction"),
            ("not seen by telemetry", "outside"),
            ("rest", "rest"),
        ):
            money = "-" if bill is None else f"{getattr(bill, field):+,.3g} $"
            rows.append((label, "", "", money, f"{getattr(clock, field):+.3g} h"))
        whole = "-" if bill is None else f"{bill.actual - bill.base:+,.3g} $"
        rows.append(("> actual - predicted (mean)", "", "", whole, f"{clock.actual - clock.base:+.3g} h"))
    out.print(render.table(columns, rows))
    for name, total in totals.items():
        low, high = total.band
        verdict = "an ordinary run" if total.rest_is_chance else "NOT an ordinary run"
        render.paragraph(
            out,
            f"{name}: all measured, runs lie between {low:.3g} and {high:.3g} (P5-P95): {total.actual:.3g} is "
            f"{verdict} of the corrected plan.",
        )
    if attribution.why_not:
        render.paragraph(out, f"All of them together: {attribution.why_not}.")
    for row in attribution.contributions:
        if row.why_not:
            render.paragraph(out, f"{row.change.name}: {row.why_not}.")
    out.print("Cannot be attributed:")
    for text in attribution.not_attributable:
        render.paragraph(out, text, indent=2)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
