"""`simulate --plot` and `sweep --plot`: what is drawn is what was computed; files are whole or not there."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from harness.errors import InvalidInputError
from planner import figure_files
from planner.figures import simulate_figure, sweep_figure
from simulator.lifetimes import Exponential
from simulator.provision import ConstantProvision
from simulator.runs import Runs
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from simulator.sweep import Sweep, sweep
from tests.planner.conftest import Outcome
from tests.planner.test_cli import loaded_modules

Planner = Callable[..., Outcome]
JOB = ("--work-hours", "20", "--spot-usd-per-hour", "2", "--rate-per-hour", "0.1", "--stall-seconds", "30")
GAPS = ("--persist-seconds", "60", "--emergency-seconds", "90", "--startup-seconds", "300", "--checkpoint-gib", "10")
SPEC = Spec(
    work_hours=20.0,
    interval_hours=0.5,
    stall_hours=0.01,
    persist_hours=0.02,
    startup_hours=0.1,
    deadline_hours=22.0,
    lifetime=Exponential(0.1),
    provision=ConstantProvision(0.1),
    price=PriceSeries.constant(2.0),
)


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Enough to have quantiles."""
    return simulate(SPEC, runs=2_000, seed=3)


@pytest.fixture(scope="module")
def curve() -> Sweep:
    """Five intervals and the search's optimum."""
    return sweep(SPEC, runs=2_000, seed=3, intervals_hours=[0.1, 0.3, 0.5, 1.0, 3.0])


def legend(axes: Axes) -> list[str]:
    """What the legend says."""
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_distributions_add_up_and_mark_their_quantiles(runs: Runs) -> None:
    """Bars hold every run; the lines stand at P5, P50, P95 in three line styles; the deadline says how often."""
    cost, done, _ = simulate_figure(runs, runs.cost_usd, budget_usd=1e6).axes
    for axes, values in ((cost, runs.cost_usd), (done, runs.makespan_hours)):
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(1.0)  # type: ignore[attr-defined]
        lines = axes.get_lines()[:3]
        places = [float(np.asarray(line.get_xdata())[0]) for line in lines]
        assert places == pytest.approx(np.quantile(values, [0.05, 0.5, 0.95]), rel=1e-9)
        assert len({line.get_linestyle() for line in lines}) == 3
        assert axes.get_ylabel() == "Share of runs"
    assert "(USD)" in cost.get_xlabel()
    assert "Hours" in done.get_xlabel()
    kept = 100.0 * float(np.mean(runs.makespan_hours <= 22.0))
    assert 0.0 < kept < 100.0
    assert f"deadline 22: kept in {kept:.3g} % of the runs" in legend(done)
    assert legend(cost)[-1].endswith("kept in 100 % of the runs (beyond this axis)")
    assert cost.get_xlim()[1] < 1e5


def test_time_parts_are_the_means(runs: Runs) -> None:
    """One bar per part that occurs, longest first; together they are the makespan without the work."""
    parts = simulate_figure(runs, runs.cost_usd).axes[2]
    widths = [bar.get_width() for bar in parts.patches]  # type: ignore[attr-defined]
    assert widths == sorted(widths, reverse=True)
    assert sum(widths) == pytest.approx(float(runs.makespan_hours.mean()) - 20.0, rel=1e-6)
    assert all(bar.get_hatch() for bar in parts.patches)


def test_sweep_shows_curve_errors_plateau_and_rules(curve: Sweep) -> None:
    """The mean at each interval with its error, every rule with a marker of its own, the hatched plateau."""
    cost, done = sweep_figure(curve).axes
    for axes in (cost, done):
        assert axes.get_xscale() == "log"
        assert any(patch.get_hatch() for patch in axes.patches)
        assert {"cannot be told from the best", "runs, P5 to P95", "mean, 95 % interval"} <= set(legend(axes))
    means = [line for line in cost.get_lines() if line.get_marker() == "."]
    assert list(np.asarray(means[0].get_ydata())) == [point.cost.mean for point in curve.points]
    markers = [line.get_marker() for line in cost.get_lines() if line.get_marker() in set("^sPovXD")]
    assert len(markers) == len(set(markers)) >= 3
    assert "best" in legend(cost)
    assert done.get_xlabel() == "Work between two checkpoints (minutes)"
    assert (cost.get_ylabel(), done.get_ylabel()) == ("Cost (USD)", "Makespan (hours)")


def test_commands_write_pictures(planner: Planner, tmp_path: Path) -> None:
    """A PNG and an SVG, said in the text and not in the JSON; an older picture is replaced."""
    png, svg = tmp_path / "runs.png", tmp_path / "sweep.svg"
    png.write_bytes(b"old")
    shown = planner("simulate", *JOB, *GAPS, "--interval-seconds", "1800", "--runs", "300", "--plot", str(png))
    assert shown.code == 0, shown.err
    assert png.name in "".join(shown.out.split())
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    swept = planner("sweep", *JOB, *GAPS, "--runs", "300", "--plot", str(svg), "--json")
    assert (swept.code, "Drawn" in swept.out) == (0, False)
    assert ET.parse(svg).getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.png", "sweep.svg"]


@pytest.mark.parametrize("name", ["runs.jpeg", "runs", "missing/runs.png", ""])
def test_a_file_that_cannot_be_drawn_is_refused_first(planner: Planner, tmp_path: Path, name: str) -> None:
    """Unknown endings, folders that are not there: exit 2 in one line, before anything is simulated."""
    outcome = planner("simulate", *JOB, *GAPS, "--plot", str(tmp_path / name))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("planner: --plot: got ")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_fails_leaves_the_old_one(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while drawing: the error names the file; the old picture and nothing else is there."""
    path = tmp_path / "runs.png"
    path.write_bytes(b"old")
    figure = simulate_figure(runs, runs.cost_usd)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(InvalidInputError, match="No space left"):
        figure_files.save_figure(figure, path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("runs.png", b"old")]


def test_simulate_draws_only_when_asked() -> None:
    """Without --plot neither matplotlib nor pandas is loaded."""
    loaded = loaded_modules("simulate", *JOB, *GAPS, "--interval-seconds", "1800", "--runs", "100", "--json")
    assert not loaded & {"matplotlib", "pandas"}
