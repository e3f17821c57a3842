"""Read telemetry back: one file, a directory of them, or several, merged in time order."""

from __future__ import annotations

import fnmatch
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


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Every telemetry file at or below `paths`; of files with one name the longest (the others are older copies)."""
    longest: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InvalidInputError("telemetry", path, "an existing file or directory")
        found = (
            [path] if path.is_file() else [p for p in path.rglob("*.jsonl") if fnmatch.fnmatch(p.name, FILE_PATTERN)]
        )
        for file in found:
            known = longest.get(file.name)
            if known is None or file.stat().st_size > known.stat().st_size:
                longest[file.name] = file
    return [longest[name] for name in sorted(longest)]


def read_telemetry(*paths: Path | str) -> Telemetry:
    """All events at or below `paths`.

    Raises InvalidInputError when there is no telemetry there, when a newer version wrote it, or when a line that was
    not merely cut short is no event.
    """
    files = find_files(Path(path) for path in paths)
    if not files:
        shown = ", ".join(str(path) for path in paths)
        raise InvalidInputError("telemetry", shown, f"a directory with {FILE_PATTERN} in it")
    events: list[AnyEvent] = []
    damaged = 0
    for file in files:
        good, torn = parse_lines(file.read_bytes(), source=str(file))
        events += good
        damaged += torn
    events.sort(key=lambda event: event.wall_time)  # stable: a file's own order survives equal stamps
    return Telemetry(tuple(events), tuple(str(file) for file in files), damaged)


def parse_lines(data: bytes, *, source: str) -> tuple[list[AnyEvent], int]:
    """The events in a file's bytes and the number of lines that a kill cut short.

    A cut line is a proper beginning of a JSON object: it starts with ``{`` and does not end with ``}``.
    """
    events: list[AnyEvent] = []
    torn = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        if line.startswith(b"{") and not line.rstrip().endswith(b"}"):
            torn += 1
            continue
        events.append(parse_event(line, source=f"{source}:{number}"))
    return events, torn
