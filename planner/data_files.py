"""Reading the bundled tables: CSV files whose every cell is checked while it is read.

A `Table` says which columns a file has and what each may hold; `read_table` returns its rows or raises one
`InvalidInputError` that names the file, the line and the column.  Standard library only: the catalogue must load in
milliseconds and without NumPy.
"""

from __future__ import annotations

import calendar
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean

_KINDS = {
    "text": "some text",
    "number": "a finite number",
    "count": "a whole number",
    "date": "a date: YYYY, YYYY-MM or YYYY-MM-DD",
}


def data_directory() -> Path:
    """The folder of the bundled tables: `planner/_data` in an installed wheel, `data/` in a checkout."""
    packaged = Path(__file__).parent / "_data"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "data"


def data_path(name: str) -> Path:
    """Where the bundled table `name` (such as ``prices.csv``) is."""
    return data_directory() / name


@dataclass(frozen=True, slots=True)
class Column:
    """What one column may hold.

    `kind` is text, number, count or date; `optional` cells may be empty (None in the row); numbers lie in
    [minimum, maximum]; `choices` lists the only texts allowed.
    """

    name: str
    kind: str = "text"
    optional: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file: its name, its columns in order, and the columns whose values together name a row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row and the line of the file on which it ends."""

    line: int
    values: dict[str, str | float | None] = field(default_factory=dict)

    def text(self, column: str) -> str:
        """A text or date cell; empty when it is missing."""
        value = self.values[column]
        return value if isinstance(value, str) else ""

    def optional_text(self, column: str) -> str | None:
        """A text or date cell, None when it is missing."""
        return self.text(column) or None

    def number(self, column: str) -> float:
        """A number that is there (the column is not optional)."""
        value = self.values[column]
        assert isinstance(value, float)
        return value

    def optional_number(self, column: str) -> float | None:
        """A number, None when it is missing."""
        value = self.values[column]
        return value if isinstance(value, float) else None

    def optional_count(self, column: str) -> int | None:
        """A whole number, None when it is missing."""
        value = self.values[column]
        return int(value) if isinstance(value, float) else None


def read_table(table: Table, directory: Path | None = None) -> tuple[Row, ...]:
    """The rows of `table` in `directory` (default: the bundled tables).

    Raises InvalidInputError, naming file, line and column, for a file that is missing, unreadable or not UTF-8 CSV,
    for a wrong header, a row of the wrong length, a cell that its column does not allow, and a key that is there twice.
    """
    rows, errors = scan_table(table, directory)
    if errors:
        raise errors[0]
    return rows


def scan_table(table: Table, directory: Path | None = None) -> tuple[tuple[Row, ...], tuple[InvalidInputError, ...]]:
    """Every good row of `table`, and every error that `read_table` would have raised, in the file's order."""
    path = (directory or data_directory()) / table.name
    rows: list[Row] = []
    errors: list[InvalidInputError] = []
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            _check_header(path, next(reader, None), [column.name for column in table.columns])
            for cells in reader:
                line = reader.line_num
                if cells:
                    try:
                        rows.append(_parse_row(table, cells, path, line))
                    except InvalidInputError as error:
                        errors.append(error)
    except InvalidInputError as error:
        errors.append(error)
    except FileNotFoundError:
        errors.append(InvalidInputError("data table", path, "an existing file"))
    except csv.Error as error:
        errors.append(InvalidInputError(f"{path} after line {line}", error, "valid CSV"))
    except (OSError, UnicodeDecodeError) as error:
        errors.append(InvalidInputError("data table", path, "a readable UTF-8 CSV file", str(error)))
    errors += _duplicates(table, rows, path)
    return tuple(rows), tuple(errors)


def _parse_row(table: Table, cells: list[str], path: Path, line: int) -> Row:
    if len(cells) != len(table.columns):
        expected = f"{len(table.columns)} cells, one per column"
        raise InvalidInputError(f"{path} line {line}", ",".join(cells), expected)
    pairs = zip(table.columns, cells, strict=True)
    return Row(line, {column.name: _parse_cell(column, cell, path, line) for column, cell in pairs})


def _duplicates(table: Table, rows: list[Row], path: Path) -> list[InvalidInputError]:
    seen: dict[tuple[object, ...], int] = {}
    errors = []
    for row in rows:
        key = tuple(row.values[column] for column in table.key)
        if key in seen:
            shown = " ".join(str(part) for part in key if part is not None)
            where = f"{path} line {row.line}, columns {', '.join(table.key)}"
            errors.append(InvalidInputError(where, shown, f"a row not given before (line {seen[key]} has it)"))
        seen.setdefault(key, row.line)
    return errors


def _check_header(path: Path, header: Sequence[str] | None, names: list[str]) -> None:
    if header == names:
        return
    if header is None:
        raise InvalidInputError(f"{path} line 1", "an empty file", f"the columns {', '.join(names)}")
    unknown = [name for name in header if name not in names]
    missing = [name for name in names if name not in header]
    hint = did_you_mean(unknown[0], missing) if unknown and missing else None
    raise InvalidInputError(f"{path} line 1", ",".join(header), f"the columns {', '.join(names)}", hint)


def _parse_cell(column: Column, cell: str, path: Path, line: int) -> str | float | None:
    text = cell.strip()

    def refused(expected: str, hint: str | None = None) -> InvalidInputError:
        where = f"{path} line {line}, column {column.name}"
        return InvalidInputError(where, text or "an empty cell", expected, hint)

    if not text:
        if column.optional:
            return None
        raise refused(_KINDS[column.kind])
    if column.kind == "text":
        if column.choices and text not in column.choices:
            raise refused(f"one of {', '.join(column.choices)}", did_you_mean(text, column.choices))
        return text
    if column.kind == "date":
        try:
            AsOf.parse(text)
        except ValueError:
            raise refused(_KINDS["date"]) from None
        return text
    try:
        number = float(text)
    except ValueError:
        raise refused(_KINDS[column.kind]) from None
    if not math.isfinite(number) or (column.kind == "count" and number != int(number)):
        raise refused(_KINDS[column.kind])
    if not column.minimum <= number <= column.maximum:
        expected = f"a number >= {column.minimum:g}"
        if math.isfinite(column.maximum):
            expected += f" and <= {column.maximum:g}"
        raise refused(expected)
    return number


@dataclass(frozen=True, slots=True)
class AsOf:
    """A date that may be known to the month or the year only: the days it can mean, first to last.

    Sources write ``2026-08-03``, ``2026-07`` or ``2020``.  Newer is decided by the **first** possible day, so that a
    date with a day beats a bare month of the same month, and an age is never understated.
    """

    first: date
    last: date

    @staticmethod
    @cache
    def parse(text: str) -> AsOf:
        """`text` as the range of days it can mean; ValueError when it is no such date.

        Thousands of rows share a few dates: each is read once.
        """
        parts = text.split("-")
        if [len(part) for part in parts] != [4, 2, 2][: len(parts)] or not all(part.isdigit() for part in parts):
            raise ValueError(f"not a date: {text!r}")
        numbers = [int(part) for part in parts]
        if len(numbers) == 1:
            return AsOf(date(numbers[0], 1, 1), date(numbers[0], 12, 31))
        if len(numbers) == 2:
            year, month = numbers
            return AsOf(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))
        day = date(*numbers)
        return AsOf(day, day)

    def age_days(self, today: date) -> int:
        """Days from the first day this can mean to `today` (never negative)."""
        return max(0, (today - self.first).days)
