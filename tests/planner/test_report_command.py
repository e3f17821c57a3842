"""planner report: what was predicted beside what happened, and the difference taken apart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from planner.documents import schema_path
from tests.planner.conftest import Outcome
from tests.planner.loop_telemetry import write_run

Planner = Callable[..., Outcome]
RUN = "reported-run"
WORK_HOURS = 2.0  # 200 steps of 36 s
PLAN = ("--instance", "p4d.24xlarge", "--zone", "use1-az2", "--checkpoint-gib", "50", "--run-id", RUN)
AS_MEASURED = (
    *("--interval-seconds", "1800", "--stall-seconds", "4", "--persist-seconds", "90"),
    *("--startup-seconds", "550", "--emergency-seconds", "75"),
)


@pytest.fixture
def plan(planner: Planner, tmp_path: Path) -> Callable[..., Path]:
    """Emits a plan into a folder with telemetry below; the config's path."""

    def emit(*flags: str) -> Path:
        outcome = planner(
            "recommend", *PLAN, "--work-hours", str(WORK_HOURS), "--runs", "2000", *flags, "--emit", tmp_path
        )
        assert outcome.code == 0, outcome.err
        return tmp_path / "harness.yaml"

    return emit


def reported(planner: Planner, *arguments: object) -> dict[str, Any]:
    """The document, held against its schema."""
    outcome = planner("report", *arguments, "--runs", "1000", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document: dict[str, Any] = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("report").read_text(encoding="utf-8")))
    return document


def effect(document: dict[str, Any], parameter: str, total: str) -> float:
    """The mean effect of one parameter."""
    rows = {row["parameter"]: row for row in document["attribution"]["contributions"]}
    return float(rows[parameter]["effects"][total]["mean"])


def test_the_config_reproduces_its_plan(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """What is emitted is enough to simulate the plan again: the same medians, from the same source of hazards."""
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN)
    document = reported(planner, config)
    assert document["reproduced"] is True
    assert document["work_hours"] == pytest.approx(WORK_HOURS)
    rows = {row["quantity"]: row for row in document["quantities"]}
    for name in ("cost_usd", "makespan_hours"):
        assert rows[name]["predicted"] == pytest.approx(rows[name]["planned"], rel=0.01)
    assert rows["stall_seconds"]["ratio"] == pytest.approx(4.0 / 3.625)
    assert rows["rate_per_hour"]["low"] < rows["rate_per_hour"]["actual"] < rows["rate_per_hour"]["high"]


def test_the_simulator_on_the_interruptions_that_happened(
    planner: Planner, plan: Callable[..., Path], tmp_path: Path
) -> None:
    """The made-up run follows the model but for the save at a step's end: what is left is a thousandth."""
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN)
    retraced = reported(planner, config)["retraced"]
    # Steps 100 to 120 once more: the loss at 120 found the save of step 100 durable, and the notice lost nothing.
    assert retraced["lost_work_hours"] == pytest.approx(20 * 36 / 3600, rel=0.02)
    assert retraced["measured_lost_work_hours"] == pytest.approx(20 * 36 / 3600)
    assert retraced["makespan_hours"] == pytest.approx(retraced["measured_makespan_hours"], rel=0.02)
    assert retraced["interruptions"] == retraced["measured_interruptions"] == 2
    shown = planner("report", config, "--runs", "1000").out
    assert "on this run's own 2 interruptions" in " ".join(shown.split())


def test_an_unfinished_run_is_not_retraced(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN, finished=False)
    document = reported(planner, config)
    assert (document["retraced"], document["why_not_retraced"]) == (None, "the run is not finished")


def test_parts_add_up_to_the_difference(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """actual - predicted = effects + interaction + not in telemetry + rest, for each total."""
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN)
    document = reported(planner, tmp_path / "telemetry", "--config", config)
    assert set(document["attribution"]["totals"]) == {"cost_usd", "makespan_hours", "goodput"}
    for name, total in document["attribution"]["totals"].items():
        effects = [row["effects"][name]["mean"] for row in document["attribution"]["contributions"] if row["effects"]]
        parts = math.fsum([*effects, total["interaction"], total["not_in_telemetry"], total["rest"]])
        assert parts == pytest.approx(total["actual"] - total["predicted"], abs=1e-9)


