"""Flag over environment over file over default: one scenario out of several, and where each value came from.

Pure functions of dictionaries; the command line's part (which flags there are, what was given) is `planner.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import InvalidInputError, did_you_mean
from harness.validation import parse
from planner.scenario import Scenario

FieldPath = tuple[str, ...]

DISTRIBUTION_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "lifetime": {
        "exponential": ("rate_per_hour", "probability_per_hour"),
        "weibull": ("shape", "scale_hours"),
        "bathtub": ("a", "tau1_hours", "b_hours", "tau2_hours", "cap_hours"),
        "empirical": ("file",),
        "trace": ("file",),
    },
    "provision": {"constant": ("hours",), "exponential": ("mean_hours",), "empirical": ("file",)},
}
"""Which keys belong to which distribution: a rate alone says that the lifetime is exponential."""

_INSTEAD_OF = {"rate_per_hour": "probability_per_hour", "probability_per_hour": "rate_per_hour"}
_KNOWN_PARTS = set(Scenario.model_fields)


@dataclass(frozen=True, slots=True)
class Given:
    """A value from outside the file: what it is and what the user calls it (``--work-hours``, ``PLANNER_RUNS``)."""

    value: Any
    name: str
    origin: str
    """"flag" or "environment"."""


@dataclass(frozen=True, slots=True)
class Layered:
    """A checked scenario and, for each value in it, where it came from."""

    scenario: Scenario
    origins: Mapping[FieldPath, str]
    names: Mapping[FieldPath, str]
    """What the user calls each value that was given, for messages about it."""
    flags: Mapping[FieldPath, str]
    """The flag of each field, for messages about what was not given."""

    def name_of(self, *path: str) -> str:
        """What to call the value at `path` in a message to the user."""
        return self.names.get(path) or self.flags.get(path) or ".".join(path)


def layer(
    file_document: object,
    file_name: str | None,
    given: Mapping[FieldPath, Given],
    flags: Mapping[FieldPath, str] | None = None,
) -> Layered:
    """The scenario in `file_document` (None: no file) with what was `given` laid over it.

    `flags` says which flag each field has.

    Raises InvalidInputError that names the flag, the variable or the file's key.
    """
    document = _sections(file_document, file_name)
    origins: dict[FieldPath, str] = dict.fromkeys(_leaves(document), f"file {file_name}")
    names: dict[FieldPath, str] = {path: f"{file_name}: {'.'.join(path)}" for path in origins}
    for origin in ("environment", "flag"):
        upper = {path: value for path, value in given.items() if value.origin == origin}
        _lay_over(document, upper)
        for path, value in upper.items():
            origins[path] = f"{origin} {value.name}"
            names[path] = value.name
    alive = set(_leaves(document))
    origins = {path: origin for path, origin in origins.items() if path in alive}
    names = {path: name for path, name in names.items() if path in alive}
    try:
        scenario = parse(Scenario, document)
    except InvalidInputError as error:
        raise _in_the_users_words(error, names, flags or {}, file_name) from None
    return Layered(scenario, origins, names, flags or {})


def _sections(document: object, file_name: str | None) -> dict[str, Any]:
    """The file's sections as fresh dictionaries; an empty section is the same as none."""
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidInputError(str(file_name), document, "a mapping of sections such as job, fleet and market")
    result: dict[str, Any] = {}
    for key, section in document.items():
        if not isinstance(key, str):
            raise InvalidInputError(f"{file_name}: {key}", key, "a key that is text")
        if section is None and key in _KNOWN_PARTS:
            continue
        if key in _KNOWN_PARTS and not isinstance(section, dict):
            raise InvalidInputError(f"{file_name}: {key}", section, "a mapping of its fields")
        result[key] = _copy(section, f"{file_name}: {key}")
    return result


