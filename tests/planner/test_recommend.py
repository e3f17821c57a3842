"""The main question, end to end, offline, from the bundled tables."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from planner.breakeven import BreakEven
from planner.catalogue import load_catalogue
from planner.completion import Completed, Knowledge, complete
from planner.documents import schema_path
from planner.evaluate import Candidate, evaluate, on_demand
from planner.influence import influences
from planner.layers import Layered, layer
from planner.places import Place, Rejected, find_places
from planner.ranking import best_of, cannot_be_told, if_real, ranked
from planner.robust import robust_interval
from planner.sensitivity import other_hazards
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
JOB = ("--instance", "p4d.24xlarge", "--work-hours", "100", "--checkpoint-gib", "50", "--runs", "2000")
CATALOGUE = load_catalogue()
KNOWLEDGE = Knowledge(CATALOGUE, CATALOGUE.assumptions)
P4D: dict[str, Any] = {
    "job": {"work_hours": 100, "checkpoint_gib": 50},
    "fleet": {"instance": "p4d.24xlarge"},
    "simulation": {"runs": 2000, "seed": 1},
}


def found_places(document: dict[str, Any]) -> tuple[Layered, list[Place], list[Rejected]]:
    """A scenario with its places."""
    layered = layer(document, "s.yaml", {})
    instance = CATALOGUE.instance(document["fleet"]["instance"])
    places, rejected = find_places(CATALOGUE, layered, [instance], [document["fleet"].get("nodes", 1)])
    return layered, places, rejected


@pytest.fixture(scope="module")
def p4d() -> tuple[Layered, list[Place], tuple[Candidate, ...]]:
    """All p4d.24xlarge zones as candidates."""
    layered, places, _ = found_places(P4D)
    return layered, places, evaluate(layered, KNOWLEDGE, places).candidates


def test_the_answer_comes_first_and_the_document_matches_its_schema(planner: Planner) -> None:
    """Text for a person, JSON for a script, from the same numbers."""
    text = planner("recommend", *JOB)
    assert text.code == 0
    first = text.out.split("\n\n")[0].replace("\n", " ")
    for word in ("Rent 1 x p4d.24xlarge spot in ", "save every ", "(P50)", "(P95)", "on demand", "saved."):
        assert word in first
    assert max(len(line) for line in text.out.splitlines()) <= 80
    assert all(line == line.rstrip() or "  " in line for line in first.splitlines())
    assert text.out.isascii()
    outcome = planner("recommend", *JOB, "--json")
    document = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("recommend").read_text(encoding="utf-8")))
    best = document["recommendation"]
    assert f"{best['zone']} ({best['region']})" in first
    assert document["complete"] is True
    assert (document["runs"], document["seed"]) == (2000, 1)
    assert document["candidates"][0]["cost_usd"]["mean"] == min(c["cost_usd"]["mean"] for c in document["candidates"])
    assert [row["reason"] for row in document["rejected"]]
    assert {"spot_usd_per_hour", "rate_per_hour", "stall_seconds"} <= {row["name"] for row in document["assumptions"]}
    assert all(row["source"] for row in document["assumptions"])
    assert document["sensitivity"], "no other source of interruption rates is compared"


def test_an_odd_price_does_not_decide_the_headline(p4d: tuple[Layered, list[Place], tuple[Candidate, ...]]) -> None:
    """use1-az1 at 2.51 beside 8 is starred: cheapest of all, and not recommended."""
    _, _, candidates = p4d
    order, best = ranked(candidates), best_of(candidates)
    assert best is not None
    assert order[0].offer.zone == "use1-az1"
    assert best.offer.zone != "use1-az1"
    assert best is order[1]
    odd = if_real(candidates, best)
    assert odd is not None
    assert odd.offer.zone == "use1-az1"


def test_zones_without_a_discount_are_rejected_with_the_reason() -> None:
    """Nine zones of p4d.24xlarge cost as much on spot as on demand; three regions have no spot price."""
    _, places, rejected = found_places(P4D)
    reasons: dict[str, int] = {}
    for row in rejected:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1
    assert reasons == {"no discount: spot costs as much as on-demand": 9, "spot price missing": 3}
    assert len(places) == 20


def test_sharing_fates_between_zones_changes_no_number(p4d: tuple[Layered, list[Place], tuple[Candidate, ...]]) -> None:
    """A zone priced from shared runs costs, run by run, what its own simulation says (rule 7 with constant prices)."""
    _, _, candidates = p4d
    for candidate in (candidates[0], candidates[-1]):
        own = simulate(candidate.spec, runs=2000, seed=1)
        np.testing.assert_allclose(candidate.costs, own.cost_usd, rtol=1e-12)
        assert candidate.makespan_hours.mean == pytest.approx(float(own.makespan_hours.mean()), rel=1e-12)


def test_the_best_interval_beats_its_neighbours(p4d: tuple[Layered, list[Place], tuple[Candidate, ...]]) -> None:
    """Halving and doubling the interval costs more on the same fates, beyond three standard errors."""
    _, _, candidates = p4d
    candidate = candidates[0]
    for factor in (0.25, 4.0):
        other = dataclasses.replace(candidate.spec, interval_hours=candidate.interval.hours * factor)
        extra = simulate(other, runs=2000, seed=1).cost_usd - candidate.costs
        assert extra.mean() > 3.0 * extra.std(ddof=1) / np.sqrt(extra.size)


def completed_p4d(**sections: dict[str, Any]) -> Completed:
    """p4d.24xlarge in use1-az2 with changes."""
    document = {**P4D, "fleet": {"instance": "p4d.24xlarge", "zone": "use1-az2"}, **sections}
    return complete(layer(document, "s.yaml", {}), KNOWLEDGE)


def test_on_demand_is_arithmetic() -> None:
    """Startup, work and one final checkpoint at the on-demand price of every node; no wait."""
    completed = completed_p4d(
        fleet={"instance": "p4d.24xlarge", "zone": "use1-az2", "nodes": 2},
        checkpoint={"stall_seconds": 36, "persist_seconds": 72},
        restart={"startup_seconds": 360},
        storage={"usd_per_1000_puts": 0.0},
    )
    result = on_demand(completed)
    assert result.makespan_hours == pytest.approx(100.0 + 0.1 + 0.03, rel=1e-12)
    assert result.cost_usd == pytest.approx(2 * 21.957642 * 100.13, rel=1e-9)


def one_candidate(document: dict[str, Any]) -> Candidate:
    """The only candidate of a scenario that names its zone."""
    layered, places, _ = found_places(document)
    (candidate,) = evaluate(layered, KNOWLEDGE, places).candidates
    return candidate


NO_REFUND: dict[str, Any] = {
    **P4D,
    "fleet": {"instance": "p4d.24xlarge", "zone": "use1-az2"},
    "market": {"first_hour_refund": False, "lifetime": {"distribution": "exponential", "rate_per_hour": 0.2}},
}


def test_at_the_break_even_rate_spot_costs_what_on_demand_costs() -> None:
    """Simulated anew at the reported rate with its own best interval, cost is within 2 % of on-demand.

    The rate comes from at least 4 runs of thousands of interruptions each, interpolated on a grid of 19 % steps.
    """
    candidate = one_candidate(NO_REFUND)
    rate = BreakEven().rate_per_hour(candidate)
    assert rate is not None
    assert rate > 1.0
    market = {"first_hour_refund": False, "lifetime": {"distribution": "exponential", "rate_per_hour": rate}}
    there = one_candidate({**NO_REFUND, "market": market, "simulation": {"runs": 200, "seed": 5}})
    assert there.on_demand.cost_usd is not None
    assert there.cost_usd.mean == pytest.approx(there.on_demand.cost_usd, rel=0.02)


def test_break_even_does_not_hang_on_where_the_grid_of_rates_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0.043/h a whole doubling leads from below the crossing (12/h) to where the job is too slow (15/h)."""
    market = {"first_hour_refund": False, "lifetime": {"distribution": "exponential", "rate_per_hour": 0.043}}
    candidate = one_candidate({**NO_REFUND, "market": market, "simulation": {"runs": 20, "seed": 1}})
    assert candidate.on_demand.cost_usd is not None
    affordable_hours = candidate.on_demand.cost_usd / candidate.spot_usd_per_hour

    def simulated(_spec: Spec, _base: float, rate: float) -> tuple[float, float, float] | None:
        return None if rate > 15.0 else (affordable_hours * rate / 12.0, 0.0, 0.0)

    monkeypatch.setattr(BreakEven, "_simulate", staticmethod(simulated))
    assert BreakEven().rate_per_hour(candidate) == pytest.approx(12.0, rel=0.01)


