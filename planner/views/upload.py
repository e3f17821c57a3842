"""A scenario file that was uploaded, as the query of a link: read as data, never as a path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from harness.errors import InvalidInputError
from planner.layers import FieldPath, layer
from planner.views.link import Query, keys_by_path

MOST_BYTES = 65_536
"""No scenario is nearly as long."""


def scenario_query(name: str, data: bytes) -> Query:
    """The query that says the same as the scenario file `data`; `name` is what messages call it.

    Raises InvalidInputError for what is no scenario (too long, not UTF-8, not YAML, YAML with aliases, which can stand
    for more than fits into memory; unknown keys and nonsense as on the command line), and for a scenario that names
    files of its own: those lie on the machine that it was written on.
    """
    document = _document(name, data)
    layered = layer(document, name, {})
    keys = keys_by_path()
    query = []
    for path in layered.origins:
        if path not in keys:
            raise InvalidInputError(
                layered.name_of(*path), _at(document, path), "values instead of a file", "planner recommend reads files"
            )
        query.append((keys[path], _text(_at(document, path))))
    return tuple((key, text) for key, text in query if text)


def _document(name: str, data: bytes) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise InvalidInputError(name, f"{len(data):,} bytes", f"a scenario of at most {MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-8")
        if name.endswith(".json"):
            document = json.loads(text)
        else:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
                raise InvalidInputError(name, "an alias", "a scenario without YAML aliases")
            document = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise InvalidInputError(name, "these bytes", "text in UTF-8") from None
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        where = " ".join(str(error).split())[:160]
        raise InvalidInputError(name, "this text", "valid YAML or JSON", where) from None
    if not isinstance(document, dict) or not document:
        raise InvalidInputError(name, "this text", "a mapping of sections such as job, fleet and market")
    return document


def _at(document: Mapping[str, Any], path: FieldPath) -> Any:
    value: Any = document
    for part in path:
        value = value[part]
    return value


def _text(value: Any) -> str:
    """A value as a link writes it; empty where it is not given."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    short = f"{value:.10g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
