"""A link reproduces a plan; what cannot be used is named and replaced where everybody sees it."""

from __future__ import annotations

import pytest

from harness.errors import InvalidInputError
from planner.catalogue import Catalogue, load_catalogue
from planner.views.link import (
    ASSUME,
    EXAMPLE,
    Query,
    changed,
    edited,
    fields_by_key,
    resolve,
    with_assumption,
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def test_an_empty_link_is_the_example_without_corrections(catalogue: Catalogue) -> None:
    """Nothing given: the example, and no complaint."""
    link = resolve((), catalogue)
    assert dict(link.query) == EXAMPLE
    assert link.corrections == ()


def test_a_link_gives_back_itself(catalogue: Catalogue) -> None:
    """What is used can be sent on and means the same."""
    query: Query = (
        ("instance", "p4d.24xlarge"),
        ("work-hours", "40"),
        ("checkpoint-gib", "8"),
        ("zone", "use1-az6"),
        ("rate-per-hour", "0.3"),
        ("notice-success", "0.5"),
        ("objective", "time"),
        ("run-id", "mine"),
        ("show-run", "7"),
        ("compare", "sizes"),
        ("target", "slurm"),
        (ASSUME, "boot_seconds=60"),
    )
    once = resolve(query, catalogue)
    again = resolve(once.query, catalogue)
    assert once.corrections == again.corrections == ()
    assert once.query == again.query
    assert {key: again.completed[key] for key in ("job.work_hours", "fleet.zone", "market.rate_per_hour")} == {
        "job.work_hours": 40.0,
        "fleet.zone": "use1-az6",
        "market.rate_per_hour": 0.3,
    }
    assert again.objective.name == "time"
    only_looks = {"run-id", "show-run", "compare", "target"}
    assert again.question == tuple(pair for pair in again.query if pair[0] not in only_looks)
    assert again.knowledge.assumptions.value("boot_seconds") == 60.0


@pytest.mark.parametrize(
    ("key", "value", "used", "in_sentence"),
    [
        ("work-hours", "many", "100", "finite number"),
        ("work-hours", "-3", "100", "greater than 0"),
        ("work-hours", "nan", "100", "finite number"),
        ("nodes", "2.5", None, "whole number"),
        ("nodes", "0", None, "greater than or equal to 1"),
        ("instance", "p4d.24xlage", "p4d.24xlarge", "p4d.24xlarge is used instead"),
        ("zone", "use1-az99", None, "did you mean"),
        ("region", "us-esat-1", None, "us-east-1"),
        ("hazard", "articel", None, "article"),
        ("policy", "gredy", None, "greedy"),
        ("policy", "greedy", None, "deadline"),
        ("objective", "deadline", None, "deadline-hours"),
        ("nots", "3", None, "left out"),
        ("lifetime-file", "/etc/passwd", None, "left out"),
        ("provision-file", "/etc/passwd", None, "left out"),
        ("profile", "/etc/passwd", None, "left out"),
        (ASSUME, "boot_seconds=soon", None, "a number"),
        (ASSUME, "boot_secnods=5", None, "boot_seconds"),
        (ASSUME, "nvme_striped=7", None, "0 (no) or 1 (yes)"),
        ("interval-seconds", "0", None, "auto"),
        ("seed", "1" * 300, None, "whole number"),
        ("show-run", "20000", None, "a run from 0 to 19999"),
        ("show-run", "-1", None, "a run from 0"),
        ("compare", "zone", None, "zones"),
        ("target", "kubernets", None, "kubernetes"),
    ],
)
def test_a_bad_value_is_named_and_replaced(
    catalogue: Catalogue, key: str, value: str, used: str | None, in_sentence: str
) -> None:
    """One correction that says key, value, what would be right; the rest of the link stands."""
    link = resolve((("checkpoint-gib", "7"), (key, value)), catalogue)
    (correction,) = link.corrections
    assert correction.key.split()[0] == key
    assert correction.value[:5] in value
    assert in_sentence in correction.sentence
    assert dict(link.query).get(key) == used
    assert dict(link.query)["checkpoint-gib"] == "7"


def test_several_bad_values_are_all_named(catalogue: Catalogue) -> None:
    """No correction hides another."""
    link = resolve((("nodes", "x"), ("work-hours", "y"), ("zone", "nowhere"), ("foo", "1")), catalogue)
    assert {row.key for row in link.corrections} == {"nodes", "work-hours", "zone", "foo"}


def test_values_that_do_not_go_together_are_named(catalogue: Catalogue) -> None:
    """Each value is fine alone; together they are no fleet."""
    link = resolve((("nodes", "2"), ("min-nodes", "5")), catalogue)
    assert [row.key for row in link.corrections] == ["min-nodes"]


def test_of_a_repeated_key_the_last_value_counts_and_it_is_said(catalogue: Catalogue) -> None:
    """Two values for one key are a mistake that is seen."""
    link = resolve((("nodes", "2"), ("nodes", "3")), catalogue)
    assert dict(link.query)["nodes"] == "3"
    assert [row.value for row in link.corrections] == ["2"]


def test_a_type_without_any_rate_is_an_error_and_not_a_guess(catalogue: Catalogue) -> None:
    """No correction can invent an interruption rate."""
    with pytest.raises(InvalidInputError, match="rate"):
        resolve((("instance", "p5e.48xlarge"),), catalogue)


def test_no_key_of_a_link_names_a_file() -> None:
    """Whoever sends a link must not make the receiver's machine read a path."""
    assert not {key for key, field in fields_by_key().items() if "file" in key or "file" in field.path}


def test_editing_a_query(catalogue: Catalogue) -> None:
    """Setting, replacing and taking out."""
    query = changed((("nodes", "2"),), {"nodes": "4", "seed": "9"})
    assert dict(query) == {"nodes": "4", "seed": "9"}
    assert changed(query, {"seed": None}) == (("nodes", "4"),)
    query = with_assumption(query, "boot_seconds", "10")
    query = with_assumption(query, "boot_seconds", "20")
    assert [pair for pair in query if pair[0] == ASSUME] == [(ASSUME, "boot_seconds=20")]
    assert with_assumption(query, "boot_seconds", None) == (("nodes", "4"), ("seed", "9"))
    assert "fleet.nodes" in edited(resolve(query, catalogue))
