"""Reading what users write: strict pydantic models whose errors are one clear line.

`StrictModel` refuses unknown keys, NaN and silent type changes; `parse` and `load_yaml` turn pydantic's report into
an `InvalidInputError` that names the field, the value, what was expected and the nearest known key.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import InvalidInputError, did_you_mean


class StrictModel(BaseModel):
    """Base of everything that is read from a file or a command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], data: object, *, source: str | None = None) -> M:
    """`data` as a `model`; raises InvalidInputError for the first thing that is wrong with it.

    `source` (a file name) is put before the field's path when given.
    """
    try:
        return model.model_validate(data)
    except ValidationError as report:
        raise _first_error(model, report, source) from None


def load_yaml(model: type[M], path: Path) -> M:
    """The YAML or JSON file at `path` as a `model`; unreadable or corrupt files raise InvalidInputError too."""
    return parse(model, read_yaml(path), source=str(path))


def read_yaml(path: Path) -> object:
    """The document in a YAML or JSON file, by the safe loader; InvalidInputError when there is none to be had."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInputError("file", path, "an existing file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("file", path, "a readable UTF-8 text file", str(error)) from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        where = " ".join(str(error).split())
        raise InvalidInputError("file", path, "valid YAML or JSON", where[:160]) from None


def _first_error(model: type[BaseModel], report: ValidationError, source: str | None) -> InvalidInputError:
    # Unknown keys first: a misspelt key is also reported as a missing one, which would mislead.
    errors = sorted(report.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    error = errors[0]
    location = [part for part in error["loc"] if not _is_union_tag(part)]
    path = ".".join(str(part) for part in location) or "document"
    field = f"{source}: {path}" if source else path
    if error["type"] == "extra_forbidden":
        known = sorted(_keys_at(model, location[:-1]))
        hint = did_you_mean(str(location[-1]), known)
        return InvalidInputError(field, error["input"], f"a known key: one of {', '.join(known)}", hint)
    if error["type"] == "missing":
        return InvalidInputError(field, "nothing", "a value: this key is required")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    message = message[0].lower() + message[1:] if message else "another value"
    hint = None
    context = error.get("ctx", {})
    if error["type"] in {"literal_error", "enum"} and isinstance(error["input"], str):
        hint = did_you_mean(
            error["input"], str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        )
    return InvalidInputError(field, error["input"], message, hint)


def _is_union_tag(part: object) -> bool:
    """Pydantic puts the names of union members into locations; no key of ours contains brackets or capitals."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in {"float", "int", "str", "none"})


def _keys_at(model: type[BaseModel], location: Iterable[object]) -> set[str]:
    """The keys that are known at `location` (unions of models give the union of their keys)."""
    candidates: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            if _is_model(candidate) and isinstance(part, str) and part in candidate.model_fields:
                following += _models_in(candidate.model_fields[part].annotation)
            elif not _is_model(candidate):
                following += _models_in(candidate)
            else:
                # An index into a list, or a discriminator's tag: the models stay what they are.
                following.append(candidate)
        candidates = following
    return {key for candidate in candidates if _is_model(candidate) for key in candidate.model_fields}


def _models_in(annotation: Any) -> list[Any]:
    if _is_model(annotation):
        return [annotation]
    if typing.get_origin(annotation) in {list, tuple, dict, typing.Union, types.UnionType, typing.Annotated}:
        return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]
    return []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
