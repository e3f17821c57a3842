"""The scenario's fields as click options and environment variables, generated from the model.

A flag is the field's name (``--work-hours``); where the name alone says nothing (``notice.seconds``), its section is
put before it (``--notice-seconds``).  The variable is the flag's name with ``PLANNER_`` before it.
"""

from __future__ import annotations

import contextlib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.errors import InvalidInputError, did_you_mean
from harness.validation import StrictModel, read_yaml
from planner import scenario as model
from planner.layers import DISTRIBUTION_KEYS, FieldPath, Given, Layered, layer

_PREFIXED_SECTIONS = {"notice"}
_RENAMED: dict[FieldPath, tuple[str, ...]] = {
    ("policy", "name"): ("--policy",),
    ("market", "lifetime", "rate_per_hour"): ("--rate-per-hour", "--lifetime-rate-per-hour"),
    ("market", "lifetime", "probability_per_hour"): ("--probability-per-hour", "--lifetime-probability-per-hour"),
    ("storage", "usd_per_gib_month"): ("--usd-per-gib-month", "--storage-usd-per-gib-month"),
}
_MIN_NODES: FieldPath = ("fleet", "min_nodes")
_VARIANTS: dict[str, tuple[type[StrictModel], ...]] = {
    "lifetime": (
        model.ExponentialLifetime,
        model.WeibullLifetime,
        model.BathtubLifetime,
        model.EmpiricalLifetime,
        model.TraceLifetime,
    ),
    "provision": (model.ConstantProvision, model.ExponentialProvision, model.EmpiricalProvision),
}

F = typing.TypeVar("F", bound=Callable[..., Any])


def as_given(text: str) -> float | int | str:
    """A flag's text as the number that it is, so that an error shows it as one; itself where it is none."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            number: float | int = kind(text)
            return number if math.isfinite(number) else text
    return text


class _Typed(click.ParamType[Any]):
    """Base of the types: a failed conversion is an InvalidInputError that names the flag or the variable."""

    expected = "a value"

    def __call__(self, value: Any, param: click.Parameter | None = None, ctx: click.Context | None = None) -> Any:
        return None if value is None else self.convert(value, param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.read(value.strip())
        except ValueError:
            raise InvalidInputError(called(param, ctx), as_given(value), self.expected, self.hint(value)) from None

    def read(self, text: str) -> Any:
        raise NotImplementedError

    def hint(self, text: str) -> str | None:
        del text
        return None


class Number(_Typed):
    """A finite number."""

    name = "number"
    expected = "a finite number"

    def read(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value


class BoundedNumber(Number):
    """A finite number within limits, for flags that are not fields of the scenario."""

    def __init__(self, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None):
        self.above, self.at_least, self.at_most = above, at_least, at_most
        bounds = ((">", above), (">=", at_least), ("<=", at_most))
        limits = [f"{sign} {limit:g}" for sign, limit in bounds if limit is not None]
        self.expected = f"a number {' and '.join(limits)}"

    def read(self, text: str) -> float:
        value = super().read(text)
        too_low = (self.above is not None and value <= self.above) or (
            self.at_least is not None and value < self.at_least
        )
        if too_low or (self.at_most is not None and value > self.at_most):
            raise ValueError
        return value


class WholeNumber(_Typed):
    """A whole number; 1e5 and 100_000 are fine."""

    name = "integer"
    expected = "a whole number"

    def read(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            value = float(text)
            if not math.isfinite(value) or value != int(value):
                raise
            return int(value)


class NodeCount(WholeNumber):
    """N, or MIN:MAX for an elastic fleet (as torchrun has it)."""

    name = "n|min:max"
    expected = "a whole number >= 1, or MIN:MAX"

    def read(self, text: str) -> Any:
        least, separator, most = text.partition(":")
        if not separator:
            return super().read(text)
        pair = (super().read(least), super().read(most))
        if not 1 <= pair[0] <= pair[1]:
            raise ValueError
        return pair


class NumberOrAuto(Number):
    """Seconds, or auto."""

    name = "seconds|auto"
    expected = "a number of seconds greater than 0, or auto"

    def read(self, text: str) -> Any:
        return "auto" if text.lower() == "auto" else super().read(text)


class OneOf(_Typed):
    """One of a few words."""

    def __init__(self, choices: Iterable[str]):
        self.choices = tuple(choices)
        self.name = "|".join(self.choices)
        self.expected = f"one of {', '.join(self.choices)}"

    def read(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError
        return text

    def hint(self, text: str) -> str | None:
        return did_you_mean(text, self.choices)


class Words(_Typed):
    """Text that is not empty."""

    name = "text"
    expected = "a name"

    def read(self, text: str) -> str:
        if not text:
            raise ValueError
        return text


class YesNo(_Typed):
    """A truth value in a variable."""

    name = "boolean"
    expected = "true or false"

    def read(self, text: str) -> bool:
        if text.lower() not in {"true", "yes", "1", "on", "false", "no", "0", "off"}:
            raise ValueError
        return text.lower() in {"true", "yes", "1", "on"}


def called(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """What the user calls a parameter: the variable if the value came from there, else the flag."""
    if param is None:
        return "value"
    if (
        ctx is not None
        and param.name is not None
        and ctx.get_parameter_source(param.name) is ParameterSource.ENVIRONMENT
    ):
        return str(param.envvar)
    return param.opts[0] if isinstance(param, click.Option) else str(param.human_readable_name)


class Field(typing.NamedTuple):
    """One field of the scenario as a flag."""

    path: FieldPath
    flags: tuple[str, ...]
    type: _Typed
    help: str

    @property
    def parameter(self) -> str:
        """The name under which click hands the value over."""
        return "scenario_" + "__".join(self.path)

    @property
    def variable(self) -> str:
        return "PLANNER_" + self.flags[0].removeprefix("--").replace("-", "_").upper()


def scenario_fields() -> tuple[Field, ...]:
    """Every field of the scenario, in the model's order."""
    found: list[Field] = []
    for section, info in model.Scenario.model_fields.items():
        section_model = info.annotation
        assert isinstance(section_model, type)
        assert issubclass(section_model, StrictModel)
        for name, field in section_model.model_fields.items():
            if name in _VARIANTS:
                found += _distribution_fields(name)
                continue
            path = (section, name)
            plain = (f"{section}_" if section in _PREFIXED_SECTIONS else "") + name
            flags = _RENAMED.get(path, (f"--{plain.replace('_', '-')}",))
            kind = NodeCount() if path == ("fleet", "nodes") else _type_of(field.annotation)
            found.append(Field(path, flags, kind, field.description or ""))
    return tuple(found)


