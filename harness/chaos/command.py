"""`python -m harness chaos`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--at",
    "positions",
    multiple=True,
    metavar="'node N at step S …'",
    help="An interruption by position.",
)
@click.option("--schedule", type=click.Path(path_type=Path), help="A file of them instead (planner schedule).")
@click.option("--nodes", type=click.IntRange(min=2), default=2, show_default=True, help="Nodes, one process each.")
@click.option(
    "--interval-steps", type=click.IntRange(min=1), default=5, show_default=True, help="Steps between two saves."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Largest difference of a weight that passes.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where it runs; new or empty.  [default: chaos/ beside CONFIG]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def chaos(
    positions: tuple[str, ...],
    schedule: Path | None,
    nodes: int,
    interval_steps: int,
    tolerance: float,
    folder: Path | None,
    as_json: bool,
    config: Path,
    script: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT on several nodes of this machine, interrupt it, and prove that nothing was lost.

    The options come before CONFIG.  Exit code 0: everything happened and everything holds; 1: verdict.json says what
    does not.
    """
    from harness.chaos.drive import Chaos, render
    from harness.chaos.interruptions import parse_position
    from harness.chaos.schedule import load_schedule
    from harness.config import load_run_config
    from harness.errors import EXIT_BUG, EXIT_DONE, InvalidInputError

    if bool(positions) == (schedule is not None):
        raise InvalidInputError("--at", ", ".join(positions) or "nothing", "either --at or --schedule")
    if schedule is None:
        interruptions = tuple(map(parse_position, positions))
    else:
        interruptions = tuple(item.by_position() for item in load_schedule(schedule).interruptions)
    verdict = Chaos(
        config=load_run_config(config),
        interruptions=interruptions,
        script=script,
        arguments=arguments,
        folder=(folder or config.parent / "chaos").resolve(),
        nodes=nodes,
        interval_steps=interval_steps,
        tolerance=tolerance,
    ).run()
    click.echo(verdict.model_dump_json(indent=2) if as_json else render(verdict))
    sys.exit(EXIT_DONE if verdict.passed else EXIT_BUG)
