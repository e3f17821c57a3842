"""``planner recommend``: where to rent, how often to save, what it costs, when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.errors import EXIT_CTRL_C, EXIT_DONE, InvalidInputError
from planner import render
from planner.commands.common import gather_layers, knowledge, planning_options, show_config
from planner.commands.emitting import check_emitting, emit_found, print_written
from planner.commands.live import live_option, with_live_prices
from planner.commands.selection import objective_of, refuse_unused_throughput, selection_options, wanted_of
from planner.completion import complete
from planner.emit.options import emit_folder_options, emit_options
from planner.options import BoundedNumber


@click.command("recommend")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@selection_options
@live_option
@click.option(
    "--step-seconds",
    type=BoundedNumber(above=0.0),
    envvar="PLANNER_STEP_SECONDS",
    help="Measured seconds per training step: the interval is then given in steps too, and kept to.",
)
@click.option(
    "--jobs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Several jobs: a YAML list of scenarios, each with a name. --budget-usd then is for all of them together.",
)
@emit_folder_options
@emit_options
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, **parameters: Any) -> int:
    """Recommend where to rent spot capacity for a job and how often to save.

    Looks at every zone with a known price (narrow it with --region and --zone), finds the cheapest checkpoint
    interval for each, and compares with on-demand. One type with --instance, every type with --accelerator, or the
    whole catalogue (then --reference says for which fleet the work hours hold). SCENARIO is an optional YAML or JSON
    file; flags replace what it says. Works offline, from the bundled tables.

    Example: planner recommend --instance p4d.24xlarge --work-hours 100 --checkpoint-gib 50
    """
    if parameters["jobs"] is not None:
        if scenario is not None:
            raise InvalidInputError("--jobs", parameters["jobs"], "either a SCENARIO or --jobs, not both")
        from planner.commands.jobs import recommend_jobs

        return recommend_jobs(ctx, parameters["jobs"], parameters)
    check_emitting(parameters)
    layered = gather_layers(ctx, parameters, scenario)
    objective = objective_of(parameters, layered)
    wanted = wanted_of(parameters)
    known = knowledge(parameters)
    if parameters["live"]:
        known = with_live_prices(known, layered, wanted)
    if parameters["show_config"]:
        show_config(complete(layered, known, whole_bill=True), as_json=parameters["as_json"])
        return EXIT_DONE
    from planner.documents import recommend_document, to_json
    from planner.recommend import recommend
    from planner.selection import select

    selection = select(layered, known, wanted)
    refuse_unused_throughput(wanted, selection)
    with render.ProgressBar("comparing places") as bar:
        found = recommend(
            layered,
            known,
            selection,
            objective=objective,
            step_seconds=parameters["step_seconds"],
            progress=bar.report,
        )
    written = emit_found(found.best, found.candidates, found.stated, parameters) if found.complete else None
    if parameters["as_json"]:
        click.echo(to_json(recommend_document(found)))
    else:
        from planner.recommend_text import print_recommendation

        print_recommendation(render.console(), found)
        print_written(written)
    return EXIT_DONE if found.complete else EXIT_CTRL_C