def test_break_even_lies_below_the_assumed_rate_where_spot_is_already_dearer() -> None:
    """A spot price close to on-demand with many interruptions: only rarer ones would make it worth it."""
    market = {**NO_REFUND["market"], "spot_usd_per_hour": 21.8}
    candidate = one_candidate({**NO_REFUND, "market": market})
    assert candidate.savings_fraction is not None
    assert candidate.savings_fraction < 0.0
    rate = BreakEven().rate_per_hour(candidate)
    assert rate is not None
    assert rate < 0.2


def test_the_whole_bill_is_in_the_cost() -> None:
    """Disks and the rendezvous host by the hour, the transfer once, the discount on on-demand: all by hand."""
    bill = {
        "on_demand_discount": 0.25, "rendezvous_usd_per_hour": 0.5, "disk_gib": 730.0, "disk_usd_per_gib_month": 0.1,
        "transfer_gib": 100.0, "transfer_usd_per_gib": 0.02, "budget_usd": 900.0,
    }  # fmt: skip
    plain = one_candidate({**NO_REFUND, "checkpoint": {"interval_seconds": 1800}})
    billed = one_candidate({**NO_REFUND, "checkpoint": {"interval_seconds": 1800}, "bill": bill})
    runs = plain.runs
    np.testing.assert_allclose(
        billed.costs, plain.costs + 0.5 * runs.makespan_hours + 0.1 * runs.billed_hours + 2.0, rtol=1e-12
    )
    hours = plain.on_demand.makespan_hours
    assert plain.on_demand.cost_usd is not None
    assert billed.on_demand.cost_usd == pytest.approx(
        plain.on_demand.cost_usd - 0.25 * 21.957642 * hours + 0.1 * hours + 2.0
    )
    assert billed.within_budget is not None
    assert billed.within_budget.mean == pytest.approx(float(np.mean(billed.costs <= 900.0)))
    assert billed.dearer_than_on_demand is not None
    assert billed.dearer_than_on_demand.mean == 0.0


