"""What the soaks share: lines of progress past pytest's capture, with the time since the soak began."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def progress_printer(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """A function that prints at once, whatever pytest captures."""
    began = time.monotonic()

    def say(text: str) -> None:
        gap = "\n" if "\n" in text else ""
        with capsys.disabled():
            print(f"\n[{time.monotonic() - began:6.0f} s] {gap}{text}", end="", flush=True)

    return say
