"""`planner data check`: the shipped tables pass, and each kind of damage is found where it is."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import planner
from planner.commands.data import command
from planner.data_check import check_data
from tests.planner.tables_helper import copy_tables, replace_once

TODAY = date(2026, 11, 24)


def test_shipped_tables_are_sound() -> None:
    """No errors, no warnings, and every provider is there."""
    report = check_data(today=TODAY)
    assert report.findings == ()
    assert set(report.instances) == {"aws", "gcp", "azure"}
    assert sum(report.instances.values()) == report.rows["instances.csv"]


@pytest.mark.parametrize(
    ("table", "old", "new", "severity", "expected"),
    [
        ("prices.csv", "aws,p4d.24xlarge,", "aws,p4d.24xlargo,", "error", "did you mean 'p4d.24xlarge'"),
        ("prices.csv", "21.957642", "-1", "error", ">= 1e-06"),
        ("prices.csv", "use1-az1,spot,2.5084", "use1-az1,spot,99", "warning", "use1-az1: spot 99 is above on-demand"),
        ("prices.csv", "2026-07-20", "2031-01-01", "error", "2031-01-01 lies in the future"),
        ("prices.csv", ",use1-az2,spot,8.0553", ",use1-az1,spot,8.0553", "error", "a row not given before"),
        ("prices.csv", ",us-east-1,,on-demand", ",us-east-1,use1-az1,on-demand", "error", "the zone must be empty"),
        ("instances.csv", "p4d.24xlarge,A100-40GB", "p4d.24xlarge,A100-41GB", "error", "did you mean 'A100-40GB'"),
        ("spot_advisor.csv", "aws,p4d.24xlarge,", "aws,p9.24xlarge,", "error", "p9.24xlarge is not in instances.csv"),
        ("interruption_rates.csv", "0.31,0.74", "0.74,0.31", "error", "lower end is above"),
        ("interruption_rates.csv", "0.15,0.15", "0.15,", "error", "neither a rate nor a probability"),
        (
            "lifetimes.csv",
            "aws,p3.2xlarge,us-east-1",
            "aws,p9.2xlarge,us-east-1",
            "error",
            "neither a type nor a family",
        ),
        ("lifetimes.csv", "shape=0.93062 ", "form=0.93062 ", "error", "the parameters shape, scale_hours"),
        ("provision_waits.csv", "0.1625 0.1625", "0.1625 soon", "error", "separated by blanks"),
        (
            "provision_waits.csv",
            "a3-highgpu-1g,us-central1",
            "a3-highgpu-1x,us-central1",
            "error",
            "a3-highgpu-1x is not",
        ),
        ("assumptions.csv", "boot_seconds,150", "boot_seconds,fast", "error", "expected a finite number"),
    ],
)
def test_damage_is_found(tmp_path: Path, table: str, old: str, new: str, severity: str, expected: str) -> None:
    """One finding, of the right severity, with the line of the damage."""
    line = replace_once(copy_tables(tmp_path) / table, old, new)
    report = check_data(tmp_path, today=TODAY)
    (finding,) = [found for found in report.findings if expected in found.message]
    assert finding.severity == severity
    assert f"{table} line {line}" in finding.where or "not given before" in expected
    assert bool(report.errors) is (severity == "error")
    assert (report.instances == {}) is (severity == "error")


def test_missing_source_is_found(tmp_path: Path) -> None:
    """A row that does not say where it comes from is an error."""
    path = copy_tables(tmp_path) / "accelerators.csv"
    line = replace_once(path, "torchtitan get_peak_flops; winston-zhang-orz/gpu-specs specs.md", "")
    (finding,) = check_data(tmp_path, today=TODAY).errors
    assert finding.where.endswith(f"accelerators.csv line {line}, column source")


def test_all_damage_is_reported_at_once(tmp_path: Path) -> None:
    """A person fixing a table sees every problem, not the first."""
    path = copy_tables(tmp_path) / "prices.csv"
    replace_once(path, "21.957642", "-1")
    replace_once(path, "8.0553", "cheap")
    (tmp_path / "spot_advisor.csv").unlink()
    assert len(check_data(tmp_path, today=TODAY).errors) == 3


def test_command_prints_counts_and_json(tmp_path: Path) -> None:
    """Exit 0 and one JSON document for sound tables; exit 2 for damaged ones, which are still reported in full."""
    sound = CliRunner().invoke(command, ["check", "--json"])
    document = json.loads(sound.stdout)
    assert (sound.exit_code, document["schema_version"], document["ok"], document["errors"]) == (0, 1, True, [])
    assert document["rows"]["prices.csv"] > 2000
    text = CliRunner().invoke(command, ["check"])
    assert "Nothing to put right." in text.stdout
    replace_once(copy_tables(tmp_path) / "prices.csv", "21.957642", "-1")
    damaged = CliRunner().invoke(command, ["check", "--json", "--directory", str(tmp_path)])
    assert damaged.exit_code == 2
    schema = json.loads((Path(planner.__file__).parent / "schemas" / "data-check.json").read_text(encoding="utf-8"))
    for found in (document, json.loads(damaged.stdout)):
        jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    assert "prices.csv line" in json.loads(damaged.stdout)["errors"][0]["where"]
    shown = CliRunner().invoke(command, ["check", "--directory", str(tmp_path)])
    assert (shown.exit_code, "1 to put right." in shown.stdout) == (2, True)
