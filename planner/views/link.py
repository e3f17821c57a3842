"""A scenario as the query of a link, and back.

The keys are the command line's flags without their dashes (``work-hours=100&instance=p4d.24xlarge``), the values go
through the same typed readers and the same model.  What cannot be used is named and replaced, never silently: each
`Correction` says what was there, what would be right, and what is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from harness.errors import InvalidInputError, did_you_mean, nearest
from planner.catalogue import Catalogue
from planner.completion import Completed, Knowledge, complete
from planner.emit.options import setting_flags
from planner.emit.plan import TARGETS
from planner.layers import FieldPath, Given, Layered, layer
from planner.options import BoundedNumber, Field, OneOf, WholeNumber, Words, scenario_fields
from planner.ranking import OBJECTIVES, Objective

EXAMPLE: Mapping[str, str] = {"instance": "p4d.24xlarge", "work-hours": "100", "checkpoint-gib": "50"}
"""What an empty link shows."""

ASSUME = "assume"
"""Repeated key: ``assume=NAME=VALUE`` replaces a stated assumption, as ``--assume`` does."""

COMPARED = ("zones", "sizes", "accelerator", "everything")
"""Names of the sets of places that can be compared (`planner.views.compare`)."""

PLAN_KEYS: Mapping[str, Any] = {
    "hazard": Words(),
    "step-seconds": BoundedNumber(above=0.0),
    "objective": OneOf(OBJECTIVES),
    "deadline-probability": BoundedNumber(above=0.0, at_most=1.0),
}
"""Keys that are no fields of the scenario but change the plan: flags of recommend."""
EMIT_KEYS: Mapping[str, str] = setting_flags()
"""Flags of emit, with their help: they change the files that are written, not the plan."""
SHOW_RUN, COMPARE, TARGET, TELEMETRY = "show-run", "compare", "target", "telemetry"
VIEW_KEYS: Mapping[str, Any] = {
    SHOW_RUN: WholeNumber(),
    COMPARE: OneOf(COMPARED),
    TARGET: OneOf(target.name for target in TARGETS),
    TELEMETRY: Words(),
}
"""What is looked at: a simulated run's number, what is compared, a launcher, a monitored run's name in its list."""
EXTRA_KEYS: Mapping[str, Any] = {**PLAN_KEYS, **dict.fromkeys(EMIT_KEYS, Words()), **VIEW_KEYS}

Query = tuple[tuple[str, str], ...]
"""Key and value, in order; only `ASSUME` may repeat."""

_MOST_CORRECTIONS = 50
# The longest value that any key needs; a link is not a place to store things.
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Correction:
    """One value of a link that could not be used."""

    key: str
    value: str
    expected: str
    hint: str | None
    used: str
    """What is used instead, as a phrase."""

    @property
    def sentence(self) -> str:
        """The correction as two short sentences."""
        shown = self.value if len(self.value) <= 60 else self.value[:57] + "..."
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.key} was “{shown}”, expected {self.expected}{hint}. {self.used}."


@dataclass(frozen=True, slots=True)
class Link:
    """A usable scenario out of a query: what is used (`query`), and what had to be corrected."""

    query: Query
    layered: Layered
    knowledge: Knowledge
    completed: Completed
    corrections: tuple[Correction, ...]

    def get(self, key: str) -> str | None:
        """The text of `key`; None when it is not given."""
        return dict(self.query).get(key)

    @property
    def question(self) -> Query:
        """The part of the query that the plan depends on."""
        return tuple((key, value) for key, value in self.query if key not in EMIT_KEYS and key not in VIEW_KEYS)

    @property
    def step_seconds(self) -> float | None:
        """Seconds per training step; None: not given."""
        text = self.get("step-seconds")
        return None if text is None else float(text)

    @property
    def objective(self) -> Objective:
        """What the best place is best at."""
        name, probability = self.get("objective"), self.get("deadline-probability")
        default = Objective()
        return Objective(name or default.name, default.probability if probability is None else float(probability))


@cache
def fields_by_key() -> Mapping[str, Field]:
    """Every field that a link may carry.  Files are not among them: a link must not make this machine read a path."""
    return {field.flags[0].removeprefix("--"): field for field in scenario_fields() if field.path[-1] != "file"}


@cache
def keys_by_path() -> Mapping[FieldPath, str]:
    """The link's key of each field."""
    return {field.path: key for key, field in fields_by_key().items()}


def with_example(query: Sequence[tuple[str, str]]) -> Query:
    """`query`, with what only the user can know taken from the example where it is missing."""
    given = dict(query)
    missing = tuple((key, value) for key, value in EXAMPLE.items() if key not in given)
    return (*missing, *query)


def changed(query: Query, changes: Mapping[str, str | None]) -> Query:
    """`query` with other values; None takes a key out.  ``rate-per-hour`` and its like replace each other."""
    kept = tuple((key, value) for key, value in query if key not in changes)
    return (*kept, *((key, value) for key, value in changes.items() if value is not None))


def with_assumption(query: Query, name: str, value: str | None) -> Query:
    """`query` with one stated assumption replaced; None takes the replacement out."""
    kept = tuple(pair for pair in query if not (pair[0] == ASSUME and pair[1].partition("=")[0] == name))
    return kept if value is None else (*kept, (ASSUME, f"{name}={value}"))


def resolve(query: Sequence[tuple[str, str]], catalogue: Catalogue) -> Link:
    """The scenario that a query describes, corrected until it can be used.

    Raises InvalidInputError for what no correction can mend, e.g. a type without any known interruption rate.
    """
    corrections: list[Correction] = []
    usable = _single(_readable(query, corrections), corrections)
    for _ in range(_MOST_CORRECTIONS):
        filled = with_example(usable)
        try:
            return _built(filled, catalogue, tuple(corrections))
        except InvalidInputError as error:
            usable = _corrected(filled, error, catalogue, corrections)
    raise AssertionError("a query has fewer values than corrections")