def test_the_robust_interval_is_no_worse_than_the_plans_own() -> None:
    """Its worst regret is least by construction, and both are regrets."""
    layered, places, _ = found_places({**P4D, "fleet": {"instance": "p4d.24xlarge", "zone": "use1-az2"}})
    (best,) = evaluate(layered, KNOWLEDGE, places).candidates
    found = robust_interval(best, other_hazards(layered, KNOWLEDGE, places, best, [best]))
    assert found is not None
    assert 0.0 <= found.worst_regret_fraction <= found.plan_worst_regret_fraction


def test_ties_are_paired() -> None:
    """The same place twice is a tie; a price a percent higher on the same fates is not."""
    document = {**P4D, "fleet": {"instance": "p4d.24xlarge", "zone": "use1-az2"}}
    candidate = one_candidate(document)
    assert cannot_be_told(candidate, dataclasses.replace(candidate))
    dearer = dataclasses.replace(candidate, costs=candidate.costs * 1.01)
    assert not cannot_be_told(candidate, dearer)


def test_influences_find_what_matters(p4d: tuple[Layered, list[Place], tuple[Candidate, ...]]) -> None:
    """Doubling the price doubles the cost; notices that never work cost more and finish later."""
    best = best_of(p4d[2])
    assert best is not None
    rows = {row.name: row for row in influences(best)}
    assert rows["spot_usd_per_hour"].cost_fraction == pytest.approx(1.0, abs=0.01)
    assert rows["notice_success"].cost_fraction > 0.0
    assert rows["notice_success"].makespan_hours > 0.0
    assert rows["startup_seconds"].makespan_hours > 0.5
    assert rows["first_hour_refund"].cost_fraction > 0.0
    assert rows["first_hour_refund"].makespan_hours == 0.0


