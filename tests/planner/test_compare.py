"""Types and fleets for one job: scaling, memory, objectives, the Pareto set, ties, and the command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.errors import InvalidInputError
from planner.assumptions import Assumption
from planner.catalogue import load_catalogue
from planner.cautions import unpriced_storage
from planner.compare import Comparison, compare
from planner.completion import Knowledge, Value, complete
from planner.documents import schema_path
from planner.evaluate import Candidate, broad_effort, evaluate
from planner.hazard_source import LOG_OF_UNNAMED_TYPE, counted_source
from planner.layers import Layered, layer
from planner.ranking import Objective, best_of, is_starred, pareto_set, ranked
from planner.selection import Wanted, select
from planner.speed import ESTIMATED_SPEED, Reference, Workload
from simulator.statistics import Proportion
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
CATALOGUE = load_catalogue()
KNOWLEDGE = Knowledge(CATALOGUE, CATALOGUE.assumptions)
P4D, P5, P4DE = (CATALOGUE.instance(name) for name in ("p4d.24xlarge", "p5.48xlarge", "p4de.24xlarge"))
JOB = ("--work-hours", "100", "--checkpoint-gib", "50")


def workload(**changes: Any) -> Workload:
    """100 h on two p4d.24xlarge with 500 GiB of state."""
    made = Workload(100.0, 500.0, Reference(P4D, 2, assumed=False), {})
    return dataclasses.replace(made, **changes)


def scenario(**sections: dict[str, Any]) -> Layered:
    """A job without a fleet."""
    return layer({"job": {"work_hours": 100, "checkpoint_gib": 50}, **sections}, "s.yaml", {})


def test_the_reference_fleet_takes_the_stated_hours() -> None:
    """Nothing is estimated there."""
    assert workload().on(CATALOGUE, P4D, 2) == (100.0, False)


def test_other_types_scale_by_peak_dense_tflops_and_are_estimates() -> None:
    """H100 989 against A100 312, eight each."""
    hours, estimated = workload().on(CATALOGUE, P5, 2)
    assert hours == pytest.approx(100.0 * 312.0 / 989.0)
    assert estimated


def test_more_nodes_are_faster_by_their_power() -> None:
    """(nodes / reference nodes)^scaling."""
    hours, estimated = workload(scaling=0.9).on(CATALOGUE, P4D, 8)
    assert hours == pytest.approx(100.0 / 4.0**0.9)
    assert estimated


def test_measured_throughputs_replace_the_estimate() -> None:
    """Only where both figures are there."""
    measured = workload(throughputs={"p4d.24xlarge": 10.0, "p5.48xlarge": 25.0})
    assert measured.on(CATALOGUE, P5, 2) == (pytest.approx(40.0), False)
    one = workload(throughputs={"p5.48xlarge": 25.0}).on(CATALOGUE, P5, 2)
    assert one == workload().on(CATALOGUE, P5, 2)


def test_a_type_without_tflops_is_refused_with_the_way_out() -> None:
    """A10G's figure is disputed and left empty: never guessed."""
    reason = workload().on(CATALOGUE, CATALOGUE.instance("g5.48xlarge"), 1)
    assert isinstance(reason, str)
    assert "--throughput" in reason


def test_state_that_does_not_fit_is_refused() -> None:
    """500 GiB: too much for 8 x 40 GiB, not for two of them, nor for 8 x 80 GiB."""
    job = workload()
    refusal = job.memory_refusal(CATALOGUE, P4D, 1)
    assert refusal == "state of 500 GiB does not fit into 8 x 40 GiB = 320 GiB: it takes 2 nodes"
    assert job.memory_refusal(CATALOGUE, P4D, 2) is None
    assert job.memory_refusal(CATALOGUE, P4DE, 1) is None


