"""Imports point one way: app → planner → simulator → harness.{policy,config,clock,errors,validation}."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "planner", "simulator", "harness")
SHARED_HARNESS = {
    "harness.policy",
    "harness.config",
    "harness.clock",
    "harness.errors",
    "harness.validation",
    "harness.telemetry",
    "harness.report",
    "harness.chaos.schedule",
}
ALLOWED = {
    "app": {"planner", "app"},
    "planner": {"planner", "simulator", *SHARED_HARNESS},
    "simulator": {"simulator", *SHARED_HARNESS},
    "harness": {"harness"},
}


def imported_modules(path: Path) -> set[str]:
    """Every absolute module that `path` imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # `from harness import policy` names a module too.
            found |= {module} if "." in module else {f"{module}.{alias.name}" for alias in node.names}
    return found


def violations(room: str, modules: set[str]) -> set[str]:
    """The modules of another room that `room` may not import."""
    ours = {module for module in modules if module.split(".")[0] in ROOMS}
    return {m for m in ours if not any(m == ok or m.startswith(f"{ok}.") for ok in ALLOWED[room])}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    """No module of a room imports a room above it, nor the parts of the harness that need torch."""
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} has no modules: the test would check nothing"
    wrong = {str(path.relative_to(ROOT)): bad for path in files if (bad := violations(room, imported_modules(path)))}
    assert not wrong


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    """The rule is not vacuous: imports the wrong way round are found."""
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from planner import cli\n    import harness.run\n", encoding="utf-8")
    assert violations("simulator", imported_modules(bad)) == {"planner.cli", "harness.run"}
    assert violations("harness", imported_modules(bad)) == {"planner.cli"}