def _copy(value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            raise InvalidInputError(where, key, "a key that is text")
    return {key: _copy(item, f"{where}.{key}") for key, item in value.items()}


def _lay_over(document: dict[str, Any], upper: Mapping[FieldPath, Given]) -> None:
    for kind, by_distribution in DISTRIBUTION_KEYS.items():
        prefix = ("market", kind)
        new = {path[2]: value for path, value in upper.items() if path[:2] == prefix}
        if new:
            _lay_distribution(document, kind, by_distribution, new)
    for path, value in upper.items():
        if path[:1] == ("market",) and path[1] in DISTRIBUTION_KEYS:
            continue
        section = document.setdefault(path[0], {})
        section[path[-1]] = value.value


def _lay_distribution(
    document: dict[str, Any], kind: str, by_distribution: Mapping[str, tuple[str, ...]], new: Mapping[str, Given]
) -> None:
    """Lay `new` keys over a lifetime or a provision: another distribution replaces the one below it."""
    market = document.setdefault("market", {})
    below = market.get(kind)
    below = dict(below) if isinstance(below, dict) else {}
    wanted = new["distribution"].value if "distribution" in new else _implied(kind, by_distribution, new)
    if wanted is None:
        wanted = below.get("distribution")
    if wanted is None:
        wanted = next(iter(by_distribution))
    if below.get("distribution", wanted) != wanted:
        below = {}
    for key in new:
        below.pop(_INSTEAD_OF.get(key, ""), None)
    market[kind] = {**below, "distribution": wanted, **{key: value.value for key, value in new.items()}}


def _implied(kind: str, by_distribution: Mapping[str, tuple[str, ...]], new: Mapping[str, Given]) -> str | None:
    """The only distribution that has one of these keys; None when the keys leave it open."""
    for key, value in new.items():
        owners = [name for name, keys in by_distribution.items() if key in keys]
        if len(owners) == 1:
            return owners[0]
        if len(owners) > 1:
            choices = " or ".join(owners)
            raise InvalidInputError(
                value.name, value.value, f"its distribution beside it: --{kind}-distribution {choices}"
            )
    return None


def _leaves(document: Mapping[str, Any], prefix: FieldPath = ()) -> list[FieldPath]:
    found: list[FieldPath] = []
    for key, value in document.items():
        path = (*prefix, key)
        found += _leaves(value, path) if isinstance(value, dict) else [path]
    return found


def _in_the_users_words(
    error: InvalidInputError, names: Mapping[FieldPath, str], flags: Mapping[FieldPath, str], file_name: str | None
) -> InvalidInputError:
    """The same error, naming the flag, variable or file key that the value came from."""
    path = tuple(_without_tags(error.field.split(".")))
    expected, value, hint = _phrase(error.expected), error.value, error.hint
    if path[-2:] == ("checkpoint", "interval_seconds"):
        expected = "a number of seconds greater than 0, or auto"
    if expected.startswith("input tag"):
        path = (*path, "distribution")
        choices = tuple(DISTRIBUTION_KEYS[path[1]])
        value = value.get("distribution") if isinstance(value, dict) else value
        expected, hint = f"one of {', '.join(choices)}", did_you_mean(str(value), choices)
    if path and path[0] not in _KNOWN_PARTS and hint is None:
        hint = did_you_mean(path[0], _KNOWN_PARTS)
    name = names.get(path)
    if name is None:
        below = [name for leaf, name in names.items() if leaf[: len(path)] == path]
        if below and all(name.startswith(("--", "PLANNER_")) for name in below):
            name, value = " and ".join(below), "them together" if len(below) > 1 else value
        elif file_name is None and path in flags:
            name = flags[path]
        else:
            name = f"{file_name}: {'.'.join(path)}" if file_name else ".".join(path)
    return InvalidInputError(name, value, expected, hint)


def _without_tags(parts: list[str]) -> list[str]:
    """A path without the names that pydantic adds for the members of a union."""
    if parts[:1] == ["market"] and len(parts) > 2 and parts[1] in DISTRIBUTION_KEYS:
        return [*parts[:2], *(part for part in parts[2:] if part not in DISTRIBUTION_KEYS[parts[1]])]
    if parts[:2] == ["checkpoint", "interval_seconds"]:
        return parts[:2]
    return parts


def _phrase(expected: str) -> str:
    """Pydantic's words as a phrase that completes "expected …"."""
    if expected.startswith(("greater", "less")):
        return f"a number {expected}"
    if expected.startswith(("a valid number", "a valid integer")):
        return "a number" if "number" in expected else "a whole number"
    if expected.startswith(("valid", "finite")):
        return f"a {expected}".replace("a valid dictionary or instance of", "a mapping for").replace(
            "a valid dictionary", "a mapping"
        )
    return expected
