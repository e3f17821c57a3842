"""Uploaded scenarios: what is exported is read back, what cannot be used is refused, no path is ever followed."""

from __future__ import annotations

import pytest

from harness.errors import InvalidInputError
from planner.catalogue import load_catalogue
from planner.views.export import scenario_yaml
from planner.views.link import changed, resolve
from planner.views.plan import Plan
from planner.views.upload import MOST_BYTES, scenario_query


def test_an_exported_scenario_comes_back_as_the_same_question(plan: Plan) -> None:
    """Every value of it, through the file and back."""
    given = {
        "nodes": "3",
        "min-nodes": "2",
        "first-hour-refund": "false",
        "rate-per-hour": "0.1",
        "interval-seconds": "auto",
        "provision-distribution": "exponential",
        "provision-mean-hours": "0.3333333333333333",
        "notice-success": "0.5",
    }
    link = resolve(changed(plan.link.query, given), load_catalogue())
    assert link.corrections == ()
    again = resolve(scenario_query("scenario.yaml", scenario_yaml(plan.best, link).encode()), load_catalogue())
    assert again.corrections == ()
    expected = link.layered.scenario.model_dump()
    offer = plan.best.offer
    expected["fleet"] |= {"provider": offer.provider, "region": offer.region, "zone": offer.zone}
    assert again.layered.scenario.model_dump() == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"job: [", "valid YAML"),
        (b"[" * 3000, "valid YAML"),
        (b"- 1", "mapping of sections"),
        (b"", "mapping of sections"),
        (b"job: {work_hour: 3}", "work_hours"),
        (b"job: {work_hours: many}", "a number"),
        (b"job: &a {work_hours: 3}\nfleet: *a", "aliases"),
        (b"!!python/object/apply:os.system [id]", "valid YAML"),
        (b"market: {lifetime: {distribution: trace, file: /etc/passwd}}", "instead of a file"),
        (b"x" * (MOST_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_scenario_is_refused_in_a_sentence(data: bytes, message: str) -> None:
    """Named and with what would be right."""
    with pytest.raises(InvalidInputError, match=message):
        scenario_query("mine.yaml", data)
