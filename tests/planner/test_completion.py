"""What a scenario leaves out is filled from tables or stated assumptions; what it says goes into the Spec unchanged."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.errors import InvalidInputError
from planner.catalogue import load_catalogue
from planner.completion import Completed, Knowledge, complete
from planner.layers import layer
from simulator.lifetimes import Bathtub, Exponential, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision
from simulator.spec import PriceSeries, Spec

CATALOGUE = load_catalogue()
FULL: dict[str, Any] = {
    "job": {"work_hours": 100, "checkpoint_gib": 50, "deadline_hours": 130},
    "fleet": {
        "provider": "aws", "instance": "p4d.24xlarge", "region": "us-east-1", "zone": "use1-az2", "nodes": 4,
        "min_nodes": 2, "scaling": 0.9, "detect_seconds": 15, "rendezvous_seconds": 20, "bulk": 0.1,
    },
    "market": {
        "spot_usd_per_hour": 8.0,
        "on_demand_usd_per_hour": 21.96,
        "first_hour_refund": True,
        "lifetime": {"distribution": "exponential", "rate_per_hour": 0.1625, "events": 3, "exposure_hours": 20},
        "provision": {"distribution": "constant", "hours": 0.1},
    },
    "notice": {"seconds": 120, "success": 0.9},
    "checkpoint": {
        "interval_seconds": 1800, "stall_seconds": 5, "persist_seconds": 60, "emergency_seconds": 65,
        "persist_slowdown": 0.05, "corruption": 0.01, "keep_last": 4,
    },
    "restart": {"startup_seconds": 300},
    "storage": {"usd_per_gib_month": 0.023, "usd_per_1000_puts": 0.005, "usd_per_1000_gets": 0.0004, "shards": 2},
    "policy": {"name": "spot-only", "decision_seconds": 90},
    "simulation": {"runs": 1000, "seed": 7},
}  # fmt: skip


def completed(document: dict[str, Any]) -> Completed:
    """A document with its gaps filled from the bundled tables."""
    return complete(layer(document, "s.yaml", {}), Knowledge(CATALOGUE, CATALOGUE.assumptions))


def test_a_full_scenario_reaches_the_simulator_unchanged() -> None:
    """Units are converted, nothing else; nothing is assumed."""
    result = completed(FULL)
    assert result.to_spec() == Spec(
        work_hours=100.0,
        checkpoint_gib=50.0,
        deadline_hours=130.0,
        nodes=4,
        min_nodes=2,
        scaling=0.9,
        detect_hours=15 / 3600,
        rendezvous_hours=20 / 3600,
        bulk=0.1,
        price=PriceSeries.constant(8.0),
        on_demand_usd_per_hour=21.96,
        first_hour_refund=True,
        lifetime=Exponential(0.1625),
        provision=ConstantProvision(0.1),
        notice_hours=120 / 3600,
        notice_success=0.9,
        interval_hours=0.5,
        stall_hours=5 / 3600,
        persist_hours=60 / 3600,
        emergency_hours=65 / 3600,
        persist_slowdown=0.05,
        corruption=0.01,
        keep_last=4,
        startup_hours=300 / 3600,
        storage_usd_per_gib_month=0.023,
        usd_per_1000_puts=0.005,
        usd_per_1000_gets=0.0004,
        shards=2,
        policy="spot-only",
        decision_hours=90 / 3600,
        rate_events=3.0,
        rate_exposure_hours=20.0,
    )
    assert (result.runs, result.seed) == (1000, 7)
    own = {value.path for value in result.values.values() if value.assumption is not None}
    assert own == set()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"probability_per_hour": 0.15, "distribution": "exponential"}, Exponential(-math.log1p(-0.15))),
        ({"distribution": "exponential", "events": 2, "exposure_hours": 10}, Exponential(0.25)),
        ({"distribution": "weibull", "shape": 0.6, "scale_hours": 3}, Weibull(0.6, 3.0)),
        (
            {"distribution": "bathtub", "a": 0.45, "tau1_hours": 1, "b_hours": 24, "tau2_hours": 0.8, "cap_hours": 24},
            Bathtub(0.45, 1.0, 24.0, 0.8, 24.0),
        ),
    ],
)
def test_lifetimes(given: dict[str, Any], expected: object) -> None:
    """Every way to state a lifetime; events alone give (events + 1/2)/exposure."""
    assert completed({**FULL, "market": {**FULL["market"], "lifetime": given}}).to_spec().lifetime == expected


def test_exponential_provision() -> None:
    """A provision wait by its mean."""
    market = {**FULL["market"], "provision": {"distribution": "exponential", "mean_hours": 0.5}}
    assert completed({**FULL, "market": market}).to_spec().provision == ExponentialProvision(0.5)


def test_gaps_are_filled_from_tables_and_stated_assumptions() -> None:
    """An instance, the work and a size are enough; each filled value names its source."""
    result = completed({"job": {"work_hours": 10, "checkpoint_gib": 50}, "fleet": {"instance": "P4D.24xlarge"}})
    assert result["fleet.instance"] == "p4d.24xlarge"
    assert result["fleet.provider"] == "aws"
    assert result.wants_optimum
    assert result.derived is not None
    assert result["checkpoint.stall_seconds"] == result.derived.stall_seconds
    assert result["market.first_hour_refund"] is True
    assert result["notice.seconds"] == 120.0
    assert result["storage.usd_per_gib_month"] == pytest.approx(0.023 * 1.073741824)
    assert result["storage.shards"] == 8
    by_name = {row.name: row for row in result.assumptions}
    for name in ("spot_usd_per_hour", "on_demand_usd_per_hour", "rate_per_hour", "stall_seconds", "notice_success"):
        assert by_name[name].source, name
    assert len(by_name) == len(result.assumptions), "an assumption is listed twice"


def test_a_price_that_looks_wrong_is_not_the_default() -> None:
    """Without a zone, the cheapest price that is not far below its siblings is taken."""
    result = completed(
        {"job": {"work_hours": 10, "checkpoint_gib": 5}, "fleet": {"instance": "p4d.24xlarge", "region": "us-east-1"}}
    )
    assert result["fleet.zone"] == "use1-az6"


def test_given_stall_and_persist_decide_the_emergency_save() -> None:
    """An emergency save is heard of, agreed on, and then takes what a checkpoint takes."""
    checkpoint = {"stall_seconds": 10, "persist_seconds": 20, "interval_seconds": 600}
    result = completed({"job": {"work_hours": 1}, "fleet": {"instance": "p4d.24xlarge"}, "checkpoint": checkpoint})
    poll = CATALOGUE.assumptions.value("notice_poll_seconds")
    agreement = CATALOGUE.assumptions.value("notice_agreement_seconds")
    assert result["checkpoint.emergency_seconds"] == poll + agreement + 30.0


def test_without_an_instance_the_durations_are_enough() -> None:
    """A scenario of plain numbers needs no table."""
    document = {
        "job": {"work_hours": 10},
        "market": {"spot_usd_per_hour": 1.0, "lifetime": {"distribution": "exponential", "rate_per_hour": 0.1}},
        "checkpoint": {"interval_seconds": 600, "stall_seconds": 5, "persist_seconds": 0},
        "restart": {"startup_seconds": 60},
    }
    result = completed(document)
    spec = result.to_spec()
    assert (spec.notice_hours, spec.first_hour_refund, spec.on_demand_usd_per_hour) == (0.0, False, 0.0)
    assert {row.name for row in result.assumptions} >= {"notice_seconds", "provision_hours", "emergency_seconds"}


def test_several_nodes_assume_correlated_losses() -> None:
    """One node has nobody to lose with it; more nodes have, as the traces show."""
    document = {"job": {"work_hours": 10, "checkpoint_gib": 5}, "fleet": {"instance": "p4d.24xlarge", "nodes": 1}}
    assert completed(document)["fleet.bulk"] == 0.0
    document["fleet"]["nodes"] = 4  # type: ignore[index]
    assert completed(document)["fleet.bulk"] == 0.13


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fleet": {"nodes": 2, "min_nodes": 3}}, "s.yaml: fleet.min_nodes"),
        ({"policy": {"name": "greedy"}}, "job.deadline_hours"),
    ],
)
def test_values_that_do_not_go_together(change: dict[str, Any], field: str) -> None:
    """The simulator's own checks come back in the user's words."""
    document = {"job": {"work_hours": 10, "checkpoint_gib": 5}, "fleet": {"instance": "p4d.24xlarge"}}
    for section, values in change.items():
        document[section] = {**document.get(section, {}), **values}
    with pytest.raises(InvalidInputError) as caught:
        completed(document).to_spec(interval_hours=1.0)
    assert caught.value.field == field
