"""`python -m harness chaos`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.chaos.interruptions import Interruption
    from harness.chaos.network import NetworkKind

_MOST_NODES = 10


@click.command(
    short_help="Interrupt SCRIPT on this machine; prove nothing is lost.",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--at",
    "positions",
    multiple=True,
    metavar="'node N at step S …'",
    help="An interruption by position; again for the next one.",
)
@click.option("--schedule", type=click.Path(path_type=Path), help="A file of them instead (planner schedule).")
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="The schedule has seconds: so many of them are one step.",
)
@click.option(
    "--nodes", default="2", show_default=True, metavar="N|MIN:MAX", help="Nodes, one process each; MIN:MAX: elastic."
)
@click.option(
    "--interval-steps", type=click.IntRange(min=1), default=5, show_default=True, help="Steps between two saves."
)
@click.option(
    "--replace-after-steps",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Elastic: a lost node is replaced when the others have come so much further.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Largest difference of a weight that passes.",
)
@click.option(
    "--network",
    type=click.Choice(["auto", "namespaces", "processes"]),
    default="auto",
    show_default=True,
    help="A network namespace per node (needs root), or the machine's loopback; auto: the first where possible.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="reference/bucket of an earlier chaos run of the same job and size, instead of running it again.",
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
    step_seconds: float | None,
    nodes: str,
    interval_steps: int,
    replace_after_steps: int,
    tolerance: float,
    network: NetworkKind,
    reference: Path | None,
    folder: Path | None,
    as_json: bool,
    config: Path,
    script: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT on several nodes of this machine, interrupt it, and prove that nothing was lost.

    The options come before CONFIG.  --at takes 'node 1 at step 7', followed by 'notice', 'notice 30 s', 'late-notice 2
    s', 'cut 30 s', 'join' or 'during POINT' (nothing: it is killed), and 'store-death at step 9', 'split-brain at step
    9'.

    Exit code 0: everything happened and everything holds; 1: verdict.json says what does not.
    """
    from harness.chaos.drive import Chaos
    from harness.chaos.fleet import Shape
    from harness.chaos.judge import render
    from harness.config import load_run_config
    from harness.errors import EXIT_BUG, EXIT_DONE

    minimum, maximum = parse_nodes(nodes)
    interruptions = _interruptions(positions, schedule, step_seconds)
    verdict = Chaos(
        config=load_run_config(config),
        interruptions=interruptions,
        shape=Shape(minimum, maximum, script, arguments, interval_steps),
        folder=(folder or config.parent / "chaos").resolve(),
        tolerance=tolerance,
        network_kind=network,
        replace_after_steps=replace_after_steps,
        may_outlast_run=schedule is not None,
        reference=reference,
    ).run()
    click.echo(verdict.model_dump_json(indent=2) if as_json else render(verdict))
    sys.exit(EXIT_DONE if verdict.passed else EXIT_BUG)


def parse_nodes(text: str) -> tuple[int, int]:
    """MIN and MAX of ``N`` or ``MIN:MAX``; InvalidInputError where that is no fleet that can be interrupted."""
    from harness.errors import InvalidInputError

    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if match is not None:
        minimum, maximum = int(match[1]), int(match[2] or match[1])
        if 1 <= minimum <= maximum and 2 <= maximum <= _MOST_NODES:
            return minimum, maximum
    raise InvalidInputError("--nodes", text, f"2 to {_MOST_NODES}, or MIN:MAX with MIN <= MAX", "for example 3, or 1:3")


def _interruptions(
    positions: tuple[str, ...], schedule: Path | None, step_seconds: float | None
) -> tuple[Interruption, ...]:
    from harness.chaos.interruptions import parse_position
    from harness.chaos.schedule import load_schedule
    from harness.errors import InvalidInputError

    if bool(positions) == (schedule is not None):
        raise InvalidInputError("--at", ", ".join(positions) or "nothing", "either --at or --schedule")
    if schedule is None:
        if step_seconds is not None:
            raise InvalidInputError("--step-seconds", step_seconds, "nothing: --at has steps")
        return tuple(map(parse_position, positions))
    return tuple(item.by_position(step_seconds) for item in load_schedule(schedule).interruptions)
