"""The built wheel answers the main question from its own tables, without torch and Streamlit, from any directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# torch, Streamlit and what only the other half needs cannot be imported; a checkout of this project is not on the path.
RUN = """
import sys
BLOCKED = {{"torch", "streamlit", "altair", "xxhash"}}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{{name}} is blocked by the test", name=name)
sys.meta_path.insert(0, Blocker())
sys.path[:] = [{target!r}] + [p for p in sys.path if p not in ("", {root!r})]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in type(f).__module__ + getattr(f, "__name__", "")]
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    sys.exit("the blocker does not block")
import planner, simulator, harness
from planner.data_files import data_path
for module in (planner, simulator, harness):
    assert module.__file__.startswith({target!r}), module.__file__
assert str(data_path("prices.csv")).startswith({target!r} + "/planner/_data"), data_path("prices.csv")
from planner.cli import main
sys.exit(main({arguments!r}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built with the build tools that are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed into a folder of its own, without dependencies and without an index."""
    target = tmp_path_factory.mktemp("site") / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.mark.slow
def test_only_our_packages_land_in_site_packages(wheel: Path, installed: Path) -> None:
    """No top-level `app`, `data` or `tests`; tables, dashboard and schemas travel inside planner."""
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top - {"bin", "__pycache__"} == {"planner", "simulator", "harness"}
    names = set(zipfile.ZipFile(wheel).namelist())
    tables = {f"planner/_data/{path.relative_to(ROOT / 'data')}" for path in (ROOT / "data").rglob("*.csv")}
    schemas = {f"planner/schemas/{path.name}" for path in (ROOT / "planner" / "schemas").glob("*.json")}
    assert tables
    assert schemas
    assert tables | schemas | {"planner/_app/__init__.py", "planner/py.typed"} <= names


@pytest.mark.slow
def test_recommend_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Another working directory, no torch, no Streamlit: the same answer as from the checkout."""
    arguments = ["recommend", "--instance", "p4d.24xlarge", "--work-hours", "100", "--checkpoint-gib", "50"]
    arguments += ["--runs", "500", "--zone", "use1-az2", "--emit", "demo", "--json"]
    code = RUN.format(target=str(installed), root=str(ROOT), arguments=arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PLANNER_", "PYTHONPATH"))}
    # The interpreter of the tests has the dependencies; -I keeps its user site and the working directory out.
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr
    best = json.loads(result.stdout)["recommendation"]
    assert best["zone"] == "use1-az2"
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["harness.yaml", "torchrun.env"]
    here = [sys.executable, "-m", "planner", *arguments[:-3], "--json"]
    checkout = subprocess.run(here, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert json.loads(checkout.stdout)["recommendation"] == best