def test_a_counted_rate_is_doubled_with_all_that_is_not_known_of_it() -> None:
    """One reclaim in 35 hours: twice the rate is twice as many interruptions, whichever rate each run has drawn."""
    lifetime = {"distribution": "exponential", "events": 1, "exposure_hours": 35}
    best = one_candidate({**NO_REFUND, "market": {**NO_REFUND["market"], "lifetime": lifetime}})
    row = next(row for row in influences(best) if row.name == "rate_per_hour")
    beyond_work = best.makespan_hours.mean - best.completed["job.work_hours"]
    assert row.makespan_hours == pytest.approx(beyond_work, rel=0.3)
    assert row.cost_fraction > 0.003


def test_other_sources_recommend_their_own_and_regret_is_never_negative(
    p4d: tuple[Layered, list[Place], tuple[Candidate, ...]],
) -> None:
    """The plan is compared with the best under each other source: the best of them by definition."""
    layered, places, candidates = p4d
    best = best_of(candidates)
    assert best is not None
    rows = other_hazards(layered, KNOWLEDGE, places, best, candidates)
    assert len(rows) >= 3
    for row in rows:
        assert row.regret_fraction >= 0.0
        assert row.best_cost_usd <= row.plan_cost_usd
    rates = [row.rate_per_hour for row in rows]
    assert max(rates) / min(rates) > 100.0


def test_a_deadline_gets_a_probability_with_its_interval(planner: Planner) -> None:
    """Wilson's interval surrounds the share of runs that meet it."""
    outcome = planner("recommend", *JOB, "--zone", "use1-az2", "--deadline-hours", "104", "--json")
    chance = json.loads(outcome.out)["recommendation"]["deadline_probability"]
    assert 0.0 < chance["low"] < chance["mean"] < chance["high"] < 1.0
    assert "with a probability of" in planner("recommend", *JOB, "--zone", "use1-az2", "--deadline-hours", "104").out