def test_state_must_fit_into_the_fewest_nodes_of_an_elastic_fleet() -> None:
    """913 GiB: two p5 hold it, and may not go on with one."""
    job = {"work_hours": 300, "checkpoint_gib": 913}

    def places(**nodes: int) -> int:
        fleet = {"instance": "p5.48xlarge", **nodes}
        return len(select(scenario(job=job, fleet=fleet), KNOWLEDGE, Wanted()).places)

    assert places(nodes=2) == places(nodes=4, min_nodes=2) > 0
    with pytest.raises(InvalidInputError, match="down to 1 of 2 nodes, state of 913 GiB does not fit into 8 x 80 GiB"):
        places(nodes=2, min_nodes=1)


def test_selection_of_an_accelerator_assumes_a_reference_and_says_so() -> None:
    """Without --reference the fastest type stands for the work hours, as a stated assumption."""
    selection = select(scenario(), KNOWLEDGE, Wanted(accelerator="A100:8"))
    assert selection.several_types
    assert {place.instance.accelerator_count for place in selection.places} == {8}
    assert selection.assumptions
    assert "--reference" in selection.assumptions[0].source


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted(), "--reference"),
        (Wanted(accelerator="A1000:8"), "--accelerator"),
        (Wanted(accelerator="A100:x"), "--accelerator"),
        (Wanted(accelerator="A100:8", reference="p4d.24xlarg"), "--reference"),
        (Wanted(accelerator="A100:8", reference="p4d.24xlarge:0"), "--reference"),
        (Wanted(accelerator="A100:8", throughputs=("p4d.24xlarge",)), "--throughput"),
        (Wanted(accelerator="A100:8", throughputs=("p4d.24xlarg=3",)), "--throughput"),
    ],
)
def test_bad_selections_name_their_flag(wanted: Wanted, field: str) -> None:
    """Unknown types, accelerators and figures."""
    with pytest.raises(InvalidInputError) as caught:
        select(scenario(), KNOWLEDGE, wanted)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def a100s() -> tuple[Candidate, ...]:
    """Every AWS fleet of one or two nodes with eight A100s."""
    layered = scenario(fleet={"provider": "aws"})
    selection = select(layered, KNOWLEDGE, Wanted(accelerator="A100:8", reference="p4d.24xlarge", node_counts=(1, 2)))
    return evaluate(layered, KNOWLEDGE, selection.places, effort=broad_effort()).candidates


def test_the_wanted_standard_error_is_reached(a100s: tuple[Candidate, ...]) -> None:
    """At most 0.5 % of the mean cost, with as few runs as that takes."""
    assert len(a100s) > 40
    for candidate in a100s:
        assert candidate.cost_usd.standard_error <= 0.005 * candidate.cost_usd.mean
    assert min(len(candidate.runs) for candidate in a100s) < 2000


def test_two_nodes_halve_the_work_and_are_marked(a100s: tuple[Candidate, ...]) -> None:
    """Scaling is an estimate; the reference fleet is not."""
    for candidate in a100s:
        if candidate.nodes == 2:
            assert candidate.completed["job.work_hours"] == 50.0
            assert ESTIMATED_SPEED in candidate.flags
    assert any(ESTIMATED_SPEED not in candidate.flags for candidate in a100s if candidate.offer.instance == P4D.name)


def test_no_candidate_beats_a_member_of_the_pareto_set(a100s: tuple[Candidate, ...]) -> None:
    """Checked against the definition, pair by pair; everything outside is beaten by somebody."""
    chosen = pareto_set(a100s)
    sound = [candidate for candidate in a100s if not is_starred(candidate)]

    def beats(a: Candidate, b: Candidate) -> bool:
        ours, theirs = (a.cost_usd.mean, a.makespan_hours.mean), (b.cost_usd.mean, b.makespan_hours.mean)
        return ours[0] <= theirs[0] and ours[1] <= theirs[1] and ours != theirs

    assert len(chosen) >= 2
    for candidate in sound:
        dominated = any(beats(other, candidate) for other in sound)
        same = any(
            (c.cost_usd.mean, c.makespan_hours.mean) == (candidate.cost_usd.mean, candidate.makespan_hours.mean)
            for c in chosen
        )
        assert dominated != same


