"""The JSON contracts: published schemas, the contract's keys, parts that add up, nothing that JSON does not know."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rich.console import Console

from planner import render
from planner.documents import SIMULATED, schema_path, to_json
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
SCENARIO = """
job:        {work_hours: 100, checkpoint_gib: 50, deadline_hours: 106}
fleet:      {provider: aws, instance: p4d.24xlarge, region: us-east-1, zone: use1-az2}
market:
  spot_usd_per_hour: 8.0
  on_demand_usd_per_hour: 21.96
  lifetime:  {distribution: exponential, rate_per_hour: 0.1625}
  provision: {distribution: constant, hours: 0.1}
notice:     {seconds: 120, success: 0.95}
checkpoint: {interval_seconds: 1800, stall_seconds: 5, persist_seconds: 60, emergency_seconds: 65}
restart:    {startup_seconds: 300}
simulation: {runs: 2000, seed: 1}
"""
SUMMARY = {"mean", "standard_error", "p5", "p50", "p90", "p95", "p99"}


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A scenario file."""
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return str(path)


def checked(name: str, text: str) -> dict[str, Any]:
    """The one JSON document in `text`, valid by its published schema."""
    document: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    schema = json.loads(schema_path(name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    return document


def test_simulate(planner: Planner, scenario: str) -> None:
    """Every key of the contract; the parts add up to the makespan."""
    outcome = planner("simulate", scenario, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = checked("simulate", outcome.out)
    for name in SIMULATED:
        assert set(document[name]) == SUMMARY
    parts = sum(document[name]["mean"] for name in SIMULATED if name.endswith("_hours") and name != "makespan_hours")
    assert 100.0 + parts == pytest.approx(document["makespan_hours"]["mean"], abs=1e-6)
    assert 0.0 < document["deadline_probability"]["low"] < document["deadline_probability"]["high"] < 1.0
    assert (document["runs"], document["seed"], document["schema_version"]) == (2000, 1, 1)


def test_simulate_without_a_deadline(planner: Planner, scenario: str, tmp_path: Path) -> None:
    """No deadline, no probability; JSON input is as good as YAML."""
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps({"job": {"work_hours": 5}}), encoding="utf-8")
    outcome = planner(
        "simulate", str(path), "--spot-usd-per-hour", "1", "--rate-per-hour", "0", "--stall-seconds", "0",
        "--persist-seconds", "0", "--startup-seconds", "360", "--provision-hours", "0.5", "--interval-seconds", "600",
        "--runs", "10", "--json",
    )  # fmt: skip
    document = checked("simulate", outcome.out)
    assert document["deadline_probability"] is None
    # Nothing is left to chance without interruptions: wait + startup + work, billed from the end of the wait.
    assert document["makespan_hours"]["mean"] == pytest.approx(5.6)
    assert document["cost_usd"]["mean"] == pytest.approx(5.1)
    assert document["cost_usd"]["standard_error"] == pytest.approx(0.0, abs=1e-12)


def test_sweep(planner: Planner, scenario: str) -> None:
    """The optimum lies within its plateau and no point or rule beats it; the points asked for are reported."""
    outcome = planner("sweep", scenario, "--intervals-seconds", "600,1800,5400", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = checked("sweep", outcome.out)
    assert [point["interval_seconds"] for point in document["points"]] == pytest.approx([600, 1800, 5400])
    best = document["optimum"]
    assert best["low_seconds"] <= best["interval_seconds"] <= best["high_seconds"]
    assert all(point["cost_usd"]["mean"] >= best["cost_usd"]["mean"] for point in document["points"])
    assert document["rules"]["fifteen_minutes"] == 900
    assert document["rules"]["young_seconds"] == pytest.approx(math.sqrt(2 * 5 * 3600 / 0.1625), rel=1e-6)
    assert all(regret >= 0.0 for regret in document["regret"].values())


def test_sweep_of_a_weibull_has_no_exact_rule(planner: Planner, scenario: str) -> None:
    """The exact optimum is only known for exponential lifetimes: null, not a number that looks like one."""
    outcome = planner(
        "sweep", scenario, "--lifetime-shape", "0.6", "--lifetime-scale-hours", "4", "--lifetime-distribution",
        "weibull", "--runs", "200", "--json",
    )  # fmt: skip
    document = checked("sweep", outcome.out)
    assert document["rules"]["exact_exponential_seconds"] is None
    assert document["regret"]["exact_exponential"] is None


def test_tables_fit_80_columns(planner: Planner, scenario: str) -> None:
    """What a person sees survives a narrow terminal and a pipe, in plain ASCII."""
    for command in ("simulate", "sweep"):
        outcome = planner(command, scenario)
        assert outcome.code == 0
        assert outcome.out.isascii()
        assert max(len(line) for line in outcome.out.splitlines()) <= 80
        assert "\x1b" not in outcome.out


def test_long_names_are_broken_at_their_own_marks() -> None:
    """Where a word is wider than its column; words that fit stay whole, and nothing is lost."""
    out = Console(width=24, file=io.StringIO())
    columns = (render.Column("A", wrap=True), render.Column("B", right=True))
    rows = [("spot-advisor-other-regions", "123456"), ("us-east-1 use1-az2", "1"), ("x" * 20, "2")]
    out.print(render.table(columns, rows))
    assert isinstance(out.file, io.StringIO)
    lines = [line[:17].strip() for line in out.file.getvalue().splitlines()[2:]]
    assert lines == ["spot-advisor-", "other-regions", "us-east-1", "use1-az2", "x" * 16, "xxxx"]


def test_no_probability_is_certain() -> None:
    """Out of finitely many runs, all is not always."""
    said = render.probability_with_interval
    assert said(1.0, 0.9998, 1.0) == ">99.9%"
    assert said(0.0, 0.0, 0.0002) == "<0.1%"
    assert said(0.998, 0.997, 0.9995) == "99.8% (95% interval 99.7% to >99.9%)"
    assert said(0.94, 0.93, 0.95) == "94% (95% interval 93% to 95%)"


def test_an_interval_of_auto_is_the_optimum_of_the_sweep(planner: Planner, scenario: str) -> None:
    """simulate with `auto` uses what sweep finds."""
    swept = json.loads(planner("sweep", scenario, "--json").out)
    simulated = json.loads(planner("simulate", scenario, "--interval-seconds", "auto", "--json").out)
    assert simulated["interval_seconds"] == pytest.approx(swept["optimum"]["interval_seconds"])


def test_the_commands_agree_on_the_whole_bill(planner: Planner, tmp_path: Path) -> None:
    """Disks, transfer and the assumed rendezvous host are in every command's cost, and in what emit predicts.

    The sweep's rendezvous host rests while the fleet waits: 0.1 % is ten times that here.
    """
    job = (
        "--instance", "p4d.24xlarge", "--nodes", "2", "--zone", "use2-az2", "--work-hours", "100", "--checkpoint-gib",
        "50", "--disk-gib", "1000", "--disk-usd-per-gib-month", "0.08", "--transfer-gib", "20000",
        "--transfer-usd-per-gib", "0.02", "--runs", "100",
    )  # fmt: skip
    fixed = ("--interval-seconds", "1800")
    simulated = json.loads(planner("simulate", *job, *fixed, "--json").out)["cost_usd"]
    (swept,) = json.loads(planner("sweep", *job, "--intervals-seconds", "1800", "--json").out)["points"]
    for name in ("p50", "mean"):
        assert swept["cost_usd"][name] == pytest.approx(simulated[name], rel=1e-3)
    assert planner("emit", *job, *fixed, "--output", str(tmp_path)).code == 0
    predicted = yaml.safe_load((tmp_path / "harness.yaml").read_text(encoding="utf-8"))["plan"]
    assert predicted["cost_usd_p50"] == pytest.approx(simulated["p50"], rel=1e-5)
    assert "rendezvous_usd_per_hour" in {row["name"] for row in predicted["assumptions"]}
    assert simulated["mean"] > 400.0 + 2 * 100 * 1000 * 0.08 / 730.0


def test_json_never_holds_nan_or_infinity() -> None:
    """What JSON does not know becomes null, at any depth."""
    text = to_json({"a": math.inf, "b": [1.0, -math.inf, {"c": math.nan}], "d": (2.5,), "e": None})
    assert json.loads(text) == {"a": None, "b": [1.0, None, {"c": None}], "d": [2.5], "e": None}


def test_emit_and_show_config(planner: Planner, scenario: str, tmp_path: Path) -> None:
    """Both have a published schema; every value of the config has an origin."""
    folder = tmp_path / "out"
    emitted = checked("emit", planner("emit", scenario, "--output", str(folder), "--target", "all", "--json").out)
    assert [Path(path).parent for path in emitted["files"]] == [folder] * len(emitted["files"])
    assert Path(emitted["files"][0]).name == "harness.yaml"
    config = checked("show-config", planner("simulate", scenario, "--work-hours", "7", "--show-config", "--json").out)
    rows = {row["field"]: row for row in config["config"]}
    assert rows["job.work_hours"] == {"field": "job.work_hours", "value": 7.0, "origin": "flag --work-hours"}
    assert all(row["origin"] for row in config["config"])


def test_without_a_command_the_help_is_shown(planner: Planner) -> None:
    """Not an error message that contains a help text."""
    outcome = planner()
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == planner("--help").out