def test_where_spot_is_dearer_the_answer_is_on_demand(planner: Planner) -> None:
    """The first words say so."""
    outcome = planner(
        "recommend", *JOB, "--zone", "use1-az2", "--spot-usd-per-hour", "21", "--rate-per-hour", "0.5",
        "--no-first-hour-refund",
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.out.startswith("Rent on demand, not spot")


def test_steps_are_given_where_their_length_is_known(planner: Planner) -> None:
    """Interval ÷ step time, rounded."""
    outcome = planner("recommend", *JOB, "--zone", "use1-az2", "--step-seconds", "2.5", "--json")
    best = json.loads(outcome.out)["recommendation"]
    assert best["interval_steps"] == round(best["interval_seconds"] / 2.5)


def test_the_users_own_log_is_the_best_source(planner: Planner, tmp_path: Path) -> None:
    """A log of lifetimes replaces the tables' rates."""
    log = tmp_path / "log.csv"
    rows = "\n".join(f"{hours},reclaimed" for hours in (2.0, 3.0, 4.0, 5.0, 6.0))
    log.write_text(f"lifetime_hours,end_event\n{rows}\n", encoding="utf-8")
    outcome = planner("recommend", *JOB, "--zone", "use1-az2", "--interruption-log", str(log), "--json")
    best = json.loads(outcome.out)["recommendation"]
    assert best["hazard"] == "own-logs"
    assert best["rate_per_hour"] == pytest.approx(5.5 / 20.0)


def test_the_same_question_has_the_same_answer(planner: Planner) -> None:
    """Seeded: two runs print the same document."""
    arguments = ("recommend", *JOB, "--region", "us-west-2", "--json")
    assert planner(*arguments).out == planner(*arguments).out


def test_constant_price_specs_are_what_groups_share(p4d: tuple[Layered, list[Place], tuple[Candidate, ...]]) -> None:
    """All zones of one interruption rate share one simulation."""
    _, _, candidates = p4d
    assert len({id(candidate.runs) for candidate in candidates}) < len(candidates) / 3
    assert candidates[0].runs.spec.price == PriceSeries.constant(1.0)


def test_a_local_zone_says_that_it_is_one(planner: Planner) -> None:
    """The cheapest H100 is in Atlanta: few machines, and an on-demand price that may be another."""
    job = ("--instance", "p5.48xlarge", "--region", "us-east-1", "--work-hours", "10", "--checkpoint-gib", "50")
    document = json.loads(planner("recommend", *job, "--runs", "100", "--interval-seconds", "1800", "--json").out)
    assert document["recommendation"]["zone"] == "use1-atl2-az1"
    assert any("Local Zone" in warning for warning in document["warnings"])


def test_another_source_can_recommend_another_type(planner: Planner) -> None:
    """A100:8: p4de is cheaper while the article's rate holds for p4d; by the provider's band p4d is, and it says so.

    Without notices and with three hours to start, p4d's rate of 0.16 an hour costs more than p4de's higher price.
    """
    outcome = planner(
        "recommend", "--accelerator", "A100:8", "--reference", "p4d.24xlarge", "--provider", "aws", "--work-hours",
        "100", "--checkpoint-gib", "50", "--runs", "500", "--notice-success", "0", "--startup-seconds", "10800",
        "--stall-seconds", "300", "--no-first-hour-refund", "--json",
    )  # fmt: skip
    document = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("recommend").read_text(encoding="utf-8")))
    best = document["recommendation"]
    rows = {row["hazard"]: row for row in document["sensitivity"]}
    assert best["instance"] == "p4de.24xlarge"
    other = rows["spot-advisor-other-regions"]
    assert (other["instance"], other["knows_plan"]) == ("p4d.24xlarge", False)
    assert other["regret_fraction"] > 0.02
    assert other["plan_cost_usd"] == pytest.approx(best["cost_usd"]["mean"], rel=0.01)
    assert all(row["regret_fraction"] >= 0.0 for row in rows.values())
    assert any(re.search(r"needs 35\d s of the 120 s notice: it does not fit", row) for row in document["warnings"])


def test_nothing_is_cut_in_a_narrow_window_and_unknown_bandwidths_are_said(planner: Planner) -> None:
    """GCP's region names are long; at 80 columns they may be folded, but no cell loses a character."""
    job = ("--instance", "a2-highgpu-8g", "--rate-per-hour", "0.1", "--work-hours", "100", "--checkpoint-gib", "50")
    outcome = planner("recommend", *job, "--runs", "200")
    assert outcome.code == 0, outcome.err
    assert "…" not in outcome.out
    for whole in ("asia-northeast3", "europe-west4", "$1,410"):
        assert whole in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    assert "network bandwidth is in no table" in " ".join(outcome.out.split())


def test_other_waits_are_shown_where_they_matter(planner: Planner) -> None:
    """A p3 waits 2 h by its traces; the six minutes of the assumption would end the job much earlier, at its cost."""
    flags = ("--instance", "p3.2xlarge", "--work-hours", "50", "--checkpoint-gib", "2", "--region", "us-west-2")
    fast = ("--runs", "200", "--interval-seconds", "1800", "--json")
    document = json.loads(planner("recommend", *flags, *fast).out)
    (row,) = [row for row in document["influences"] if row["name"] == "provision_hours"]
    assert row["changed_to"] == "0.1 h"
    assert row["makespan_hours"] < -5.0
    assert "assumption" in row["source"]
    given = json.loads(planner("recommend", *flags, "--provision-hours", "1", *fast).out)
    assert {row["changed_to"] for row in given["influences"] if row["name"] == "provision_hours"} <= {"doubled"}