def test_objectives(a100s: tuple[Candidate, ...]) -> None:
    """Time ranks by makespan; a deadline keeps the cheapest of those that meet it, else the likeliest."""
    fastest = ranked(a100s, Objective("time"))[0]
    assert fastest.makespan_hours.mean == min(candidate.makespan_hours.mean for candidate in a100s)
    assert fastest.nodes == 2

    def with_chance(candidate: Candidate, chance: float) -> Candidate:
        return dataclasses.replace(candidate, deadline_probability=Proportion(chance, chance, chance))

    cheap, *_, dear = (candidate for candidate in ranked(a100s) if not is_starred(candidate))
    wanted = Objective("deadline", 0.9)
    assert best_of([with_chance(cheap, 0.5), with_chance(dear, 0.95)], wanted).offer == dear.offer  # type: ignore[union-attr]
    assert best_of([with_chance(cheap, 0.91), with_chance(dear, 0.99)], wanted).offer == cheap.offer  # type: ignore[union-attr]
    assert best_of([with_chance(cheap, 0.2), with_chance(dear, 0.3)], wanted).offer == dear.offer  # type: ignore[union-attr]


def test_a_log_that_names_no_type_is_flagged_where_several_are_compared() -> None:
    """It speaks for both types, and every candidate says so; alone, a type needs no warning."""
    own = counted_source("own-logs", 1, 35.0, "your log one.csv", "2026-11-24")
    known = dataclasses.replace(KNOWLEDGE, own=own)
    simulation = {"runs": 100}

    def compared(wanted: Wanted, **fleet: str) -> Comparison:
        layered = scenario(fleet={"region": "us-east-1", "provider": "aws", **fleet}, simulation=simulation)
        return compare(layered, known, select(layered, known, wanted))

    both = compared(Wanted(accelerator="A100:8"))
    assert len({candidate.offer.instance for candidate in both.candidates}) > 1
    assert all(LOG_OF_UNNAMED_TYPE in candidate.flags for candidate in both.candidates)
    assert any("your log does not say of which type" in warning for warning in both.warnings)
    alone = compared(Wanted(), instance="p4d.24xlarge")
    assert not any(LOG_OF_UNNAMED_TYPE in candidate.flags for candidate in alone.candidates)


def test_storage_without_a_known_price_is_said_beside_storage_with_one(a100s: tuple[Candidate, ...]) -> None:
    """A place is not cheaper for what no table knows."""
    assert unpriced_storage(a100s) == ()
    one = a100s[0]
    values = dict(one.completed.values)
    free = Assumption("usd_per_gib_month", 0.0, "", "no storage price is known here", "")
    values["storage.usd_per_gib_month"] = Value("storage.usd_per_gib_month", 0.0, "assumption", free)
    elsewhere = dataclasses.replace(
        one,
        completed=dataclasses.replace(one.completed, values=values),
        offer=dataclasses.replace(one.offer, provider="gcp"),
    )
    (said,) = unpriced_storage((*a100s, elsewhere))
    assert said.startswith("no storage price is known of gcp: checkpoints cost nothing there, unlike on aws;")


def test_compare_prints_a_table_and_a_document(planner: Planner) -> None:
    """Narrow, plain, marked; the document matches its schema and is ranked."""
    arguments = ("compare", "--accelerator", "A100:8", "--provider", "aws", "--reference", "p4d.24xlarge", *JOB)
    text = planner(*arguments, "--node-counts", "1,2")
    assert text.code == 0, text.err
    assert text.out.startswith("Cheapest: ")
    assert text.out.isascii()
    assert max(len(line) for line in text.out.splitlines()) <= 80
    assert "~ speed estimated, not measured" in text.out
    document = json.loads(planner(*arguments, "--json").out)
    jsonschema.validate(document, json.loads(schema_path("compare").read_text(encoding="utf-8")))
    costs = [candidate["cost_usd"]["mean"] for candidate in document["candidates"]]
    assert costs == sorted(costs)
    assert document["reference"] == "1 x p4d.24xlarge"


