"""YAML with a reason above each value: a small writer for nested mappings of scalars and lists.

PyYAML's own scalar rules decide about quoting, so that what is written reads back as the same value.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

WIDTH = 110


def to_yaml(document: Mapping[str, Any], comments: Mapping[str, str], *, header: str = "") -> str:
    """`document` as YAML; `comments` maps dotted paths to the reason that goes above that key."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    if lines:
        lines.append("")
    _write_mapping(document, comments, (), lines)
    return "\n".join(lines) + "\n"


def _write_mapping(
    mapping: Mapping[str, Any], comments: Mapping[str, str], path: tuple[str, ...], lines: list[str]
) -> None:
    indent = "  " * len(path)
    for key, value in mapping.items():
        here = (*path, key)
        comment = comments.get(".".join(here))
        if comment:
            wrapped = textwrap.wrap(" ".join(comment.split()), WIDTH - len(indent) - 2)
            lines += [f"{indent}# {line}" for line in wrapped]
        if isinstance(value, Mapping) and value:
            lines.append(f"{indent}{key}:")
            _write_mapping(value, comments, here, lines)
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            lines.append(f"{indent}{key}:")
            for item in value:
                lines += _item(item, f"{indent}  ")
        else:
            lines.append(f"{indent}{key}: {_inline(value)}")


def _item(item: Any, indent: str) -> list[str]:
    """An item of a list: on one line, unless it is a mapping with something nested in it."""
    nested = isinstance(item, Mapping) and any(isinstance(value, Mapping | list) and value for value in item.values())
    if not nested:
        return [f"{indent}- {_inline(item)}"]
    first, *others = yaml.safe_dump(item, width=10**9, allow_unicode=True, sort_keys=False).splitlines()
    return [f"{indent}- {first}", *(f"{indent}  {line}" for line in others)]


def _inline(value: Any) -> str:
    """A scalar, an empty collection or a flat mapping on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
