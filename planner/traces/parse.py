"""The text of a trace as records: four formats, strict, every error with its line or entry.

counts      JSON {"metadata": {"gap_seconds": g}, "data": [n, …]}: nodes (or 0/1) in every gap; or text lines
"YYYY-MM-DD, HH:MM:SS, n" in any order
membership  lines "milliseconds,add|remove,node" without a header, in order of time
lifetimes   CSV with a header: lifetime_s, lifetime_seconds or lifetime_hours; end_event; optionally entry_s,
entry_seconds or entry_hours (the age at which the node came under observation); other columns ignored
waits       CSV with a header: wait_s, wait_seconds or wait_hours
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from datetime import datetime

from harness.errors import InvalidInputError, did_you_mean
from simulator.traces import CapacitySeries, MembershipEvent, Observations

FORMATS = ("counts", "membership", "lifetimes", "waits")

OBSERVED_EVENTS = ("preempted", "reclaimed", "interrupted")
CENSORED_EVENTS = ("stopped_by_user", "stopped", "finished", "running", "censored")

_HOURS = {"s": 1.0 / 3600.0, "seconds": 1.0 / 3600.0, "hours": 1.0}


def detect_format(name: str, text: str) -> str:
    """Which of `FORMATS` a trace is in, by its first line; InvalidInputError when it is none of them."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise InvalidInputError(name, "an empty file", "a trace")
    cells = [cell.strip() for cell in first.split(",")]
    if first.lstrip().startswith("{"):
        return "counts"
    if any(cell.startswith("lifetime_") for cell in cells):
        return "lifetimes"
    if any(cell.startswith("wait_") for cell in cells):
        return "waits"
    if len(cells) == 3 and cells[1] in {"add", "remove"}:
        return "membership"
    if len(cells) == 3 and _is_time(cells[0], cells[1]):
        return "counts"
    raise InvalidInputError(f"{name} line 1", first, "a trace as JSON, lifetimes, add/remove or date,time,count lines")


def parse_counts(name: str, text: str, *, inverted: bool = False) -> CapacitySeries:
    """Nodes over time.  `inverted`: a 0/1 series in which 1 means that there is no capacity."""
    if not text.strip():
        raise InvalidInputError(name, "an empty file", "a trace")
    series = _json_counts(name, text) if text.lstrip().startswith("{") else _text_counts(name, text)
    if not inverted:
        return series
    if series.counts.max() > 1:
        raise InvalidInputError(name, int(series.counts.max()), "zeros and ones only, in a series that is inverted")
    return CapacitySeries(series.start_hours, 1 - series.counts, series.end_hours, series.resolution_hours)


def _json_counts(name: str, text: str) -> CapacitySeries:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInputError(name, f"{error.msg} at line {error.lineno}", "valid JSON") from None
    metadata, data = document.get("metadata"), document.get("data")
    if not isinstance(metadata, dict) or "gap_seconds" not in metadata:
        raise InvalidInputError(f"{name}: metadata.gap_seconds", "nothing", "the seconds between two samples")
    gap = metadata["gap_seconds"]
    if isinstance(gap, bool) or not isinstance(gap, int | float) or not (math.isfinite(gap) and gap > 0):
        raise InvalidInputError(f"{name}: metadata.gap_seconds", gap, "a finite number of seconds > 0")
    if not isinstance(data, list) or not data:
        raise InvalidInputError(f"{name}: data", data, "a list with at least one sample")
    for index, value in enumerate(data):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidInputError(f"{name}: data[{index}]", value, "a whole number of nodes >= 0")
    return CapacitySeries.regular(data, gap / 3600.0)


def _text_counts(name: str, text: str) -> CapacitySeries:
    """Lines in any order; where two state the same moment the one further down counts.

    Collectors append out of order, and repeat a moment when a count changes within their own look-ahead.
    """
    counts: dict[datetime, int] = {}
    for number, line in _lines(text):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3 or not _is_time(cells[0], cells[1]) or not cells[2].isdigit():
            raise InvalidInputError(f"{name} line {number}", line, "YYYY-MM-DD, HH:MM:SS, whole number of nodes")
        counts[_time(cells[0], cells[1])] = int(cells[2])
    times = sorted(counts)
    hours = [(time - times[0]).total_seconds() / 3600.0 for time in times]
    return CapacitySeries.irregular(hours, [counts[time] for time in times])


