"""`planner fit`: compares distributions, writes a lifetime that scenarios take, draws what it found."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from harness.errors import InvalidInputError
from harness.validation import parse
from planner.commands.fit import command, fit_document
from planner.documents import schema_path, to_json
from planner.lifetime_files import write_lifetime
from planner.lifetime_fit import fit_files
from planner.scenario import Scenario
from planner.traces.files import load_empirical_lifetime
from simulator.lifetimes import Bathtub


@pytest.fixture(scope="module")
def weibull_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 lives with shape 0.6, a third stopped by users."""
    rng = np.random.default_rng(4)
    life, stop = 3.0 * rng.weibull(0.6, 400), rng.exponential(8.0, 400)
    rows = [f"{min(a, b)},{'preempted' if a <= b else 'stopped'}" for a, b in zip(life, stop, strict=True)]
    path = tmp_path_factory.mktemp("log") / "lives.csv"
    path.write_text("lifetime_hours,end_event\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_the_table_names_parameters_errors_and_the_best_first(weibull_log: Path) -> None:
    """What a person sees on 80 columns."""
    result = CliRunner().invoke(command, [str(weibull_log)], catch_exceptions=False)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert max(len(line) for line in lines) <= 80
    rows = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in {"weibull", "exponential"}]
    assert rows == ["weibull", "exponential"]
    assert "scale_hours" in result.output
    assert "Still there (Kaplan-Meier)" in result.output


def test_json_is_one_document(weibull_log: Path) -> None:
    """As the published schema has it: fits in order of AIC, standard errors, survival, hazard."""
    result = CliRunner().invoke(command, [str(weibull_log), "--json"], catch_exceptions=False)
    document = json.loads(result.output)
    jsonschema.validate(document, json.loads(schema_path("fit").read_text(encoding="utf-8")))
    assert document["lives"] == 400
    assert document["fits"][0]["distribution"] == document["preferred"] == "weibull"
    aic = [fit["aic"] for fit in document["fits"]]
    assert aic == sorted(aic)
    fit = document["fits"][0]
    assert abs(fit["parameters"]["shape"] - 0.6) < 4 * fit["standard_errors"]["shape"] < 0.2
    assert sum(part["reclaims"] for part in document["hazard"]) == document["reclaims"]


def test_what_is_written_is_a_scenario_s_lifetime(weibull_log: Path, tmp_path: Path) -> None:
    """The file parses as a scenario with nothing but market.lifetime, uncertainty included."""
    out = tmp_path / "lifetime.yaml"
    result = CliRunner().invoke(command, [str(weibull_log), "--out", str(out)], catch_exceptions=False)
    assert "Wrote" in result.output
    written = yaml.safe_load(out.read_text(encoding="utf-8"))
    lifetime = parse(Scenario, written).market.lifetime
    assert lifetime is not None
    assert lifetime.distribution == "weibull"
    report = fit_files([weibull_log])
    assert lifetime.shape == pytest.approx(report.fit_of("weibull").parameters["shape"], rel=1e-5)
    assert lifetime.events == report.observations.events
    assert "standard error" in out.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [out]


def test_an_empirical_lifetime_brings_its_observations(weibull_log: Path, tmp_path: Path) -> None:
    """The CSV beside it gives the same Kaplan–Meier lifetime back."""
    out, table = write_lifetime(fit_files([weibull_log]), tmp_path / "l.yaml", distribution="empirical")
    lifetime = parse(Scenario, yaml.safe_load(out.read_text(encoding="utf-8"))).market.lifetime
    assert lifetime is not None
    assert lifetime.file == str(table)
    seen = fit_files([weibull_log]).observations
    assert lifetime.events == seen.events
    assert lifetime.exposure_hours == pytest.approx(seen.exposure_hours, rel=1e-5)
    assert load_empirical_lifetime(table) == fit_files([weibull_log]).empirical


def test_what_a_log_cannot_tell_is_not_printed_as_if_it_could(tmp_path: Path) -> None:
    """A mean of millions of hours from two lives is "> 300 h"; reclaims at one age only are said to be that."""
    log = tmp_path / "lives.csv"
    log.write_text("lifetime_hours,end_event\n5,preempted\n5,preempted\n" + "30,running\n" * 40, encoding="utf-8")
    out = CliRunner().invoke(command, [str(log)], catch_exceptions=False).output
    assert "> 300 h" in out
    assert "..." not in out
    assert "all 2 reclaims came at the age of 5 h" in " ".join(out.split())


