"""``planner simulate``: what would happen, as distributions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.errors import EXIT_CTRL_C, EXIT_DONE
from planner import render
from planner.commands.common import (
    completed_scenario,
    planning_options,
    print_assumptions,
    show_config,
    users_words,
)
from planner.completion import Completed
from planner.figure_files import check_plot_path
from planner.render import Column

_ROWS = (
    ("makespan_hours", "Done after", "h"),
    ("cost_usd", "Cost", "usd"),
    ("storage_usd", "  of which storage", "usd"),
    ("goodput", "Goodput (work / makespan)", "fraction"),
    ("interruptions", "Interruptions", ""),
    ("reclaimed_nodes", "Nodes reclaimed", ""),
    ("lost_work_hours", "Lost work", "h"),
    ("checkpoint_hours", "Checkpoints", "h"),
    ("startup_hours", "Startup", "h"),
    ("waiting_hours", "Waiting for capacity", "h"),
    ("notice_idle_hours", "Idle rest of notices", "h"),
    ("slowdown_hours", "Slowdown by uploads", "h"),
    ("reduced_fleet_hours", "Reduced fleet", "h"),
    ("outage_hours", "Outage of survivors", "h"),
)


@click.command("simulate")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into this file: .png, .svg or .pdf."
)
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, **parameters: Any) -> int:
    """Simulate SCENARIO (a YAML or JSON file; flags replace what it says, and may replace it altogether).

    Prints cost, makespan and where the time goes, as mean, Monte Carlo error and quantiles.
    """
    completed = completed_scenario(ctx, parameters, scenario)
    plot = parameters["plot"]
    if plot is not None:
        check_plot_path(plot)
    if parameters["show_config"]:
        show_config(completed, as_json=parameters["as_json"])
        return EXIT_DONE
    from planner.documents import simulate_document, to_json
    from simulator.simulate import simulate

    with render.ProgressBar("simulating") as bar, users_words(completed):
        spec = completed.to_spec(interval_hours=best_interval_hours(completed) if completed.wants_optimum else None)
        runs = simulate(spec, runs=completed.runs, seed=completed.seed, progress=bar.update)
    document = simulate_document(completed, runs)
    if plot is not None:
        from planner.bill import Extras
        from planner.figure_files import save_figure
        from planner.figures import simulate_figure

        costs = runs.cost_usd + Extras.of(completed).spot_usd(runs)
        save_figure(simulate_figure(runs, costs, budget_usd=completed["bill.budget_usd"]), plot)
    if parameters["as_json"]:
        click.echo(to_json(document))
    else:
        _print(completed, document)
        if plot is not None:
            render.paragraph(render.console(), f"Drawn in {plot}.")
    return EXIT_DONE if runs.complete else EXIT_CTRL_C


def best_interval_hours(completed: Completed) -> float:
    """The cheapest interval of a scenario that asks for it."""
    from planner.bill import Extras
    from simulator.sweep import sweep

    spec = Extras.of(completed).in_node_hours(
        completed.to_spec(interval_hours=1.0), completed["market.spot_usd_per_hour"]
    )
    found = sweep(spec, runs=min(completed.runs, 20_000), seed=completed.seed)
    return found.optimum.interval_hours


def _print(completed: Completed, document: dict[str, Any]) -> None:
    out = render.console()
    done, cost = document["makespan_hours"], document["cost_usd"]
    where = " ".join(str(completed[f"fleet.{name}"]) for name in ("instance", "zone") if completed[f"fleet.{name}"])
    every = f"saving every {render.duration(document['interval_seconds'])}"
    render.paragraph(
        out,
        f"{render.hours(completed['job.work_hours'])} of work{f' on {where}' if where else ''}, {every}: "
        f"{render.usd(cost['p50'])} (P50) to {render.usd(cost['p95'])} (P95), "
        f"done after {render.hours(done['p50'])} (P50) to {render.hours(done['p95'])} (P95).",
        style="bold",
    )
    chance = document["deadline_probability"]
    if chance is not None:
        render.paragraph(
            out,
            f"Done within {render.hours(completed['job.deadline_hours'])}: "
            f"{render.probability_with_interval(chance['mean'], chance['low'], chance['high'])}.",
        )
    out.print()
    columns = (Column(""), *(Column(name, right=True) for name in ("Mean", "+/-", "P5", "P50", "P95", "P99")))
    rows = []
    for name, label, unit in _ROWS:
        s = document[name]
        if s["mean"] == 0.0 and s["p99"] == 0.0:
            continue
        rows.append((label, *(_cell(s[k], unit) for k in ("mean", "standard_error", "p5", "p50", "p95", "p99"))))
    out.print(render.table(columns, rows))
    out.print()
    print_assumptions(out, completed.assumptions, title="Not given, assumed")
    for warning in completed.warnings:
        render.paragraph(out, f"- {warning}", indent=2)
    stopped = "" if document["complete"] else " (interrupted: what was done so far)"
    out.print()
    out.print(f"{document['runs']:,} runs, seed {document['seed']}{stopped}. +/- is the Monte Carlo standard error.")


def _cell(value: float, unit: str) -> str:
    if unit == "usd":
        return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    if unit == "fraction":
        return f"{value:.4f}"
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