def parse_membership(name: str, text: str) -> tuple[MembershipEvent, ...]:
    """Nodes that came and went, in the file's order."""
    events = []
    for number, line in _lines(text):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3 or cells[1] not in {"add", "remove"} or not cells[2]:
            raise InvalidInputError(f"{name} line {number}", line, "milliseconds,add|remove,node name")
        milliseconds = _number(f"{name} line {number}, milliseconds", cells[0])
        events.append(MembershipEvent(milliseconds / 3.6e6, cells[2], cells[1] == "add"))
    if not events:
        raise InvalidInputError(name, "an empty file", "at least one node that is added")
    return tuple(events)


def parse_lifetimes(name: str, text: str) -> Observations:
    """Lifetimes with the event that ended them: a reclaim, or something that censors them."""
    rows = _rows(name, text)
    lifetime, to_hours = _duration_column(name, "lifetime", rows.fieldnames or ())
    columns = list(rows.fieldnames or ())
    if "end_event" not in columns:
        raise InvalidInputError(f"{name} line 1", ",".join(columns), "a column end_event", _near("end_event", columns))
    has_entry = any(column.startswith("entry_") for column in columns)
    entry, entry_hours = _duration_column(name, "entry", columns) if has_entry else ("", 0.0)
    exits, entries, observed = [], [], []
    for row in rows:
        where = f"{name} line {rows.line_num}"
        if None in row or None in row.values():
            raise InvalidInputError(where, "a row of another length", f"{len(columns)} cells")
        age = _number(f"{where}, {lifetime}", row[lifetime]) * to_hours
        since = _number(f"{where}, {entry}", row[entry]) * entry_hours if has_entry else 0.0
        if age <= since:
            raise InvalidInputError(f"{where}, {lifetime}", row[lifetime], "a lifetime longer than the age at entry")
        event = row["end_event"].strip()
        if event not in OBSERVED_EVENTS + CENSORED_EVENTS:
            known = f"one of {', '.join(OBSERVED_EVENTS)} (reclaims) or {', '.join(CENSORED_EVENTS)} (censored)"
            hint = did_you_mean(event, OBSERVED_EVENTS + CENSORED_EVENTS)
            raise InvalidInputError(f"{where}, end_event", event, known, hint)
        exits.append(age)
        entries.append(since)
        observed.append(event in OBSERVED_EVENTS)
    if not exits:
        raise InvalidInputError(name, "a header without rows", "at least one observed lifetime")
    return Observations.of(exits, observed, entries)


def parse_waits(name: str, text: str) -> tuple[float, ...]:
    """Measured waits for capacity, in hours."""
    rows = _rows(name, text)
    column, to_hours = _duration_column(name, "wait", rows.fieldnames or ())
    waits = tuple(_number(f"{name} line {rows.line_num}, {column}", row[column]) * to_hours for row in rows)
    if not waits:
        raise InvalidInputError(name, "a header without rows", "at least one measured wait")
    return waits


def _rows(name: str, text: str) -> csv.DictReader[str]:
    if not text.strip():
        raise InvalidInputError(name, "an empty file", "a CSV file with a header")
    return csv.DictReader(text.splitlines(), skipinitialspace=True)


def _duration_column(name: str, what: str, columns: Iterable[str]) -> tuple[str, float]:
    """The one column `what`_s, `what`_seconds or `what`_hours, and its unit in hours."""
    columns = list(columns)
    known = {f"{what}_{unit}": factor for unit, factor in _HOURS.items()}
    found = [column for column in columns if column in known]
    if len(found) != 1:
        expected = f"exactly one of the columns {', '.join(known)}"
        raise InvalidInputError(f"{name} line 1", ",".join(columns), expected, _near(f"{what}_hours", columns))
    return found[0], known[found[0]]


def _near(wanted: str, columns: list[str]) -> str | None:
    guess = did_you_mean(wanted, columns)
    return f"rename {guess.split(chr(39))[1]!r} to {wanted!r}?" if guess else None


def _number(where: str, cell: str | None) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise InvalidInputError(where, cell or "an empty cell", "a finite number >= 0")
    return value


def _lines(text: str) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _time(day: str, time: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{time}")


def _is_time(day: str, time: str) -> bool:
    try:
        _time(day, time)
    except ValueError:
        return False
    return True
