"""Read telemetry back: one file, a directory of them, or several, merged in time order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidInputError
from harness.telemetry.schema import AnyEvent, parse_event

FILE_PATTERN = "node-*.jsonl"


@dataclass(frozen=True)
class Telemetry:
    """Events in time order, and what could not be read."""

    events: tuple[AnyEvent, ...]
    files: tuple[str, ...]
    damaged_lines: int = 0
    """Lines that a kill cut short: their content is lost, the rest of the file is good."""


@dataclass(frozen=True)
class TelemetryFile:
    """One file's bytes and where they came from."""

    name: str
    source: str
    data: bytes


def find_files(paths: Iterable[Path]) -> list[TelemetryFile]:
    """Every telemetry file at or below `paths`; InvalidInputError for a path that does not exist."""
    found = []
    for path in paths:
        if not path.exists():
            raise InvalidInputError("telemetry", path, "an existing file or directory")
        files = [path] if path.is_file() else sorted(path.rglob(FILE_PATTERN))
        found += [TelemetryFile(file.name, str(file), file.read_bytes()) for file in files]
    return found


def read_telemetry(*paths: Path | str, fetched: Iterable[TelemetryFile] = ()) -> Telemetry:
    """All events at or below `paths` and in `fetched` (what came from a bucket).

    Of files with one name the longest is read: the others are older copies of it.

    Raises InvalidInputError when there is no telemetry there, when a newer version wrote it, or when a line that was
    not merely cut short is no event.
    """
    longest: dict[str, TelemetryFile] = {}
    for file in [*find_files(Path(path) for path in paths), *fetched]:
        known = longest.get(file.name)
        if known is None or len(file.data) > len(known.data):
            longest[file.name] = file
    if not longest:
        shown = ", ".join(str(path) for path in paths) or "nothing"
        raise InvalidInputError("telemetry", shown, f"a place with {FILE_PATTERN} in it")
    events: list[AnyEvent] = []
    damaged = 0
    for _, file in sorted(longest.items()):
        good, torn = parse_lines(file.data, source=file.source)
        events += good
        damaged += torn
    events.sort(key=lambda event: event.wall_time)  # stable: a file's own order survives equal stamps
    return Telemetry(tuple(events), tuple(file.source for _, file in sorted(longest.items())), damaged)


def parse_lines(data: bytes, *, source: str) -> tuple[list[AnyEvent], int]:
    """The events in a file's bytes and the number of lines that a kill cut short.

    A cut line begins as a JSON object and is none, or has the zeros that a power cut leaves where data never came.
    """
    events: list[AnyEvent] = []
    torn = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            events.append(parse_event(line, source=f"{source}:{number}"))
        except InvalidInputError:
            if not _is_cut(line):
                raise
            torn += 1
    return events, torn


def _is_cut(line: bytes) -> bool:
    if b"\0" in line:
        return True
    if not line.startswith(b"{"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