def _distribution_fields(kind: str) -> list[Field]:
    choices = tuple(DISTRIBUTION_KEYS[kind])
    path: FieldPath = ("market", kind, "distribution")
    fields = [Field(path, (f"--{kind}-distribution",), OneOf(choices), f"Distribution of the {kind}.")]
    seen = {"distribution"}
    for variant in _VARIANTS[kind]:
        for name, field in variant.model_fields.items():
            if name in seen:
                continue
            seen.add(name)
            path = ("market", kind, name)
            flags = _RENAMED.get(path, (f"--{kind}-{name.replace('_', '-')}",))
            help_text = field.description or ""
            if name == "file":
                owners = " or ".join(d for d, keys in DISTRIBUTION_KEYS[kind].items() if "file" in keys)
                help_text = f"File of an {owners} {kind}."
            fields.append(Field(path, flags, _type_of(field.annotation), help_text))
    return fields


def _type_of(annotation: Any) -> _Typed:
    members = _members(annotation)
    words = [
        word for member in members if typing.get_origin(member) is typing.Literal for word in typing.get_args(member)
    ]
    if bool in members:
        return YesNo()
    if float in members:
        return NumberOrAuto() if words else Number()
    if int in members:
        return WholeNumber()
    return OneOf(words) if words else Words()


def _members(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return [found for argument in typing.get_args(annotation) for found in _members(argument)]
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return [annotation]


def scenario_options(*, without: Iterable[FieldPath] = ()) -> Callable[[F], F]:
    """A decorator that adds one option per scenario field; `without` leaves out what a command replaces."""
    left_out = set(without)

    def decorate(function: F) -> F:
        for field in reversed(scenario_fields()):
            if field.path in left_out:
                continue
            if isinstance(field.type, YesNo):
                flag = field.flags[0]
                names: tuple[str, ...] = (f"{flag}/--no-{flag.removeprefix('--')}",)
            else:
                names = field.flags
            function = click.option(
                *names,
                field.parameter,
                type=field.type if not isinstance(field.type, YesNo) else None,
                default=None,
                envvar=field.variable,
                help=field.help,
            )(function)
        return function

    return decorate


def gather(ctx: click.Context, parameters: Mapping[str, Any], file: Path | None) -> Layered:
    """The scenario that a command was asked for: flags over variables over `file`."""
    document = None if file is None else read_yaml(file)
    if file is not None and document is None:
        raise InvalidInputError("file", file, "a scenario; this file is empty")
    return gather_document(ctx, parameters, document, None if file is None else str(file))


def gather_document(
    ctx: click.Context, parameters: Mapping[str, Any], document: object, document_name: str | None
) -> Layered:
    """Flags over variables over a `document` (None: none) that messages call `document_name`."""
    given: dict[FieldPath, Given] = {}
    for field in scenario_fields():
        value = parameters.get(field.parameter)
        if value is None:
            continue
        from_environment = ctx.get_parameter_source(field.parameter) is ParameterSource.ENVIRONMENT
        name = field.variable if from_environment else field.flags[0]
        origin = "environment" if from_environment else "flag"
        if isinstance(value, tuple):
            given[field.path] = Given(value[1], name, origin)
            given.setdefault(_MIN_NODES, Given(value[0], name, origin))
        elif field.path == _MIN_NODES and field.path in given:
            ranged = given[field.path]  # (--nodes MIN:MAX comes first)
            if ranged.origin == origin and ranged.value != value:
                raise InvalidInputError(name, value, f"{ranged.value}, as {ranged.name} says, or nothing")
            if origin == "flag":
                given[field.path] = Given(value, name, origin)
        else:
            given[field.path] = Given(value, name, origin)
    flags = {field.path: field.flags[0] for field in scenario_fields()}
    return layer(document, document_name, given, flags)
