"""Comparing output with golden files; ``UPDATE_GOLDEN=1 pytest`` rewrites them (look at the diff before committing)."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """`text` equals the golden file `name`."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: run with UPDATE_GOLDEN=1 and look at what it writes"
    assert text == path.read_text(encoding="utf-8"), f"differs from {path.name}; UPDATE_GOLDEN=1 accepts it"
