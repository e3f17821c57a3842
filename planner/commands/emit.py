"""``planner emit``: harness.yaml and torchrun.env for a scenario as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.errors import EXIT_DONE
from planner import render
from planner.commands.common import gather_layers, knowledge, planning_options, show_config, users_words
from planner.completion import complete
from planner.emit.options import emit_options, emit_settings
from planner.options import BoundedNumber


@click.command("emit")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@click.option("--step-seconds", type=BoundedNumber(above=0.0), help="Measured seconds per training step.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@emit_options
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, **parameters: Any) -> int:
    """Write harness.yaml and torchrun.env for SCENARIO, in the zone that it names.

    Simulates it first, so that the files say what was predicted. Both files are written or none.
    """
    layered = gather_layers(ctx, parameters, scenario)
    completed = complete(layered, knowledge(parameters))
    if parameters["show_config"]:
        show_config(completed, as_json=parameters["as_json"])
        return EXIT_DONE
    settings = emit_settings(parameters)
    from planner.documents import SCHEMA_VERSION, to_json
    from planner.emit.plan import emit_plan, plan_of
    from planner.evaluate import candidate_of

    with users_words(completed):
        candidate = candidate_of(completed, step_seconds=parameters["step_seconds"])
    written = emit_plan(plan_of(candidate, completed.assumptions, settings), parameters["output"], field="--output")
    if parameters["as_json"]:
        click.echo(to_json({"schema_version": SCHEMA_VERSION, "files": [str(path) for path in written]}))
    else:
        render.paragraph(render.console(), f"Wrote {' and '.join(str(path) for path in written)}.")
    return EXIT_DONE
