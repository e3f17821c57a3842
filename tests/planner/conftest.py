"""What the planner's tests share: an environment without PLANNER_ variables, 80 columns, and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of the developer's own reach a test; output is 80 columns wide and without colour."""
    for name in [name for name in os.environ if name.startswith("PLANNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def planner(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process."""
    from planner.cli import main

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        # The first test on a machine compiles the engines, and is told so: which one that is must not matter.
        said = [
            line for line in captured.err.splitlines(True) if not line.startswith(("compiling the ", "compiled the "))
        ]
        return Outcome(code, captured.out, "".join(said))

    return run
