"""Flags about which types, node counts and objective: shared by recommend and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.errors import InvalidInputError
from planner.commands.common import given_as_flag
from planner.layers import Layered
from planner.options import BoundedNumber, OneOf, Words

if TYPE_CHECKING:
    from planner.ranking import Objective
    from planner.selection import Selection, Wanted

F = TypeVar("F", bound=Callable[..., Any])

_OBJECTIVES = ("cost", "time", "deadline")


def selection_options(function: F) -> F:
    """Adds the flags."""
    options = (
        click.option(
            "--accelerator",
            type=Words(),
            envvar="PLANNER_ACCELERATOR",
            metavar="NAME[:COUNT]",
            help="Every type with this accelerator, e.g. A100:8, instead of one --instance.",
        ),
        click.option(
            "--reference",
            type=Words(),
            envvar="PLANNER_REFERENCE",
            metavar="TYPE[:NODES]",
            help="The fleet on which the job takes its work hours; other types scale by peak dense TFLOP/s.",
        ),
        click.option(
            "--throughput",
            type=Words(),
            multiple=True,
            metavar="TYPE=FIGURE",
            help="Measured throughput of one node, in any unit, instead of the estimate. May be repeated.",
        ),
        click.option(
            "--objective",
            type=OneOf(_OBJECTIVES),
            envvar="PLANNER_OBJECTIVE",
            default="cost",
            show_default=True,
            help="Least cost, least time, or least cost that meets --deadline-hours often enough.",
        ),
        click.option(
            "--deadline-probability",
            type=BoundedNumber(above=0.0, at_most=1.0),
            envvar="PLANNER_DEADLINE_PROBABILITY",
            default=0.95,
            show_default=True,
            help="How often the deadline must be met, with --objective deadline.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def wanted_of(parameters: Mapping[str, Any], node_counts: tuple[int, ...] = ()) -> Wanted:
    """The flags' values."""
    from planner.selection import Wanted

    return Wanted(parameters["accelerator"], parameters["reference"], tuple(parameters["throughput"]), node_counts)


def objective_of(parameters: Mapping[str, Any], layered: Layered) -> Objective:
    """What is wanted; InvalidInputError for a deadline objective without a deadline."""
    from planner.ranking import Objective

    if parameters["objective"] == "deadline" and layered.scenario.job.deadline_hours is None:
        raise InvalidInputError("--deadline-hours", "nothing", "a deadline: --objective deadline needs one")
    probability = parameters["deadline_probability"]
    if parameters["objective"] != "deadline" and given_as_flag("deadline_probability"):
        raise InvalidInputError("--deadline-probability", probability, "--objective deadline beside it")
    return Objective(parameters["objective"], probability)


def refuse_unused_throughput(wanted: Wanted, selection: Selection) -> None:
    """InvalidInputError for throughputs where there is nothing to compare them with."""
    types = {row.instance.name for row in selection.places} | {row.instance for row in selection.rejected}
    if selection.workload is not None:
        types.add(selection.workload.reference.instance.name)
    if wanted.throughputs and len(types) == 1:
        expected = f"several types: the work hours are those of {types.pop()}, the only one"
        raise InvalidInputError("--throughput", wanted.throughputs[0], expected)