def test_recommend_any_type_with_an_accelerator(planner: Planner) -> None:
    """The best of several types is looked at again with all runs, and explained."""
    outcome = planner(
        "recommend", "--accelerator", "H100", "--provider", "aws", "--nodes", "2", "--work-hours", "300",
        "--checkpoint-gib", "913", "--runs", "1000", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    jsonschema.validate(document, json.loads(schema_path("recommend").read_text(encoding="utf-8")))
    best = document["recommendation"]
    assert (best["instance"], best["nodes"], best["runs"]) == ("p5.48xlarge", 2, 1000)
    assert best["emergency_fits"] is False
    assert any(row["instance"] == "p5.4xlarge" and "does not fit" in row["reason"] for row in document["rejected"])


def test_min_max_nodes_is_an_elastic_fleet(planner: Planner) -> None:
    """As torchrun has it: MIN:MAX."""
    outcome = planner("simulate", "--instance", "p4d.24xlarge", *JOB, "--nodes", "2:4", "--show-config", "--json")
    rows = {row["field"]: row["value"] for row in json.loads(outcome.out)["config"]}
    assert (rows["fleet.min_nodes"], rows["fleet.nodes"]) == (2, 4)
    assert rows["fleet.detect_seconds"] > 0.0
    assert planner("simulate", *JOB, "--nodes", "4:2").code == 2


def test_a_compared_fleet_below_the_smallest_is_rigid() -> None:
    """2:4 nodes beside counts of 1 and 4; a contradiction of the fleet's own size stays one."""
    layered = scenario(fleet={"instance": "p4d.24xlarge", "nodes": 4, "min_nodes": 2})
    assert [complete(layered, KNOWLEDGE, nodes=nodes)["fleet.min_nodes"] for nodes in (1, 4)] == [1, 2]


@pytest.mark.parametrize(
    "flags",
    [
        ("--rate-per-hour", "0.1", "--hazard", "article"),
        ("--rate-per-hour", "0.1", "--interruption-log", "log.csv"),
        ("--deadline-hours", "110", "--deadline-probability", "0.9"),
        ("--throughput", "p4d.24xlarge=3"),
        ("--nodes", "2:4", "--min-nodes", "3"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(
    planner: Planner, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken and left unused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("lifetime_hours,end_event\n5,preempted\n", encoding="utf-8")
    outcome = planner("recommend", "--instance", "p4d.24xlarge", *JOB, *flags)
    assert outcome.code == 2
    assert outcome.err.startswith(f"planner: {flags[-2]}: got ")


def test_a_variable_of_the_environment_may_be_meant_for_other_commands(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused as a flag is not as a variable, and a flag beats one."""
    monkeypatch.setenv("PLANNER_HAZARD", "article")
    monkeypatch.setenv("PLANNER_MIN_NODES", "3")
    outcome = planner("simulate", *JOB, "--instance", "p4d.24xlarge", "--nodes", "2:4", "--rate-per-hour", "0.1",
                      "--show-config", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    rows = {row["field"]: row["value"] for row in json.loads(outcome.out)["config"]}
    assert rows["fleet.min_nodes"] == 2


def test_a_place_where_the_job_hardly_advances_is_rejected(planner: Planner) -> None:
    """Among several fleets nothing is simulated for ever: those that lose a node every few minutes are refused."""
    arguments = (
        "compare", "--accelerator", "V100:4", "--provider", "aws", "--reference", "p3.8xlarge", *JOB, "--bulk", "0",
        "--json",
    )  # fmt: skip
    outcome = planner(*arguments, "--node-counts", "1,8", "--rate-per-hour", "1")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert {row["nodes"] for row in document["candidates"]} == {1}
    reason = "interrupted so often that the job hardly advances"
    assert {row["nodes"] for row in document["rejected"] if row["reason"] == reason} == {8}
    nothing = planner(*arguments, "--node-counts", "8", "--rate-per-hour", "1")
    assert nothing.code == 2
    assert nothing.err.startswith("planner: --work-hours: ")
