"""Waits for capacity: which source is used, and that the shipped table is what the traces say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement, Profile
from planner import provision_waits as module
from planner.assumptions import load_assumptions
from planner.catalogue import load_catalogue
from planner.provision_waits import load_provision_waits, provision_sources
from planner.traces.files import load_trace
from simulator.provision import ConstantProvision, EmpiricalProvision, ExponentialProvision
from tests.planner.tables_helper import copy_tables, replace_once

CATALOGUE = load_catalogue()
TRACES = Path(__file__).parents[3] / "shared" / "traces"


def names(instance: str, region: str | None) -> list[str]:
    """The sources' names, best first."""
    return [source.name for source in provision_sources(CATALOGUE.instance(instance), region)]


def test_region_then_pool_then_assumption() -> None:
    """A region with its own waits, one without, and a type that no trace knows."""
    assert names("p3.2xlarge", "us-west-2") == ["waits:aws-v100-2023-02-us-west-2", "assumption"]
    assert names("p3.2xlarge", "eu-west-1") == ["waits:aws-v100-2023-02-nine-zones", "assumption"]
    assert names("p4d.24xlarge", "us-east-1") == ["assumption"]


def test_other_sizes_with_the_accelerator_are_estimates() -> None:
    """a3-highgpu-8g waits like its smallest size did, flagged; the pool, since capacity differs by size."""
    (found, assumed) = provision_sources(CATALOGUE.instance("a3-highgpu-8g"), "us-central1")
    assert (found.name, found.flags) == ("waits:gcp-h100-2025-10-thirteen-zones", (module.ESTIMATE,))
    assert isinstance(found.provision, EmpiricalProvision)
    assert found.mean_hours == pytest.approx(found.provision.expected_hours)
    assert assumed.flags == (module.ASSUMED,)
    assert set(found.flags + assumed.flags) <= set(module.FLAGS)


def test_assumption_follows_the_user() -> None:
    """An overridden provision_hours is what the last source says, with its origin."""
    stated = load_assumptions().with_overrides({"provision_hours": 2.0})
    (assumed,) = provision_sources(CATALOGUE.instance("p4d.24xlarge"), None, assumptions=stated)
    assert (assumed.provision, assumed.source) == (ConstantProvision(2.0), "given by the user")


def test_score_is_geometric_and_an_assumption() -> None:
    """Score s: requests succeed with probability (s - 1/2) / 10, a quarter of an hour apart; one row above the last."""
    for score in (1, 3, 10):
        (found, assumed) = provision_sources(CATALOGUE.instance("p4d.24xlarge"), "us-east-1", score=score)
        success = (score - 0.5) / 10
        # Geometric: 1/p - 1 retries on average; the tail of 0.001 that is cut off can take away up to its own mean.
        exact = 0.1 + 0.25 * (1 / success - 1)
        assert exact * 0.99 <= found.mean_hours <= exact
        assert found.provision.wait_hours(success * 0.999) == pytest.approx(0.1)
        assert (found.name, found.flags, assumed.name) == ("placement-score", (module.CONVERTED,), "assumption")
        assert f"{score} of 10" in found.source
        assert "assumption" in found.source
    # Measured waits of the same type say more than a rank.
    measured = provision_sources(CATALOGUE.instance("p3.2xlarge"), "us-west-2", score=9)
    assert [row.name for row in measured] == ["waits:aws-v100-2023-02-us-west-2", "placement-score", "assumption"]


def test_own_log_comes_first(tmp_path: Path) -> None:
    """A log of waits is what the plan waits; a log of lifetimes alone says nothing about waits."""
    log = tmp_path / "waits.csv"
    log.write_text("wait_hours\n0.5\n0.1\n0.3\n0.3\n0.8\n")
    own = module.own_waits_source(log)
    assert own is not None
    assert own.mean_hours == pytest.approx(0.4)
    assert own.waits == 5
    assert not own.flags
    assert provision_sources(CATALOGUE.instance("p3.2xlarge"), "us-west-2", own=own)[0] is own
    lives = tmp_path / "lives.csv"
    lives.write_text("lifetime_hours,end_event\n2.0,reclaimed\n3.0,reclaimed\n")
    assert module.own_waits_source(lives) is None


@pytest.mark.parametrize(("n", "first"), [(5, "profile"), (4, "waits:aws-v100-2023-02-us-west-2")])
def test_measured_replacements_are_less_the_boot(n: int, first: str) -> None:
    """870 s from loss to the new launcher, 150 s of it boot: 0.2 h; a handful of them does not outrank 394 waits."""
    seconds = Measurement(mean=870.0, n=n, standard_deviation=1.0, minimum=869.0, maximum=871.0)
    profile = Profile(run_ids=("r",), created_wall_time=0.0, instance="p3.2xlarge", replacement_seconds=seconds)
    found = provision_sources(CATALOGUE.instance("p3.2xlarge"), "us-west-2", profile=profile)
    assert found[0].name == first
    (mine,) = [row for row in found if row.name == "profile"]
    assert mine.provision == ExponentialProvision(0.2)
    assert provision_sources(CATALOGUE.instance("p4d.24xlarge"), None, profile=profile)[0].name == "assumption"


def test_damaged_waits_are_bad_input(tmp_path: Path) -> None:
    """A word, or a negative wait: file, line and column."""
    for old, new in (("0.1625 0.1625", "0.1625 soon"), ("0.1625 0.1625", "0.1625 -1")):
        line = replace_once(copy_tables(tmp_path) / "provision_waits.csv", old, new)
        with pytest.raises(InvalidInputError, match=f"provision_waits.csv line {line}, column hours"):
            load_provision_waits(tmp_path)
        module._waits.cache_clear()


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not on this machine")
@pytest.mark.parametrize(
    ("folder", "inverted", "prefix", "pool", "region_of"),
    [
        ("aws_v100_1node_2023-02-15", False, "aws-v100-2023-02", "nine-zones", r"(.*-\d)[a-z]_"),
        ("gcp_h100_16_simready_2025-10", True, "gcp-h100-2025-10", "thirteen-zones", r"(.*)-[a-z]_"),
    ],
)
def test_shipped_waits_are_those_of_the_traces(
    folder: str, inverted: bool, prefix: str, pool: str, region_of: str
) -> None:
    """Count, mean, share of time with capacity, and the quartiles between groups, from the files anew."""
    waits: dict[str, list[float]] = {pool: []}
    available: dict[str, list[bool]] = {pool: []}
    for path in sorted((TRACES / folder).glob("*_*.json")):
        trace = load_trace(path, inverted=inverted)
        match = re.match(region_of, path.name)
        assert match
        assert trace.capacity
        for key in (match.group(1), pool):
            waits.setdefault(key, []).extend(trace.waits_hours)
            available.setdefault(key, []).extend((trace.capacity.counts > 0).tolist())
    shipped = [row for row in load_provision_waits() if row.name.startswith(f"waits:{prefix}")]
    assert len(shipped) >= 4
    for row in shipped:
        key = row.name.removeprefix(f"waits:{prefix}-")
        assert row.waits == len(waits[key])
        assert row.mean_hours == pytest.approx(np.mean(waits[key]), rel=2e-3)
        assert row.available_fraction == pytest.approx(np.mean(available[key]), abs=1e-3)
        for quarter in (0.25, 0.5, 0.75):
            low, high = np.quantile(waits[key], [quarter - 0.03, quarter + 0.03])
            assert low * 0.999 <= row.provision.wait_hours(quarter) <= high * 1.001
