"""`planner recommend --jobs FILE`: one table for several jobs, with what they cost together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_CTRL_C, EXIT_DONE, InvalidInputError
from planner import render
from planner.commands.common import file_of, knowledge
from planner.commands.emitting import check_emitting, print_written
from planner.commands.live import with_live_prices
from planner.commands.selection import objective_of, wanted_of
from planner.emit.options import emit_settings, emit_targets
from planner.options import gather_document
from planner.render import Column

if TYPE_CHECKING:
    from planner.jobs import JobPlan

_BUDGET = "scenario_bill__budget_usd"
_FOR_ONE_JOB = {
    "emit_all": "--emit-all",
    "run_id": "--run-id",
    "show_config": "--show-config",
    "step_seconds": "--step-seconds",
}


def recommend_jobs(ctx: click.Context, file: Path, parameters: dict[str, Any]) -> int:
    """The best place of each job in `file`; flags hold for all of them, `--budget-usd` for the sum.

    `--emit` writes a folder for each job, named like it.
    """
    for name, flag in _FOR_ONE_JOB.items():
        if parameters[name]:
            raise InvalidInputError(flag, parameters[name], "no --jobs beside it: it is about one job")
    check_emitting(parameters)
    from planner.compare import compare
    from planner.documents import jobs_document, to_json
    from planner.jobs import JobPlan, looked_at_closely, read_jobs, total_of
    from planner.selection import select

    budget = parameters[_BUDGET]
    flags = {**parameters, _BUDGET: None}
    with file_of("--jobs"):
        listed = read_jobs(file)
    jobs = [(name, gather_document(ctx, flags, doc, f"{file}: job {name}")) for name, doc in listed]
    bundled, wanted = knowledge(parameters), wanted_of(parameters)
    plans: list[JobPlan] = []
    complete = True
    with render.ProgressBar("comparing places") as bar:
        for name, layered in jobs:
            bar.say(name)
            try:
                known = with_live_prices(bundled, layered, wanted) if parameters["live"] else bundled
                objective = objective_of(parameters, layered)
                selection = select(layered, known, wanted)
                found = compare(layered, known, selection, objective=objective, progress=bar.update)
                if found.complete:
                    found = looked_at_closely(found, layered, known, selection)
            except InvalidInputError as error:
                raise _of_job(error, f"{file}: job {name}") from None
            except KeyboardInterrupt:
                if not plans:
                    raise
                complete = False
                break
            plans.append(JobPlan(name, found))
            if not found.complete:
                complete = False
                break
    written = _emitted(plans, parameters) if complete and parameters["emit"] is not None else None
    total = total_of(plans, budget_usd=budget, seed=plans[0].found.seed)
    document = jobs_document(plans, total, complete=complete, left_out=[name for name, _ in jobs[len(plans) :]])
    if parameters["as_json"]:
        click.echo(to_json(document))
    else:
        _print(document, budget)
        print_written(written)
    return EXIT_DONE if complete else EXIT_CTRL_C


def _emitted(plans: Sequence[JobPlan], parameters: dict[str, Any]) -> str:
    """Each job's files in a folder named like it; so is its run, since two jobs of one place must not meet."""
    from planner.emit.plan import emit_plan, plan_of

    settings, targets, folder = emit_settings(parameters), emit_targets(parameters), parameters["emit"]
    taken: set[str] = set()
    for plan in plans:
        name = re.sub(r"[^a-z0-9-]+", "-", plan.name.lower())[:56].strip("-") or "job"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        name = next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)
        taken.add(name)
        best = plan.found.best
        chosen = plan_of(best, (*plan.found.assumptions, *best.completed.assumptions), replace(settings, run_id=name))
        emit_plan(chosen, folder / name, targets=targets)
    return f"Wrote {', '.join(sorted(taken))} below {folder}."


def _of_job(error: InvalidInputError, job: str) -> InvalidInputError:
    """The error with the job's name, which those about values of the file have already."""
    field = error.field if error.field.startswith(job) else f"{job}: {error.field}"
    return InvalidInputError(field, error.value, error.expected, error.hint)


def _print(document: dict[str, Any], budget: float | None) -> None:
    out = render.console()
    total = document["total"]
    cost = total["cost_usd"]
    whole = total["on_demand_cost_usd"]
    against = "" if whole is None else f", against {render.usd(whole)} on demand"
    render.paragraph(
        out,
        f"{len(document['jobs'])} jobs: {render.usd(cost['p50'])} (P50) to {render.usd(cost['p95'])} (P95){against}.",
        style="bold",
    )
    chance = total["budget_probability"]
    if chance is not None:
        render.paragraph(
            out, f"Together at most {render.usd(budget)} with a probability of {render.probability(chance['mean'])}."
        )
    out.print()
    columns = [Column("Job"), Column("Fleet"), Column("Where", wrap=True)]
    columns += [Column(name, right=True) for name in ("Save", "Cost P50", "P95", "Done P50")]
    rows = []
    for job in document["jobs"]:
        best = job["recommendation"]
        usd, done = best["cost_usd"], best["makespan_hours"]
        rows.append(
            (
                job["name"],
                f"{best['nodes']} x {best['instance'].removeprefix('Standard_')}",
                best["zone"] or best["region"],
                render.duration(best["interval_seconds"]),
                render.usd(usd["p50"]),
                render.usd(usd["p95"]),
                render.hours(done["p50"]),
            )
        )
    out.print(render.table(columns, rows))
    for job in document["jobs"]:
        for warning in job["warnings"]:
            render.paragraph(out, f"- {job['name']}: {warning}", indent=2)
    if document["left_out"]:
        render.paragraph(out, f"Interrupted; not looked at: {', '.join(document['left_out'])}.")
