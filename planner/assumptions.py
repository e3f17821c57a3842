"""Assumptions: every number that a plan uses and nobody measured for this job, with its unit, source and date."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from planner import tables
from planner.data_files import read_table

GIVEN_SOURCE = "given by the user"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One stated number: `value` in `unit`, where it comes from, and as of when."""

    name: str
    value: float
    unit: str
    source: str
    as_of: str


class Assumptions:
    """All stated assumptions by name, some of them overridden by the user or by a measured profile.

    Raises InvalidInputError for an override of an unknown name (with the nearest one) or with a value that its unit
    does not allow: a finite number >= 0; at most 1 for a fraction or a probability; 0 or 1 for a flag.
    """

    def __init__(self, rows: Mapping[str, Assumption], overrides: Mapping[str, float] | None = None) -> None:
        self._rows = dict(rows)
        for name, value in (overrides or {}).items():
            row = self.row(name)
            _check(row, value)
            self._rows[name] = replace(row, value=float(value), source=GIVEN_SOURCE, as_of="")

    def row(self, name: str) -> Assumption:
        """The assumption called `name`; InvalidInputError, with the nearest name, when there is none."""
        try:
            return self._rows[name]
        except KeyError:
            hint = did_you_mean(name, self._rows)
            raise InvalidInputError("assumption", name, "the name of an assumption", hint) from None

    def value(self, name: str) -> float:
        """The value of the assumption called `name`."""
        return self.row(name).value

    def with_overrides(self, overrides: Mapping[str, float]) -> Assumptions:
        """These assumptions with some values replaced; their source becomes the user."""
        return Assumptions(self._rows, overrides)

    def names(self) -> tuple[str, ...]:
        """The names of all assumptions, in the table's order."""
        return tuple(self._rows)

    def rows(self) -> tuple[Assumption, ...]:
        """All assumptions, in the table's order."""
        return tuple(self._rows.values())


def _check(row: Assumption, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise InvalidInputError(row.name, value, f"a finite number >= 0 in {row.unit}")
    if row.unit in {"fraction", "probability"} and value > 1.0:
        raise InvalidInputError(row.name, value, f"a {row.unit} from 0 to 1")
    if row.unit == "flag" and value not in {0.0, 1.0}:
        raise InvalidInputError(row.name, value, "0 (no) or 1 (yes)")


@cache
def load_assumptions(directory: Path | None = None) -> Assumptions:
    """The bundled assumptions (or those of another folder of tables)."""
    rows = (
        Assumption(row.text("name"), row.number("value"), row.text("unit"), row.text("source"), row.text("as_of"))
        for row in read_table(tables.ASSUMPTIONS, directory)
    )
    return Assumptions({row.name: row for row in rows})