def test_a_cap_is_carried_by_the_bathtub(tmp_path: Path) -> None:
    """Google-like lives: reclaims at the platform's limit count as censored; the file says cap_hours."""
    true = Bathtub(a=0.3, tau1_hours=1.5, b_hours=32.0, tau2_hours=8.0, cap_hours=24.0)
    draws = np.random.default_rng(2).exponential(size=300)
    rows = [f"{max(true.inverse_cumulative_hazard(e), 0.001)},preempted" for e in draws]
    log = tmp_path / "lives.csv"
    log.write_text("lifetime_hours,end_event\n" + "\n".join(rows) + "\n", encoding="utf-8")
    hinted = fit_files([log])
    assert any("--cap-hours" in warning for warning in hinted.warnings)
    report = fit_files([log], cap_hours=24.0)
    assert report.chosen.events < 200
    out = tmp_path / "l.yaml"
    write_lifetime(report, out)
    lifetime = parse(Scenario, yaml.safe_load(out.read_text(encoding="utf-8"))).market.lifetime
    assert lifetime is not None
    assert lifetime.cap_hours == 24.0


def test_several_files_are_pooled(tmp_path: Path) -> None:
    """Lives and joint losses of all; a file without lifetimes is said to have none."""
    series = '{"metadata": {"gap_seconds": 3600}, "data": [0, 2, 2, 0, 1, 0, 2, 1, 0]}'
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(series, encoding="utf-8")
    (tmp_path / "c.json").write_text('{"metadata": {"gap_seconds": 3600}, "data": [0, 0]}', encoding="utf-8")
    report = fit_files([tmp_path / name for name in ("a.json", "b.json", "c.json")])
    assert len(report.observations) == 6
    assert report.losses is not None
    assert (report.losses.events, report.losses.multi_node_events) == (8, 2)
    assert any("c.json" in warning for warning in report.warnings)
    assert any("fresh launch" in warning for warning in report.warnings)
    document = json.loads(to_json(fit_document(report)))
    jsonschema.validate(document, json.loads(schema_path("fit").read_text(encoding="utf-8")))
    assert document["losses"]["multi_node_share"] == 0.25


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_plot_is_labelled_with_units(weibull_log: Path, tmp_path: Path, suffix: str) -> None:
    """Both axes of both panels name quantity and unit; lines differ without colour."""
    from planner.lifetime_plot import fit_figure, plot_fit

    report = fit_files([weibull_log])
    plot_fit(report, tmp_path / f"fit{suffix}")
    assert (tmp_path / f"fit{suffix}").stat().st_size > 5000
    survival, hazard = fit_figure(report).axes
    assert survival.get_xlabel() == hazard.get_xlabel() == "Age of the node (hours)"
    assert hazard.get_ylabel() == "Reclaims per node-hour"
    styles = [line.get_linestyle() for line in survival.get_lines() if line.get_label() != "Kaplan–Meier"]
    assert len(set(styles)) == len(styles) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "FILE"),
        (["LOG", "--distribution", "weibul", "--out", "x.yaml"], "weibull"),
        (["LOG", "--distribution", "weibull"], "--out"),
        (["LOG", "--out", "x.txt"], "yaml"),
        (["LOG", "--out", "/nowhere/x.yaml"], "--out"),
        (["LOG", "--plot", "x.gif"], "--plot"),
        (["LOG", "--plot", "/nowhere/x.png"], "--plot"),
        (["LOG", "--format", "lifetime"], "lifetimes"),
        (["LOG", "--nodes", "0"], "--nodes"),
        (["LOG", "--cap-hours", "-1"], "cap_hours"),
        (["LOG", "--inverted"], "--inverted"),
    ],
)
def test_bad_input_is_named(weibull_log: Path, arguments: list[str], message: str) -> None:
    """Nothing is written; the error names the flag."""
    given = [str(weibull_log) if argument == "LOG" else argument for argument in arguments]
    with pytest.raises(InvalidInputError, match=message):
        CliRunner().invoke(command, given, catch_exceptions=False)


def test_a_distribution_without_data_says_why(tmp_path: Path) -> None:
    """Two reclaims cannot carry a bathtub."""
    log = tmp_path / "l.csv"
    log.write_text("lifetime_hours,end_event\n1,preempted\n2,preempted\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="eight reclaims"):
        write_lifetime(fit_files([log]), tmp_path / "l.yaml", distribution="bathtub")
    with pytest.raises(InvalidInputError, match="cap-hours"):
        write_lifetime(fit_files([log], cap_hours=3.0), tmp_path / "l.yaml")
