"""planner calibrate: telemetry in, profile out; and the next recommendation says what it took from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from harness.config import load_run_config
from harness.telemetry.schema import Measurement, Profile
from planner.calibrate import pool_measurements
from planner.catalogue import load_catalogue
from planner.documents import schema_path
from planner.profile import measured_step_seconds
from tests.planner.conftest import Outcome
from tests.planner.loop_telemetry import write_run

Planner = Callable[..., Outcome]
RUN = "calibrated-run"
P4D = ("--instance", "p4d.24xlarge", "--region", "us-east-1", "--zone", "use1-az2")


def test_profile_holds_what_was_written(planner: Planner, tmp_path: Path) -> None:
    """Means, counts, units, the rate's posterior, and what is missing; the document follows its schema."""
    write_run(tmp_path / "telemetry", run_id=RUN)
    out = tmp_path / "profile.json"
    outcome = planner("calibrate", tmp_path / "telemetry", *P4D, "--out", out, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("calibrate").read_text(encoding="utf-8")))
    profile = Profile.model_validate_json(out.read_text(encoding="utf-8"))
    assert document["profile"] == profile.model_dump(mode="json")
    measured = {row["name"]: (row["mean"], row["n"]) for row in document["measured"]}
    assert measured["step_seconds"][0] == pytest.approx(36.0)
    assert measured["stall_seconds"] == (4.0, 3)
    assert measured["persist_seconds"] == (90.0, 3)
    assert measured["startup_seconds"] == (400.0, 3)
    assert measured["emergency_seconds"] == (70.0, 1)
    assert (profile.interruptions, profile.notices, profile.notices_acted_on) == (2, 1, 1)
    assert (profile.instance, profile.zone, profile.lost_steps) == ("p4d.24xlarge", "use1-az2", 20)
    rate = document["rate"]
    assert rate["rate_per_hour"] == pytest.approx(2.5 / profile.exposure_hours)
    assert rate["low_per_hour"] < rate["rate_per_hour"] < rate["high_per_hour"]
    assert {row["name"] for row in document["missing"]} >= {"boot_seconds", "persist_slowdown"}


