"""What the commands share: the scenario with its gaps filled, `--json`, `--show-config`, `--assume`, `--profile`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from harness.errors import InvalidInputError
from planner import render
from planner.assumptions import Assumption, load_assumptions
from planner.catalogue import load_catalogue
from planner.completion import Completed, Knowledge, complete
from planner.documents import SCHEMA_VERSION, to_json
from planner.hazards import own_log_source
from planner.layers import FieldPath, Layered
from planner.options import Words, gather, scenario_options
from planner.profile import load_profile
from planner.provision_waits import own_waits_source
from planner.render import Column

F = TypeVar("F", bound=Callable[..., Any])


def planning_options(*, without: Iterable[FieldPath] = ()) -> Callable[[F], F]:
    """The scenario's fields as flags, and where missing values come from."""

    def decorate(function: F) -> F:
        for decorator in reversed(
            (
                scenario_options(without=without),
                click.option(
                    "--hazard",
                    type=Words(),
                    envvar="PLANNER_HAZARD",
                    help="Which source of interruption rates to use, e.g. article or spot-advisor.",
                ),
                click.option(
                    "--interruption-log",
                    type=click.Path(path_type=Path),
                    envvar="PLANNER_INTERRUPTION_LOG",
                    help="Your own log of node lifetimes (planner fit reads the same): the best source of all. Used "
                    "for waits too where it has them.",
                ),
                click.option(
                    "--assume",
                    multiple=True,
                    metavar="NAME=VALUE",
                    help="Replace a stated assumption, e.g. upload_gib_per_second_per_node=4. May be repeated.",
                ),
                click.option(
                    "--profile",
                    type=click.Path(path_type=Path),
                    envvar="PLANNER_PROFILE",
                    help="Measured profile of this job (planner calibrate).",
                ),
                click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else."),
                click.option("--show-config", is_flag=True, help="Print each value with where it came from, and stop."),
            )
        ):
            function = decorator(function)
        return function

    return decorate


def gather_layers(ctx: click.Context, parameters: dict[str, Any], file: Path | None) -> Layered:
    """The scenario as given: flags over environment over file."""
    layered = gather(ctx, parameters, file)
    refuse_unused_rates(parameters, layered)
    return layered


def given_as_flag(name: str) -> bool:
    """Whether a parameter stands on the command line: a variable of the environment is meant for other commands too."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_unused_rates(parameters: dict[str, Any], layered: Layered) -> None:
    """InvalidInputError for a source of interruption rates beside a lifetime that is given."""
    market = layered.scenario.market
    if market.lifetime is None:
        return
    expected = "no interruption rate or lifetime beside it: that would be used instead"
    if given_as_flag("hazard"):
        raise InvalidInputError("--hazard", parameters["hazard"], expected)
    log = parameters.get("interruption_log")
    if (
        log is not None
        and given_as_flag("interruption_log")
        and (market.provision is not None or own_waits_source(log) is None)
    ):
        raise InvalidInputError("--interruption-log", log, expected)


def knowledge(parameters: dict[str, Any]) -> Knowledge:
    """The bundled tables with what `--assume`, `--profile` and `--hazard` say."""
    overrides = dict(_assumption(text) for text in parameters.get("assume") or ())
    profile_path = parameters.get("profile")
    catalogue = load_catalogue()
    assumptions = catalogue.assumptions
    if overrides:
        try:
            assumptions = load_assumptions().with_overrides(overrides)
        except InvalidInputError as error:
            name = "--assume" if error.field == "assumption" else f"--assume {error.field}"
            raise InvalidInputError(name, error.value, error.expected, error.hint) from None
    log = parameters.get("interruption_log")
    with file_of("--profile"):
        profile = load_profile(profile_path) if profile_path else None
    with file_of("--interruption-log"):
        own = own_log_source(log) if log is not None else None
        own_waits = own_waits_source(log) if log is not None else None
    return Knowledge(
        catalogue=catalogue,
        assumptions=assumptions,
        profile=profile,
        hazard=parameters.get("hazard"),
        own=own,
        own_waits=own_waits,
    )


def completed_scenario(ctx: click.Context, parameters: dict[str, Any], file: Path | None) -> Completed:
    """The scenario with every gap filled."""
    return complete(gather_layers(ctx, parameters, file), knowledge(parameters), whole_bill=True)


def _assumption(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        hint = None if separator else "as NAME=VALUE"
        raise InvalidInputError("--assume", text, "NAME=VALUE with a number", hint) from None


def show_config(completed: Completed, *, as_json: bool) -> None:
    """Every value of the completed scenario and where it came from."""
    rows = [(value.path, value.value, value.origin) for value in completed.values.values()]
    if as_json:
        config = [{"field": path, "value": value, "origin": origin} for path, value, origin in rows]
        click.echo(to_json({"schema_version": SCHEMA_VERSION, "config": config}))
        return
    out = render.console()
    columns = (Column("Field"), Column("Value"), Column("Where it came from", wrap=True))
    out.print(render.table(columns, ((path, render.number(value), origin) for path, value, origin in rows)))


def print_assumptions(out: Console, assumptions: Iterable[Assumption], *, title: str) -> None:
    """A list of assumptions with source and date."""
    out.print(f"{title}:")
    for row in assumptions:
        value = f"{render.number(row.value)} {row.unit}".strip()
        as_of = f" ({row.as_of})" if row.as_of else ""
        render.paragraph(out, f"{row.name} {value}: {row.source}{as_of}", indent=2)


@contextlib.contextmanager
def file_of(flag: str) -> Iterator[None]:
    """An error about a file that cannot be read names the flag that it was given with."""
    try:
        yield
    except InvalidInputError as error:
        if error.field not in {"file", "trace"}:
            raise
        raise InvalidInputError(flag, error.value, error.expected, error.hint) from None


@contextlib.contextmanager
def users_words(completed: Completed) -> Iterator[None]:
    """Errors of the simulator name the flag or key that the value came from."""
    try:
        yield
    except InvalidInputError as error:
        raise completed.in_the_users_words(error) from None
