"""``planner sweep``: cost against checkpoint interval, the best one, and what the rules of thumb cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.errors import EXIT_CTRL_C, EXIT_DONE, InvalidInputError
from planner import render
from planner.commands.common import completed_scenario, planning_options, show_config, users_words
from planner.completion import SECONDS_PER_HOUR
from planner.figure_files import check_plot_path
from planner.options import Words
from planner.render import Column

_RULES = {
    "young_seconds": ("young", "Young 1974"),
    "daly_seconds": ("daly", "Daly 2006"),
    "exact_exponential_seconds": ("exact_exponential", "exact, exponential"),
    "fifteen_minutes": ("fifteen_minutes", "15 minutes"),
}


@click.command("sweep")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@click.option("--intervals-seconds", type=Words(), help="Evaluate these, e.g. 300,900,3600, instead of a search's own.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into this file: .png, .svg or .pdf."
)
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, intervals_seconds: str | None, **parameters: Any) -> int:
    """Cost against checkpoint interval for SCENARIO, on common random numbers.

    Prints the optimum with the plateau that cannot be told from it, and the regret of Young's, Daly's, the exact
    exponential and the 15-minute rule. The scenario's own interval is ignored.
    """
    completed = completed_scenario(ctx, parameters, scenario)
    plot = parameters["plot"]
    if plot is not None:
        check_plot_path(plot)
    if parameters["show_config"]:
        show_config(completed, as_json=parameters["as_json"])
        return EXIT_DONE
    intervals = None if intervals_seconds is None else _intervals_hours(intervals_seconds)
    from planner.bill import Extras
    from planner.documents import sweep_document, to_json
    from simulator.sweep import sweep

    extras = Extras.of(completed)
    try:
        with render.ProgressBar("sweeping the interval") as bar, users_words(completed):
            found = sweep(
                extras.in_node_hours(completed.to_spec(interval_hours=1.0), completed["market.spot_usd_per_hour"]),
                runs=completed.runs,
                seed=completed.seed,
                intervals_hours=intervals,
                progress=bar.update,
            )
    except KeyboardInterrupt:
        click.echo(
            f"planner: interrupted in the first interval, before its {completed.runs:,} runs were done: no interval "
            "can be reported and nothing was kept",
            err=True,
        )
        return EXIT_CTRL_C
    found = extras.with_transfer(found)
    document = sweep_document(completed, found)
    if plot is not None:
        from planner.figure_files import save_figure
        from planner.figures import sweep_figure

        save_figure(sweep_figure(found), plot)
    if parameters["as_json"]:
        click.echo(to_json(document))
    else:
        _print(document)
        if plot is not None:
            render.paragraph(render.console(), f"Drawn in {plot}.")
    return EXIT_DONE if found.complete else EXIT_CTRL_C


def _intervals_hours(text: str) -> list[float]:
    try:
        seconds = [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInputError("--intervals-seconds", text, "numbers of seconds separated by commas") from None
    if not all(0.0 < value < float("inf") for value in seconds):
        raise InvalidInputError("--intervals-seconds", text, "finite numbers of seconds greater than 0")
    return [value / SECONDS_PER_HOUR for value in seconds]


def _print(document: dict[str, Any]) -> None:
    out = render.console()
    best = document["optimum"]
    render.paragraph(
        out,
        f"Save every {render.duration(best['interval_seconds'])} (anything from "
        f"{render.duration(best['low_seconds'])} to {render.duration(best['high_seconds'])} cannot be told from it): "
        f"{render.usd(best['cost_usd']['mean'])} on average.",
        style="bold",
    )
    out.print()
    columns = [Column("Interval", right=True)]
    columns += [Column(name, right=True) for name in ("Cost, mean", "+/-", "P95", "Done, mean", "P95")]
    rows = []
    for point in document["points"]:
        cost, done = point["cost_usd"], point["makespan_hours"]
        mark = "> " if point["interval_seconds"] == best["interval_seconds"] else ""
        rows.append(
            (
                mark + render.duration(point["interval_seconds"]),
                f"${cost['mean']:,.2f}",
                f"{cost['standard_error']:.2f}",
                f"${cost['p95']:,.2f}",
                f"{done['mean']:,.2f} h",
                f"{done['p95']:,.2f} h",
            )
        )
    out.print(render.table(columns, rows))
    out.print()
    rules = []
    for key, (name, label) in _RULES.items():
        seconds, regret = document["rules"][key], document["regret"][name]
        rules.append((label, render.duration(seconds), "-" if regret is None else f"+{100 * regret:.2f}%"))
    out.print(render.table((Column("Rule"), Column("Interval", right=True), Column("Extra cost", right=True)), rules))
    out.print()
    count = len(document["points"])
    stopped = "" if document["complete"] else f" (interrupted after {count} intervals: what was known by then)"
    out.print(f"{document['runs']:,} runs per interval, seed {document['seed']}{stopped}.")