def _readable(query: Sequence[tuple[str, str]], corrections: list[Correction]) -> Query:
    """What has a known key and a value of its type."""
    fields = fields_by_key()
    known = {**{key: field.type for key, field in fields.items()}, **EXTRA_KEYS}
    kept: list[tuple[str, str]] = []
    for key, text in query:
        value = text.strip()
        if key == ASSUME and len(value) <= _LONGEST_VALUE:
            kept.append((key, value))
            continue
        if key not in known:
            corrections.append(
                Correction(key, value, "a flag of planner recommend", did_you_mean(key, known), "It is left out")
            )
            continue
        reader = known[key]
        if _reads(reader, value):
            kept.append((key, value))
        else:
            corrections.append(Correction(key, value, reader.expected, reader.hint(value), _instead(key)))
    return tuple(kept)


def _reads(reader: Any, value: str) -> bool:
    if len(value) > _LONGEST_VALUE:
        return False
    try:
        reader.read(value)
    except ValueError:
        return False
    return True


def _single(query: Query, corrections: list[Correction]) -> Query:
    last = {key: value for key, value in query if key != ASSUME}
    for key, value in query:
        if key != ASSUME and last[key] != value:
            corrections.append(Correction(key, value, "one value", None, f"The last one, {last[key]}, is used"))
    assumed = {value.partition("=")[0]: value for key, value in query if key == ASSUME}
    return (*last.items(), *((ASSUME, value) for value in assumed.values()))


def _built(query: Query, catalogue: Catalogue, corrections: tuple[Correction, ...]) -> Link:
    fields = fields_by_key()
    given = {
        fields[key].path: Given(fields[key].type.read(value), key, "flag") for key, value in query if key in fields
    }
    layered = layer(None, None, given, {field.path: key for key, field in fields.items()})
    assumptions = catalogue.assumptions
    for key, text in query:
        if key == ASSUME:
            name, _, number = text.partition("=")
            try:
                assumptions = assumptions.with_overrides({name: float(number)})
            except ValueError:
                raise InvalidInputError(f"{ASSUME} {name}", number, "a number") from None
            except InvalidInputError as error:
                value = error.value if error.field == "assumption" else number
                raise InvalidInputError(f"{ASSUME} {name}", value, error.expected, error.hint) from None
    if dict(query).get("objective") == "deadline" and layered.scenario.job.deadline_hours is None:
        raise InvalidInputError("objective", "deadline", "cost or time where no deadline-hours is given")
    knowledge = Knowledge(catalogue, assumptions, hazard=dict(query).get("hazard"))
    completed = complete(layered, knowledge)
    shown = dict(query).get(SHOW_RUN)
    if shown is not None and not 0 <= WholeNumber().read(shown) < completed.runs:
        raise InvalidInputError(SHOW_RUN, shown, f"a run from 0 to {completed.runs - 1}")
    completed.to_spec(interval_hours=completed["job.work_hours"])
    return Link(query, layered, knowledge, completed, corrections)


def _corrected(query: Query, error: InvalidInputError, catalogue: Catalogue, corrections: list[Correction]) -> Query:
    """`query` without the value that `error` is about; the error itself where it is about none of them."""
    given = dict(query)
    if error.field.startswith(f"{ASSUME} "):
        name = error.field.removeprefix(f"{ASSUME} ")
        used = "The stated assumption is used" if error.field != f"{ASSUME} assumption" else "It is left out"
        corrections.append(Correction(error.field, str(error.value), error.expected, error.hint, used))
        kept = tuple(p for p in query if not (p[0] == ASSUME and p[1].partition("=")[0] in (name, str(error.value))))
        if kept == query:
            raise error
        return kept
    names = [name.removeprefix("--") for name in error.field.split(" and ")]
    about = [name for name in names if name in given]
    if "instance" in about:
        known = sorted({row.name for row in catalogue.instances})
        near = nearest(given["instance"], known) or EXAMPLE["instance"]
        if near == given["instance"]:
            raise error
        corrections.append(
            Correction("instance", given["instance"], "a known instance type", None, f"{near} is used instead")
        )
        return changed(query, {"instance": near})
    about = [name for name in about if EXAMPLE.get(name) != given[name]]
    if not about:
        about = _culprit(query, catalogue)
    if not about:
        raise error
    corrections += [Correction(name, given[name], error.expected, error.hint, _instead(name)) for name in about]
    return changed(query, dict.fromkeys(about))


def _culprit(query: Query, catalogue: Catalogue) -> list[str]:
    """The last given key without which the query works: an error about what is missing names nothing that is there."""
    for key, _ in reversed(query):
        if key == ASSUME or key in EXAMPLE:
            continue
        try:
            _built(with_example(changed(query, {key: None})), catalogue, ())
        except InvalidInputError:
            continue
        return [key]
    return []


def _instead(key: str) -> str:
    if key in EXAMPLE:
        return f"The example's {EXAMPLE[key]} is used instead"
    return "The default is used instead"


def edited(link: Link) -> frozenset[str]:
    """Paths of the scenario (``checkpoint.stall_seconds``) that the link gives."""
    return frozenset(".".join(path) for path in link.layered.origins)


def with_catalogue(link: Link, catalogue: Catalogue) -> Link:
    """The same scenario on other prices."""
    rebuilt = _built(link.query, catalogue, link.corrections)
    return replace(rebuilt, corrections=link.corrections)
