"""A copy of the bundled tables that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

from planner.data_check import EVERY_TABLE
from planner.data_files import data_directory


def copy_tables(target: Path) -> Path:
    """All bundled tables, copied into `target`."""
    for table in EVERY_TABLE:
        shutil.copy(data_directory() / table.name, target / table.name)
    return target


def replace_once(path: Path, old: str, new: str) -> int:
    """Replace the only (first) `old` in a file; the line that it was on.  Fails when it is not there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path.name}: the test would damage nothing"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1
