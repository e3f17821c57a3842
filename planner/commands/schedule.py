"""``planner schedule``: interruptions to rehearse, for ``python -m harness chaos``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness.errors import EXIT_DONE, InvalidInputError
from planner import render
from planner.commands.common import gather_layers, knowledge, planning_options, show_config, users_words
from planner.completion import SECONDS_PER_HOUR, Completed, complete
from planner.layers import Layered, layer
from planner.options import BoundedNumber, WholeNumber, scenario_fields
from planner.render import Column

if TYPE_CHECKING:
    from harness.chaos.schedule import Schedule
    from planner.schedule import Fate

_MOST_ROWS = 25
_OF_A_TRACE = {("fleet", "nodes"), ("notice", "seconds")}
"""Fields of the scenario that a trace leaves open."""
_OF_A_PLAN = {("simulation", "seed")}
_NO_JOB: dict[str, dict[str, float]] = {
    "job": {"checkpoint_gib": 0.0},
    "market": {"spot_usd_per_hour": 1.0},
    "checkpoint": {"interval_seconds": 600.0, "stall_seconds": 0.0, "persist_seconds": 0.0, "emergency_seconds": 0.0},
    "restart": {"startup_seconds": 0.0},
}
"""Without work hours the fates of the nodes are asked for, not those of a job: nothing but they take time."""


@click.command("schedule")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@planning_options()
@click.option("--trace", type=click.Path(path_type=Path), help="A recorded trace of capacity instead of a scenario.")
@click.option("--start-hours", type=BoundedNumber(at_least=0.0), help="Where in the trace to begin.  [default: 0]")
@click.option("--run", type=WholeNumber(), default=0, show_default=True, help="Which simulated run of the seed.")
@click.option("--horizon-hours", type=BoundedNumber(above=0.0), help="Leave out what begins later, in the plan's time.")
@click.option(
    "--time-scale",
    type=BoundedNumber(above=0.0),
    metavar="HOURS",
    help="Hours of the plan per second of the rehearsal; notices keep their length.  [default: real time]",
)
@click.option(
    "--step-seconds", type=BoundedNumber(above=0.0), help="Seconds per step of the rehearsal: offsets become steps."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write it to this file, YAML or .json.")
@click.pass_context
def command(ctx: click.Context, /, scenario: Path | None, **parameters: Any) -> int:
    """Write the interruptions of one simulated run, or of a trace, as a schedule for `python -m harness chaos`.

    SCENARIO is a scenario or the harness.yaml of a plan; flags alone do as well. With work hours the run ends when the
    job does; without, --horizon-hours says how long the nodes are watched.

    Example: planner schedule --rate-per-hour 0.5 --nodes 2 --horizon-hours 24 --time-scale 0.1 --out chaos.yaml
    """
    if parameters["run"] < 0:
        raise InvalidInputError("--run", parameters["run"], "a whole number >= 0")
    from planner.schedule import REAL_TIME, Pace, schedule_of

    if parameters["trace"] is not None:
        found, source = _of_trace(ctx, parameters, scenario)
    else:
        if parameters["start_hours"] is not None:
            raise InvalidInputError("--start-hours", parameters["start_hours"], "a --trace beside it")
        outcome = _of_plan(ctx, parameters, scenario)
        if outcome is None:
            return EXIT_DONE
        found, source = outcome
    pace = Pace(parameters["time_scale"] or REAL_TIME, parameters["step_seconds"])
    horizon = parameters["horizon_hours"]
    schedule = schedule_of(found, pace, horizon_hours=math.inf if horizon is None else horizon)
    if parameters["out"] is not None:
        _write(parameters["out"], schedule, source)
    if parameters["as_json"]:
        click.echo(_json(schedule))
    else:
        _print(schedule, source, parameters["out"])
    return EXIT_DONE


def _of_trace(ctx: click.Context, parameters: dict[str, Any], scenario: Path | None) -> tuple[tuple[Fate, ...], str]:
    from planner.schedule import fates_of_trace
    from planner.traces.files import load_trace

    if scenario is not None:
        raise InvalidInputError("scenario", scenario, "no scenario beside --trace")
    _refuse_others(ctx, parameters, _OF_A_TRACE, "beside --trace only --nodes and --notice-seconds")
    if ctx.get_parameter_source("run") is not ParameterSource.DEFAULT:
        raise InvalidInputError("--run", parameters["run"], "no run beside --trace: nothing is drawn")
    fleet = gather_layers(ctx, parameters, None).scenario
    nodes, start = fleet.fleet.nodes or 1, parameters["start_hours"] or 0.0
    trace = load_trace(parameters["trace"])
    if trace.capacity is None:
        raise InvalidInputError(
            "--trace", f"a file of {trace.format}", "a trace of capacity over time", "planner fit makes a distribution"
        )
    notice_hours = (fleet.notice.seconds or 0.0) / SECONDS_PER_HOUR
    found = fates_of_trace(trace.capacity, nodes, start_hours=start, notice_hours=notice_hours)
    return found, f"trace {parameters['trace'].name}, {_nodes(nodes)}, from hour {start:g} on"


def _of_plan(
    ctx: click.Context, parameters: dict[str, Any], scenario: Path | None
) -> tuple[tuple[Fate, ...], str] | None:
    """None: only the configuration was to be shown."""
    from planner.commands.simulate import best_interval_hours
    from planner.schedule import fates_of_run

    config = None if scenario is None else _run_config(scenario)
    if config is not None:
        from planner.plan_spec import planned_scenario, require_plan

        _refuse_others(ctx, parameters, _OF_A_PLAN, "beside the harness.yaml of a plan only --seed")
        require_plan(config.plan, str(scenario))
        planned = planned_scenario(config, knowledge(parameters), name=str(scenario))
        completed, spec = planned.completed, planned.spec
        given = gather_layers(ctx, parameters, None).scenario.simulation.seed
        seed = completed.seed if given is None else given
    else:
        layered = _with_horizon(gather_layers(ctx, parameters, scenario), parameters["horizon_hours"])
        completed = complete(layered, knowledge(parameters), whole_bill=True)
        seed = completed.seed
    if parameters["show_config"]:
        show_config(completed, as_json=parameters["as_json"])
        return None
    with users_words(completed):
        if config is None:
            wanted = completed.wants_optimum
            spec = completed.to_spec(interval_hours=best_interval_hours(completed) if wanted else None)
        found = fates_of_run(spec, seed, parameters["run"])
    return found, f"run {parameters['run']} of seed {seed}, {_nodes(spec.nodes)}, {_market(completed)}"


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _market(completed: Completed) -> str:
    hazard = f" ({completed.hazard.name})" if completed.hazard else ""
    return f"{completed['market.rate_per_hour']:.4g} interruptions per node-hour{hazard}"


def _run_config(path: Path) -> Any:
    """The file as a RunConfig; None where it is a scenario."""
    from harness.config import RunConfig
    from harness.validation import parse, read_yaml

    document = read_yaml(path)
    if not (isinstance(document, dict) and "run_id" in document):
        return None
    return parse(RunConfig, document, source=str(path))


def _refuse_others(ctx: click.Context, parameters: dict[str, Any], allowed: set[Any], expected: str) -> None:
    """A flag that would change nothing is an error.  Variables of the environment are meant for other commands too."""
    for field in scenario_fields():
        given = ctx.get_parameter_source(field.parameter) is ParameterSource.COMMANDLINE
        if given and field.path not in allowed:
            raise InvalidInputError(field.flags[0], parameters[field.parameter], expected)


def _with_horizon(layered: Layered, horizon_hours: float | None) -> Layered:
    """Without work hours: a job that is nothing but the horizon."""
    if layered.scenario.job.work_hours is not None:
        return layered
    if horizon_hours is None:
        raise InvalidInputError("--horizon-hours", "nothing", "a number of hours, or --work-hours of a job")
    document = layered.scenario.model_dump(mode="json", exclude_none=True)
    for section, values in _NO_JOB.items():
        document[section] = {**values, **document.get(section, {})}
    document["job"]["work_hours"] = horizon_hours
    without = layer(document, None, {}, layered.flags)
    return Layered(
        without.scenario, {**without.origins, **layered.origins}, {**without.names, **layered.names}, layered.flags
    )


def _document(schedule: Schedule) -> dict[str, Any]:
    return schedule.model_dump(mode="json", exclude_none=True)


def _json(schedule: Schedule) -> str:
    from planner.documents import to_json

    return to_json(_document(schedule))


def _write(path: Path, schedule: Schedule, source: str) -> None:
    from planner.emit.files import write_folder

    if path.suffix == ".json":
        text = _json(schedule) + "\n"
    elif path.suffix in {".yaml", ".yml"}:
        import yaml

        header = f"# Written by planner schedule: {source}\n# Read by: python -m harness chaos --schedule FILE\n"
        text = header + yaml.safe_dump(_document(schedule), sort_keys=False, default_flow_style=None)
    else:
        raise InvalidInputError("--out", path, "a name that ends in .yaml, .yml or .json")
    write_folder(path.parent, {path.name: text}, field="--out")


def _print(schedule: Schedule, source: str, out_path: Path | None) -> None:
    out = render.console()
    rows = schedule.interruptions
    count = f"{len(rows)} interruption{'' if len(rows) == 1 else 's'}"
    render.paragraph(out, f"{count}: {source}.", style="bold")
    if rows:
        columns = (Column("At", right=True), Column("Node", right=True), Column("Kind"), Column("Notice", right=True))
        table = (
            (
                f"{item.at_seconds:,.1f} s" if item.at_step is None else f"step {item.at_step:,}",
                str(item.node),
                item.kind,
                "" if item.notice_seconds is None else f"{item.notice_seconds:g} s",
            )
            for item in rows[:_MOST_ROWS]
        )
        out.print()
        out.print(render.table(columns, table))
        if len(rows) > _MOST_ROWS:
            out.print(f"  {len(rows) - _MOST_ROWS} more (--out, or --json)")
    if out_path is not None:
        render.paragraph(out, f"Wrote {out_path}.")
