"""``planner compare``: types and node counts for one job, ranked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from harness.errors import EXIT_CTRL_C, EXIT_DONE, InvalidInputError
from planner import render
from planner.commands.common import gather_layers, knowledge, planning_options
from planner.commands.emitting import check_emitting, emit_found, print_written
from planner.commands.live import live_option, with_live_prices
from planner.commands.selection import objective_of, refuse_unused_throughput, selection_options, wanted_of
from planner.emit.options import emit_folder_options, emit_options
from planner.options import Words
from planner.render import Column

if TYPE_CHECKING:
    from planner.compare import Comparison
    from planner.evaluate import Candidate

_MOST_ROWS = 25


@click.command("compare")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@selection_options
@live_option
@click.option("--node-counts", type=Words(), metavar="N,N,...", help="Fleet sizes to compare, e.g. 1,2,4,8.")
@emit_folder_options
@emit_options
@click.option("--all", "show_all", is_flag=True, help="Show every place, not only the best of each type.")
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, **parameters: Any) -> int:
    """Rank instance types, zones and fleet sizes for one job.

    Takes the whole catalogue, the types with --accelerator, or one --instance. The work hours hold for --reference;
    other fleets are scaled by peak dense TFLOP/s (an estimate, marked with a tilde) or by --throughput.

    Example: planner compare --reference p4d.24xlarge --work-hours 100 --checkpoint-gib 50 --node-counts 1,2,4
    """
    check_emitting(parameters)
    layered = gather_layers(ctx, parameters, scenario)
    objective = objective_of(parameters, layered)
    counts = _node_counts(parameters["node_counts"])
    wanted = wanted_of(parameters, counts)
    known = knowledge(parameters)
    if parameters["live"]:
        known = with_live_prices(known, layered, wanted)
    from planner.compare import compare
    from planner.documents import compare_document, to_json
    from planner.selection import select

    selection = select(layered, known, wanted)
    refuse_unused_throughput(wanted, selection)
    with render.ProgressBar("comparing places") as bar:
        found = compare(layered, known, selection, objective=objective, progress=bar.update)
    written = emit_found(found.best, found.candidates, found.assumptions, parameters) if found.complete else None
    if parameters["as_json"]:
        click.echo(to_json(compare_document(found)))
    else:
        _print(found, show_all=parameters["show_all"])
        print_written(written)
    return EXIT_DONE if found.complete else EXIT_CTRL_C


def _node_counts(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    from planner.selection import check_node_counts

    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInputError("--node-counts", text, "whole numbers separated by commas, e.g. 1,2,4,8") from None
    return check_node_counts(counts, "--node-counts", text)


def _print(found: Comparison, *, show_all: bool) -> None:
    from planner.recommend_text import print_live

    out = render.console()
    best = found.best
    fleet = f"{best.nodes} x {best.offer.instance}"
    wanted = {"cost": "Cheapest", "time": "Fastest", "deadline": "Cheapest within the deadline"}[found.objective.name]
    render.paragraph(
        out,
        f"{wanted}: {fleet} spot in {best.offer.place}, {render.usd(best.cost_usd.p50)} (P50), done in "
        f"{render.hours(best.makespan_hours.p50)} (P50), saving every {render.duration(best.interval.hours * 3600)}.",
        style="bold",
    )
    if found.ties:
        names = ", ".join(f"{c.nodes} x {c.offer.instance} {c.offer.place}" for c in found.ties[1:6])
        render.paragraph(out, f"Cannot be told from it: {names}.")
    out.print()
    shown = found.candidates if show_all else _best_of_each(found)
    limited = shown if show_all else shown[:_MOST_ROWS]
    columns = [Column("Fleet"), Column("Where", wrap=True)]
    columns += [Column(name, right=True) for name in ("Spot/h", "Cost P50", "Done P50", "Saved")] + [Column("")]
    undominated = {id(candidate) for candidate in found.pareto}
    out.print(render.table(columns, (_row(c, best, id(c) in undominated) for c in limited)))
    rest = len(found.candidates) - len(limited)
    if rest:
        out.print(f"  {rest} more places (--all, or --json)")
    out.print("P: no other place is both cheaper and faster.")
    ranked_by = "time" if found.objective.name == "time" else "cost"
    out.print(f"Ranked by the mean {ranked_by}: rare long runs raise it above P50 (--json has both).")
    for mark, text in (("*", "price under half its sibling zones' median"), ("~", "speed estimated, not measured")):
        if any(mark in cell for c in limited for cell in _row(c, best, pareto=False)[:5]):
            out.print(f"{mark} {text}")
    print_live(out, found.live, limited)
    _print_rejected(out, found)
    for warning in found.warnings:
        render.paragraph(out, f"- {warning}", indent=2)


def _best_of_each(found: Comparison) -> tuple[Candidate, ...]:
    """The best place of each type and fleet size (starred prices aside), and what else is on the Pareto set."""
    from planner.ranking import is_starred

    chosen: dict[tuple[str, str, int], Candidate] = {}
    for candidate in found.candidates:
        if not is_starred(candidate):
            chosen.setdefault((candidate.offer.provider, candidate.offer.instance, candidate.nodes), candidate)
    kept = {id(candidate) for candidate in (*chosen.values(), *found.pareto, found.best)}
    return tuple(candidate for candidate in found.candidates if id(candidate) in kept)


def _row(candidate: Candidate, best: Candidate, pareto: bool) -> tuple[str, ...]:
    from planner.recommend_text import place_marked
    from planner.speed import ESTIMATED_SPEED

    estimated = "~" if ESTIMATED_SPEED in candidate.flags else ""
    return (
        ("> " if candidate is best else "  ")
        + f"{candidate.nodes} x {candidate.offer.instance.removeprefix('Standard_')}",
        place_marked(candidate),
        render.usd(candidate.spot_usd_per_hour),
        render.usd(candidate.cost_usd.p50),
        estimated + render.hours(candidate.makespan_hours.p50),
        render.percent(candidate.savings_fraction),
        "P" if pareto else "",
    )


def _print_rejected(out: Console, found: Comparison) -> None:
    by_reason: dict[str, set[str]] = {}
    for row in found.rejected:
        reason = row.reason.split(" of ")[0] if row.reason.startswith("state of") else row.reason
        reason = "state does not fit into memory" if reason == "state" else reason
        by_reason.setdefault(reason, set()).add(row.instance)
    for reason, names in by_reason.items():
        some = sorted(names)
        more = f" and {len(some) - 6} more" if len(some) > 6 else ""
        render.paragraph(out, f"Rejected, {reason}: {', '.join(some[:6])}{more}")