def test_a_wrong_startup_is_found(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """Only the startup was planned wrong, by an hour: an uninterrupted run shows exactly that, and nothing else."""
    flags = list(AS_MEASURED)
    flags[flags.index("550")] = "4150"
    config = plan(*flags, "--rate-per-hour", "0", "--provision-hours", "0")
    write_run(tmp_path / "telemetry", run_id=RUN, lost_at=(), noticed_at=())
    document = reported(planner, config)
    # One startup, planned 3600 s too long.
    assert effect(document, "startup_seconds", "makespan_hours") == pytest.approx(-1.0, abs=1e-6)
    others = [row for row in document["attribution"]["contributions"] if row["parameter"] != "startup_seconds"]
    assert all(abs(row["effects"]["makespan_hours"]["mean"]) < 1e-6 for row in others)
    total = document["attribution"]["totals"]["makespan_hours"]
    # The planned boot of 150 s comes before the launcher; the final save (94 s) is not in this telemetry.
    assert total["not_in_telemetry"] == pytest.approx(-150.0 / 3600.0)
    assert total["rest"] == pytest.approx(-94.0 / 3600.0, abs=1e-6)


def test_the_price_that_was_paid(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """Twice the price is the plan's node bill once more, and is what explains the cost most."""
    config = plan(*AS_MEASURED, "--rate-per-hour", "0", "--spot-usd-per-hour", "8")
    write_run(tmp_path / "telemetry", run_id=RUN, lost_at=(), noticed_at=())
    document = reported(planner, config, "--spot-usd-per-hour", "16")
    first = document["attribution"]["contributions"][0]
    assert first["parameter"] == "spot_usd_per_hour"
    billed_hours = WORK_HOURS + (550 + 4 * 4 + 90) / 3600.0
    assert first["effects"]["cost_usd"]["mean"] == pytest.approx(8.0 * billed_hours, rel=0.01)
    assert first["effects"]["makespan_hours"]["mean"] == 0.0
    rows = {row["quantity"]: row for row in document["quantities"]}
    assert rows["cost_usd"]["actual"] == pytest.approx(16.0 * (WORK_HOURS + (400 + 3 * 4) / 3600.0))


def test_an_unfinished_run_is_held_against_as_much_work(
    planner: Planner, plan: Callable[..., Path], tmp_path: Path
) -> None:
    """Half of the work done: the prediction is for half."""
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN, steps=100, lost_at=(), noticed_at=(), finished=False)
    document = reported(planner, config)
    assert document["finished"] is False
    rows = {row["quantity"]: row for row in document["quantities"]}
    assert rows["makespan_hours"]["predicted"] < 0.65 * rows["makespan_hours"]["planned"]
    assert any("not finished" in note for note in document["notes"])


def test_for_a_person(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """80 columns; the telemetry is found by the config, the config by the telemetry."""
    plan()
    write_run(tmp_path / "telemetry", run_id=RUN)
    outcome = planner("report", tmp_path / "telemetry", "--runs", "300")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    for words in ("makespan_hours", "With, measured instead of planned", "rest", "Cannot be attributed"):
        assert words in outcome.out


def test_a_plan_that_cannot_be_simulated(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """Its own figures are compared, and the report says which one is missing."""
    config = plan()
    write_run(tmp_path / "telemetry", run_id=RUN)
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    del document["plan"]["rate_per_hour"]
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    found = reported(planner, config)
    assert found["attribution"] is None
    assert "plan.rate_per_hour" in found["why_no_attribution"]
    assert {row["quantity"]: row["ratio"] for row in found["quantities"]}["stall_seconds"] is not None


def test_bad_input(planner: Planner, plan: Callable[..., Path], tmp_path: Path) -> None:
    """No plan, another run's telemetry, mixed runs, none at all, no config: one line each, exit 2."""
    config = plan()
    lines = {"none": planner("report", config)}
    write_run(tmp_path / "other", run_id="another-run")
    lines["other"] = planner("report", tmp_path / "other", "--config", config)
    write_run(tmp_path / "telemetry", run_id=RUN)
    lines["mixed"] = planner("report", tmp_path, "--config", config)
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    del document["plan"]
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    lines["no plan"] = planner("report", config)
    config.unlink()
    lines["no config"] = planner("report", tmp_path / "telemetry")
    expected = {
        "none": "the run's telemetry on this machine",
        "other": "run another-run",
        "mixed": "runs another-run, reported-run",
        "no plan": "expected what was predicted",
        "no config": "--config: got 'nothing'",
    }
    for name, outcome in lines.items():
        assert outcome.code == 2, name
        assert expected[name] in outcome.err
        assert len(outcome.err.splitlines()) == 1
