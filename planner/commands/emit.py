"""``planner emit``: harness.yaml, and what a launcher wants beside it, for a scenario as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.errors import EXIT_DONE
from planner import render
from planner.commands.common import gather_layers, knowledge, planning_options, show_config, users_words
from planner.commands.emitting import check_emitting
from planner.completion import complete
from planner.emit.options import emit_options, emit_settings, emit_targets
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

    Simulates it first, so that the files say what was predicted. All files are written or none. Other launchers than
    torchrun with --target: skypilot, kubernetes, slurm, or the cloud's own group of machines (ec2, gce, azure).

    Example: planner emit --instance p4d.24xlarge --zone use1-az2 --nodes 4 --work-hours 100 --checkpoint-gib 50
    --target kubernetes --output run
    """
    check_emitting(parameters)
    layered = gather_layers(ctx, parameters, scenario)
    completed = complete(layered, knowledge(parameters), whole_bill=True)
    if parameters["show_config"]:
        show_config(completed, as_json=parameters["as_json"])
        return EXIT_DONE
    settings = emit_settings(parameters)
    from planner.documents import SCHEMA_VERSION, to_json
    from planner.emit.plan import emit_plan, plan_of
    from planner.evaluate import candidate_of

    with users_words(completed):
        candidate = candidate_of(completed, step_seconds=parameters["step_seconds"])
    plan = plan_of(candidate, completed.assumptions, settings)
    written = emit_plan(plan, parameters["output"], targets=emit_targets(parameters), field="--output")
    if parameters["as_json"]:
        click.echo(to_json({"schema_version": SCHEMA_VERSION, "files": [str(path) for path in written]}))
    else:
        names = ", ".join(path.name for path in written)
        render.paragraph(render.console(), f"Wrote {names} into {parameters['output']}.")
    return EXIT_DONE
