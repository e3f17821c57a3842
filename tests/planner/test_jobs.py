"""`recommend --jobs`: each job's best place, and what they cost together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from harness.config import load_run_config
from planner.documents import schema_path
from planner.jobs import SharedRate, sums_of
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
FAST = ("--runs", "500", "--interval-seconds", "1800")
SMALL = "{work_hours: 20, checkpoint_gib: 50}"
JOBS = f"""
- name: small
  job: {SMALL}
  fleet: {{instance: p4d.24xlarge, zone: use1-az2}}
- name: twin
  job: {SMALL}
  fleet: {{instance: p4d.24xlarge, zone: use1-az2}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two jobs that differ in their names only."""
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS)
    return path


def test_jobs_add_up_and_do_not_share_their_luck(planner: Planner, file: Path) -> None:
    """Each job is what its own simulation says, with all runs; the sum's mean and error are those of their runs.

    The runs of both are the same, so the error of the sum is twice that of one; its spread is that of jobs that meet
    their own fates, about 1.41 times that of one (2 times with shared fates).
    """
    outcome = planner("recommend", "--jobs", str(file), *FAST, "--budget-usd", "10000", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    jsonschema.validate(found, json.loads(schema_path("jobs").read_text(encoding="utf-8")))
    assert [job["name"] for job in found["jobs"]] == ["small", "twin"]
    alone = ("--instance", "p4d.24xlarge", "--zone", "use1-az2", "--work-hours", "20", "--checkpoint-gib", "50")
    one = json.loads(planner("simulate", *alone, *FAST, "--json").out)["cost_usd"]
    jobs = [job["recommendation"] for job in found["jobs"]]
    assert [job["cost_usd"] for job in jobs] == [pytest.approx(one)] * 2
    total = found["total"]
    assert total["cost_usd"]["mean"] == pytest.approx(2 * one["mean"])
    assert total["cost_usd"]["standard_error"] == pytest.approx(2 * one["standard_error"])
    spread = (total["cost_usd"]["p95"] - total["cost_usd"]["p5"]) / (one["p95"] - one["p5"])
    assert 1.2 < spread < 1.7
    assert total["on_demand_cost_usd"] == pytest.approx(sum(job["on_demand_cost_usd"] for job in jobs))
    assert total["budget_probability"]["mean"] == 1.0
    assert {job["recommendation"]["budget_probability"] for job in found["jobs"]} == {None}


def test_jobs_of_one_source_share_its_uncertain_rate() -> None:
    """Four costs 100 u + 50 v: u is the rate's, the same for jobs of one source; v is each job's own luck.

    The variance of a sum is exact: 16 parts of u for jobs of one source, 4 for jobs of sources of their own.  Sample
    standard deviations of 20,000 sums are within 3 % (six standard errors: fails one time in 10^8) and the two differ
    by more than 70 %.  That the jobs' runs have one v, as common random numbers do, must not show.
    """
    generator = np.random.default_rng(5)
    u, v = generator.random(20_000), generator.random(20_000)
    costs = [100.0 * u + 50.0 * v] * 4

    def deviation(rates: list[SharedRate | None]) -> float:
        sums = sums_of(costs, rates, np.random.default_rng(6))
        assert sums.mean() == pytest.approx(4.0 * costs[0].mean())
        return float(sums.std())

    of_u, of_v = 100.0**2 / 12.0, 50.0**2 / 12.0
    apart = (4.0 * of_u + 4.0 * of_v) ** 0.5
    assert deviation([SharedRate("log", u)] * 4) == pytest.approx((16.0 * of_u + 4.0 * of_v) ** 0.5, rel=0.03)
    assert deviation([SharedRate(name, u) for name in "abcd"]) == pytest.approx(apart, rel=0.03)
    assert deviation([None] * 4) == pytest.approx(apart, rel=0.03)


def test_one_table_for_all_jobs(planner: Planner, file: Path) -> None:
    """A row per job, the sum first, the budget's probability, 80 columns."""
    outcome = planner("recommend", "--jobs", str(file), *FAST, "--budget-usd", "1")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("2 jobs: $")
    assert "Together at most $1.00 with a probability of <0.1%." in outcome.out
    assert {line.split()[0] for line in lines if "p4d.24xlarge" in line} >= {"small", "twin"}
    assert max(len(line.rstrip()) for line in lines) <= 80


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- name: a\n  job: {work_hour: 3}\n", "jobs.yaml: job a: job.work_hour: "),
        ("- name: a\n  jobs: {work_hours: 3}\n", "jobs.yaml: job a: jobs: "),
        ("- name: a\n  job: {work_hours: -3}\n", "jobs.yaml: job a: job.work_hours: "),
        ("- name: a\n  fleet: {instance: p4d.24xlarge}\n", "jobs.yaml: job a: --work-hours: got 'nothing'"),
        (f"- name: a\n  job: {SMALL}\n  fleet: {{instance: p4d.24xlarg}}\n", "jobs.yaml: job a: fleet.instance: "),
        ("- job: {work_hours: 3}\n", "jobs.yaml: job 1: name: got 'nothing'"),
        ("- name: a\n- name: a\n", "jobs.yaml: job 2: name: got 'a'"),
        ("- 5\n", "jobs.yaml: job 1: got "),
        ("job: {work_hours: 3}\n", "jobs.yaml: got "),
        ("", "jobs.yaml: got "),
    ],
)
def test_mistakes_name_the_job(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    """One line, exit 2, with the job's name and the key."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.yaml").write_text(text)
    outcome = planner("recommend", "--jobs", "jobs.yaml", *FAST)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"planner: {named}"), outcome.err


@pytest.mark.parametrize("flag", [("--emit-all", "out"), ("--show-config",), ("--step-seconds", "2")])
def test_flags_about_one_job_are_refused(planner: Planner, file: Path, flag: tuple[str, ...]) -> None:
    """What can only mean one job is not silently ignored."""
    outcome = planner("recommend", "--jobs", str(file), *flag)
    assert outcome.code == 2
    assert outcome.err.startswith(f"planner: {flag[0]}: ")
    assert planner("recommend", str(file), "--jobs", str(file)).code == 2


def test_emit_writes_a_folder_for_each_job(planner: Planner, file: Path, tmp_path: Path) -> None:
    """Named like the job, each with a run id of its own, so that two jobs of one place never meet."""
    outcome = planner("recommend", "--jobs", str(file), "--emit", str(tmp_path / "out"), "--runs", "200")
    assert outcome.code == 0, outcome.err
    configs = {folder.name: load_run_config(folder / "harness.yaml") for folder in (tmp_path / "out").iterdir()}
    assert {name: config.run_id for name, config in configs.items()} == {"small": "small", "twin": "twin"}
