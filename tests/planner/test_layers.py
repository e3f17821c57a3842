"""Flag over environment over file over default, each value with where it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidInputError
from planner import scenario as model
from planner.layers import FieldPath, Given, layer
from planner.options import scenario_fields
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]


def flag(value: Any, name: str = "--x") -> Given:
    """A value given as a flag."""
    return Given(value, name, "flag")


def variable(value: Any, name: str = "PLANNER_X") -> Given:
    """A value given in the environment."""
    return Given(value, name, "environment")


def test_file_values_are_kept_where_nothing_is_over_them() -> None:
    """A file alone is the scenario, and every value says so."""
    layered = layer({"job": {"work_hours": 3}}, "s.yaml", {})
    assert layered.scenario.job.work_hours == 3.0
    assert layered.origins == {("job", "work_hours"): "file s.yaml"}


def test_environment_beats_file_and_flag_beats_environment() -> None:
    """The order of precedence, with the origin of what won."""
    path: FieldPath = ("job", "work_hours")
    other: FieldPath = ("job", "checkpoint_gib")
    layered = layer(
        {"job": {"work_hours": 1.0, "checkpoint_gib": 1.0}}, "s.yaml", {path: flag(3.0), other: variable(2.0)}
    )
    assert (layered.scenario.job.work_hours, layered.scenario.job.checkpoint_gib) == (3.0, 2.0)
    assert layered.origins == {path: "flag --x", other: "environment PLANNER_X"}


LIFETIME: FieldPath = ("market", "lifetime")


@pytest.mark.parametrize(
    ("below", "over", "expected"),
    [
        # a rate alone is an exponential
        (None, {"rate_per_hour": 0.5}, model.ExponentialLifetime(rate_per_hour=0.5)),
        # the same distribution: key by key
        (
            {"distribution": "weibull", "shape": 1.0, "scale_hours": 2.0},
            {"shape": 0.6},
            model.WeibullLifetime(distribution="weibull", shape=0.6, scale_hours=2.0),
        ),
        # a probability replaces a rate
        (
            {"distribution": "exponential", "rate_per_hour": 1.0},
            {"probability_per_hour": 0.5},
            model.ExponentialLifetime(probability_per_hour=0.5),
        ),
        # another distribution replaces what is below
        (
            {"distribution": "weibull", "shape": 1.0, "scale_hours": 2.0},
            {"rate_per_hour": 0.5},
            model.ExponentialLifetime(rate_per_hour=0.5),
        ),
        # events go to the rate that is there
        (
            {"distribution": "exponential", "rate_per_hour": 1.0},
            {"events": 3.0, "exposure_hours": 4.0},
            model.ExponentialLifetime(rate_per_hour=1.0, events=3.0, exposure_hours=4.0),
        ),
    ],
)
def test_lifetimes_are_laid_over_each_other(
    below: dict[str, Any] | None, over: dict[str, float], expected: model.StrictModel
) -> None:
    """One distribution at a time: mixtures never arise."""
    document = {"market": {"lifetime": below}} if below else None
    layered = layer(document, "s.yaml", {(*LIFETIME, key): flag(value) for key, value in over.items()})
    assert layered.scenario.market.lifetime == expected


def test_a_replaced_lifetime_leaves_no_origins_behind() -> None:
    """Origins are of values that are still there."""
    document = {"market": {"lifetime": {"distribution": "weibull", "shape": 1.0, "scale_hours": 2.0}}}
    layered = layer(document, "s.yaml", {(*LIFETIME, "rate_per_hour"): flag(0.5)})
    assert set(layered.origins) <= {(*LIFETIME, "rate_per_hour"), (*LIFETIME, "distribution")}


def test_an_error_names_the_layer_that_the_value_came_from() -> None:
    """The same wrong value is the file's, the variable's or the flag's fault."""
    path: FieldPath = ("job", "work_hours")
    for document, given, field in (
        ({"job": {"work_hours": -1.0}}, {}, "s.yaml: job.work_hours"),
        (None, {path: variable(-1.0, "PLANNER_WORK_HOURS")}, "PLANNER_WORK_HOURS"),
        ({"job": {"work_hours": 1.0}}, {path: flag(-1.0, "--work-hours")}, "--work-hours"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            layer(document, "s.yaml" if document else None, given)
        assert caught.value.field == field


def test_a_flag_repairs_a_wrong_value_of_the_file() -> None:
    """Only what is used has to be right (the names of keys always)."""
    path: FieldPath = ("job", "work_hours")
    assert layer({"job": {"work_hours": "x"}}, "s.yaml", {path: flag(2.0)}).scenario.job.work_hours == 2.0


def test_the_input_document_is_not_changed() -> None:
    """Layering works on copies."""
    document = {"job": {"work_hours": 1.0}, "market": {"lifetime": {"distribution": "exponential", "rate_per_hour": 1}}}
    layer(document, "s.yaml", {("job", "work_hours"): flag(2.0), (*LIFETIME, "rate_per_hour"): flag(3.0)})
    assert document["job"] == {"work_hours": 1.0}
    assert document["market"] == {"lifetime": {"distribution": "exponential", "rate_per_hour": 1}}


def test_every_field_of_the_scenario_is_a_flag() -> None:
    """No field can only be set in a file, and no two fields share a flag or a variable."""
    fields = scenario_fields()
    expected = {
        (section, name)
        for section, info in model.Scenario.model_fields.items()
        for name in getattr(info.annotation, "model_fields", {})
        if name not in {"lifetime", "provision"}
    }
    assert expected <= {field.path for field in fields}
    flags = [name for field in fields for name in field.flags]
    assert len(flags) == len(set(flags))
    assert len({field.variable for field in fields}) == len(fields)


def test_show_config_says_where_each_value_came_from(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--show-config names flag, variable, file, data and assumption."""
    import json

    file = tmp_path / "s.yaml"
    file.write_text("job: {work_hours: 10, checkpoint_gib: 5}\nfleet: {instance: p4d.24xlarge}\n", encoding="utf-8")
    monkeypatch.setenv("PLANNER_SEED", "7")
    monkeypatch.setenv("PLANNER_NODES", "2")
    outcome = planner("simulate", str(file), "--nodes", "3", "--show-config", "--json")
    rows = {row["field"]: (row["value"], row["origin"]) for row in json.loads(outcome.out)["config"]}
    assert rows["job.work_hours"] == (10.0, f"file {file}")
    assert rows["simulation.seed"] == (7, "environment PLANNER_SEED")
    assert rows["fleet.nodes"] == (3, "flag --nodes")
    assert rows["fleet.provider"] == ("aws", "catalogue")
    assert rows["market.spot_usd_per_hour"][1].startswith("data: ")
    assert rows["checkpoint.stall_seconds"][1].startswith("derived: ")
    assert rows["notice.success"][1].startswith("assumption: ")
    assert rows["checkpoint.corruption"] == (0.0, "default")
    shown = planner("simulate", str(file), "--nodes", "3", "--show-config").out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "flag --nodes" in shown