def test_the_next_recommendation_says_measured(planner: Planner, tmp_path: Path) -> None:
    """recommend --profile: the assumptions name n; the durations are the measured ones; the rate is the profile's."""
    write_run(tmp_path / "telemetry", run_id=RUN)
    out = tmp_path / "profile.json"
    assert planner("calibrate", tmp_path / "telemetry", *P4D, "--out", out).code == 0
    arguments = ("--work-hours", "20", "--runs", "300", "--profile", out, "--json")
    outcome = planner("recommend", *P4D, *arguments, "--emit", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    rows = {row["name"]: row for row in document["assumptions"]}
    assert rows["stall_seconds"]["value"] == pytest.approx(4.0)
    assert rows["stall_seconds"]["source"].startswith(f"measured, n=3: harness telemetry of {RUN}")
    assert rows["startup_seconds"]["value"] == pytest.approx(550.0)
    assert "boot 150 s" in rows["startup_seconds"]["source"]
    assert rows["checkpoint_gib"]["value"] == pytest.approx(50.0)
    assert "measured, n=2 reclaims" in rows["rate_per_hour"]["source"]
    # One success, with the assumed 0.95 as one more notice.
    assert rows["notice_success"]["value"] == pytest.approx(1.95 / 2)
    assert document["recommendation"]["hazard"] == "profile"
    assert document["recommendation"]["interval_steps"] is not None
    # Measured steps are for show: the run follows what it measures itself.
    interval = load_run_config(tmp_path / "run" / "harness.yaml").checkpoint.interval
    assert (interval.steps, interval.retune) == (None, True)


def test_a_cpu_rehearsal_is_not_taken_for_a_p4d(planner: Planner, tmp_path: Path) -> None:
    """Asked for, it is refused; and a plan for a p4d uses nothing that was measured on CPUs."""
    write_run(tmp_path / "telemetry", run_id=RUN, device="cpu")
    refused = planner("calibrate", tmp_path / "telemetry", "--instance", "p4d.24xlarge")
    assert refused.code == 2
    assert "--instance: got 'p4d.24xlarge'" in refused.err
    out = tmp_path / "profile.json"
    assert planner("calibrate", tmp_path / "telemetry", "--out", out).code == 0
    arguments = ("--work-hours", "20", "--runs", "300", "--profile", out, "--json")
    found = json.loads(planner("recommend", *P4D, "--checkpoint-gib", "50", *arguments).out)
    best, rows = found["recommendation"], {row["name"]: row for row in found["assumptions"]}
    assert "profile-of-other-instance" in best["flags"]
    assert best["hazard"] != "profile"
    assert best["interval_steps"] is None
    assert rows["notice_success"]["value"] == 0.95
    assert not [row for row in rows.values() if "telemetry of" in row["source"]]
    unsized = planner("recommend", *P4D, *arguments)
    assert unsized.code == 2
    assert "the profile's 50 GiB were measured on cpu" in unsized.err


def test_steps_are_those_of_the_fleet_that_was_measured() -> None:
    """Another number of nodes, or another type, takes other steps."""
    catalogue = load_catalogue()
    profile = Profile(
        run_ids=(RUN,), created_wall_time=1.79e9, nodes=1, instance="p4d.24xlarge", step_seconds=Measurement.of([36.0])
    )
    p4d = catalogue.instance("p4d.24xlarge")
    assert measured_step_seconds(profile, p4d, 1) == 36.0
    assert measured_step_seconds(profile, p4d, 2) is None
    assert measured_step_seconds(profile, catalogue.instance("p3.16xlarge"), 1) is None


def test_what_a_reclaimed_node_wrote_is_read_from_the_durable_target(planner: Planner, tmp_path: Path) -> None:
    """Only the bucket has every attempt; the disk that is here lacks the later ones, and that is said."""
    config = tmp_path / "run" / "harness.yaml"
    config.parent.mkdir()
    paths = {"checkpoint": {"directory": "local", "remote": "bucket", "interval": {"seconds": 60.0}}}
    config.write_text(json.dumps({"run_id": RUN, **paths, "telemetry": {"directory": "telemetry"}}), encoding="utf-8")
    bucket = tmp_path / "run" / "bucket" / RUN / "telemetry"
    write_run(bucket, run_id=RUN)
    (whole,) = bucket.glob("node-*.jsonl")
    survivor = tmp_path / whole.name
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    survivor.write_text("".join(line for line in lines if '"attempt-1"' in line), encoding="utf-8")

    def read(*places: object) -> tuple[int, int, bool]:
        found = json.loads(planner("calibrate", *places, "--json").out)
        told = any("what reclaimed nodes wrote may be missing" in note for note in found["notes"])
        return found["profile"]["interruptions"], found["profile"]["notices"], told

    assert read(survivor) == (1, 0, True)
    assert read("--config", config) == (2, 1, False)
    assert read(survivor, "--config", config) == (2, 1, False)
    assert planner("calibrate").code == 2


def test_runs_are_pooled_only_when_asked(planner: Planner, tmp_path: Path) -> None:
    """Two runs are an error; with --pool counts add up."""
    write_run(tmp_path / "one", run_id="run-one")
    write_run(tmp_path / "two", run_id="run-two", lost_at=(), noticed_at=())
    mixed = planner("calibrate", tmp_path)
    assert mixed.code == 2
    assert "runs run-one, run-two" in mixed.err
    both = json.loads(planner("calibrate", tmp_path, "--pool", "--json").out)
    assert both["run_ids"] == ["run-one", "run-two"]
    assert both["profile"]["interruptions"] == 2
    assert both["profile"]["stall_seconds"]["n"] == 6


def test_pooled_measurements_are_those_of_all_observations() -> None:
    """Mean and spread to rounding."""
    one, two = [1.0, 2.0, 4.0], [10.0, 20.0]
    pooled, whole = pool_measurements([Measurement.of(one), None, Measurement.of(two)]), Measurement.of(one + two)
    assert pooled is not None
    assert whole is not None
    assert pooled.model_dump() == pytest.approx(whole.model_dump())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "telemetry: got"),
        ('{"schema_version": 2}\n', "expected at most 1"),
        (
            (
                '{"schema_version": 0, "event": "finished", "wall_time": 1, "monotonic_seconds": 1, "run_id": "r", '
                '"attempt_id": "a", "node": 0, "rank": 0, "step": 1, "world_size": 1}\n'
            ),
            "expected version 1",
        ),
        ("not json\n", "expected a JSON object on every line"),
        ("", "expected a run that has started"),
    ],
)
def test_bad_telemetry_is_one_line(planner: Planner, tmp_path: Path, content: str | None, says: str) -> None:
    """Nothing there, another version, no JSON, nothing started; no profile is left behind."""
    if content is not None:
        (tmp_path / "node-0000-ab.jsonl").write_text(content, encoding="utf-8")
    outcome = planner("calibrate", tmp_path, "--out", tmp_path / "profile.json")
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "profile.json").exists()
