"""What a screen shows adds up and agrees with the simulator and the command line."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import yaml

from planner.catalogue import load_catalogue
from planner.emit.options import EmitSettings
from planner.emit.plan import TARGETS, emitted_files, plan_of
from planner.layers import layer
from planner.views import compare, export, ledger, market, sentences, tables, timeline, tornado
from planner.views.link import EMIT_KEYS, changed, resolve
from planner.views.plan import Plan, answer, make_plan, moment, numbers
from simulator.reference import simulate_run


def test_the_answer_names_place_interval_money_and_time(plan: Plan) -> None:
    """The sentence carries what the plan says, and nothing that it does not."""
    text = answer(plan.best, datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    assert plan.best.offer.place in text
    assert "p4d.24xlarge" in text
    assert f"{plan.best.interval.hours * 60:.3g} min" in text
    assert f"${plan.best.cost_usd.p50:,.0f}" in text
    assert "below on-demand" in text
    assert len(numbers(plan.best)) == 4


def test_the_moment_is_a_weekday_within_a_week_and_a_date_after() -> None:
    """Within a week a weekday is enough; later it would be one of several."""
    start = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)  # a Tuesday
    assert moment(start, 74.0) == "Friday 14:00"
    assert moment(start, 200.0) == "2 December 20:00"
    assert moment(start, 24.0 * 60) == "23 January 2027 12:00"


def test_a_plan_that_spot_does_not_pay_for_says_so() -> None:
    """Spot dearer than on-demand: the sentence recommends on-demand."""
    query = (("spot-usd-per-hour", "21.85"), ("on-demand-usd-per-hour", "22"), ("zone", "use1-az6"), ("runs", "500"))
    found = make_plan(resolve(query, load_catalogue()))
    assert answer(found.best, datetime(2026, 1, 1, tzinfo=UTC)).startswith("Rent p4d.24xlarge on demand, not spot")


def test_time_parts_add_up_to_the_makespan(plan: Plan) -> None:
    """The bar is the whole."""
    parts = tables.time_parts(plan.best)
    assert parts["mean"].sum() == pytest.approx(plan.best.makespan_hours.mean, rel=1e-9)
    assert parts["share"].sum() == pytest.approx(1.0)
    assert parts["to"].iloc[-1] == pytest.approx(plan.best.makespan_hours.mean, rel=1e-9)


@pytest.mark.parametrize(
    "extra",
    [(), (("nodes", "2"), ("runs", "300")), (("rendezvous-usd-per-hour", "0.2"), ("transfer-gib", "1000"))],
)
def test_money_parts_add_up_to_the_cost(extra: tuple[tuple[str, str], ...]) -> None:
    """Refunds, storage and the rest of the bill included; no part but refunds is negative."""
    query = changed((("runs", "1000"), ("zone", "use1-az6")), dict(extra))
    best = make_plan(resolve(query, load_catalogue())).best
    parts = tables.money_parts(best)
    assert parts["mean"].sum() == pytest.approx(best.cost_usd.mean, rel=1e-9)
    assert (parts.loc[parts["part"] != tables.UNBILLED, "mean"] > 0.0).all()
    beyond = tables.beyond_work(parts)
    assert beyond["mean"].sum() == pytest.approx(best.cost_usd.mean - parts["mean"].iloc[0], rel=1e-6)


def test_a_distribution_counts_every_run(plan: Plan) -> None:
    """Shares add up to one; the cumulative share at the median is a half."""
    bins = tables.distribution(plan.best.costs)
    assert bins["share_of_runs"].sum() == pytest.approx(1.0)
    below = bins.loc[bins["to"] <= plan.best.cost_usd.p50, "share_at_or_below"].max()
    assert below == pytest.approx(0.5, abs=bins["share_of_runs"].max())
    constant = tables.distribution(np.full(10, 3.0))
    assert constant["share_of_runs"].sum() == pytest.approx(1.0)


def test_the_curve_and_its_marks_agree(plan: Plan) -> None:
    """Each rule stands on the curve; no rule beats the optimum by more than the curve's own noise."""
    curve, marks = tables.interval_curve(plan.curve), tables.interval_marks(plan.curve, plan.best.interval.hours)
    assert set(marks["rule"]) >= {"Young", "Daly", "every 15 min", tables.THIS_PLAN}
    assert (marks["cost_mean_usd"] >= curve["cost_mean_usd"].min() - 1e-9).all()
    flat = tables.plateau(plan.curve).iloc[0]
    assert flat["low_minutes"] <= plan.best.interval.hours * 60.0 <= flat["high_minutes"]


def test_every_candidate_is_a_row_and_the_plan_is_marked(plan: Plan) -> None:
    """The table is complete, cheapest first, with one plan in it."""
    rows = tables.candidates(plan)
    assert len(rows) == len(plan.candidates)
    assert rows["cost_mean_usd"].is_monotonic_increasing
    assert (rows["standing"] == tables.THIS_PLAN).sum() == 1
    assert rows.loc[rows["pareto"], "doubtful_price"].eq(False).all()


@pytest.mark.parametrize("run", [0, 7, 1009])
def test_a_run_is_told_as_the_oracle_simulates_it(plan: Plan, run: int) -> None:
    """Spans without gaps up to the makespan; losses and interruptions are those of the result."""
    view = timeline.view_run(plan.best, run)
    assert view.result == simulate_run(plan.best.spec, plan.best.completed.seed, run)
    job = view.spans[view.spans["lane"] == "job"]
    assert job["end_hours"].iloc[:-1].to_numpy() == pytest.approx(job["start_hours"].iloc[1:].to_numpy())
    assert job["end_hours"].iloc[-1] == pytest.approx(view.result.makespan_hours)
    assert view.marks["lost_hours"].sum() == pytest.approx(view.result.lost_work_hours, abs=1e-6)
    assert (view.marks["what"] == "node reclaimed").sum() == view.result.interruptions
    assert view.progress["progress_hours"].iloc[-1] == pytest.approx(plan.best.spec.work_hours)
    uploads = view.spans[view.spans["lane"] == "upload"]
    assert (uploads["end_hours"] - uploads["start_hours"] <= plan.best.spec.persist_hours + 1e-9).all()
    low, high = timeline.first_window(view)
    assert 0.0 <= low < high <= view.result.makespan_hours


def test_notable_runs_are_where_they_say(plan: Plan) -> None:
    """The dearest run costs the most, the cheapest the least."""
    notable = timeline.notable_runs(plan.best)
    assert plan.best.costs[notable["Dearest"]] == plan.best.costs.max()
    assert plan.best.costs[notable["Cheapest"]] == plan.best.costs.min()
    assert plan.best.costs[notable[timeline.TYPICAL]] == pytest.approx(plan.best.cost_usd.p50, rel=1e-3)


def test_the_tornado_moves_the_right_way(plan: Plan) -> None:
    """A dearer price costs more by its share; no notice costs more; regret is never negative."""
    rows = tornado.tornado(plan).set_index(["name", "side"])
    assert rows.loc[("spot price", "high"), "cost_percent"] == pytest.approx(100.0 * tornado.PRICE_SHARE, abs=0.1)
    assert rows.loc[("notice success", "low"), "cost_percent"] > 0.0
    assert rows.loc[("startup", "high"), "cost_percent"] > 0.0 > rows.loc[("startup", "low"), "cost_percent"]
    assert (rows["regret_percent"].dropna() >= 0.0).all()
    assert {"checkpoint size", "interruption rate", "wait for capacity"} <= {name for name, _ in rows.index}
    assert any(name.startswith("if ") for name, _ in rows.index)


def test_hazard_curves_are_those_of_the_source(plan: Plan) -> None:
    """Survival starts at one and falls; the band holds the line."""
    curves = tables.hazard_curves(tornado.sources(plan), until_hours=48.0)
    for _, rows in curves.groupby("source"):
        assert rows["survival"].iloc[0] == 1.0
        assert rows["survival"].is_monotonic_decreasing
    banded = curves.dropna(subset=["survival_low", "survival_high"])
    assert (banded["survival_low"] <= banded["survival"] + 1e-12).all()
    assert (banded["survival"] <= banded["survival_high"] + 1e-12).all()


def test_the_ledger_lists_everything_and_marks_what_was_edited(plan: Plan) -> None:
    """Every completed value is there, with unit and source or as given; an edit shows up and only there."""
    entries = {(entry.section, entry.name): entry for entry in ledger.ledger(plan)}
    assert len(entries) >= len(plan.best.completed.values)
    assert all(entry.source for entry in entries.values())
    edited = {name for (_, name), entry in entries.items() if entry.edited}
    assert edited == {"instance", "work_hours", "checkpoint_gib", "runs"}
    query = changed(plan.link.query, {"startup-seconds": "99", "assume": "boot_seconds=11"})
    again = make_plan(resolve(query, load_catalogue()))
    changed_names = {entry.name for entry in ledger.ledger(again) if entry.edited} - edited
    assert changed_names == {"startup_seconds", "boot_seconds"} or changed_names == {"startup_seconds"}


def test_editing_any_entry_with_its_own_text_changes_nothing(plan: Plan) -> None:
    """The text of an entry is what the link would write: reading it back gives the same value."""
    own = {
        entry.key: entry.text
        for entry in ledger.ledger(plan)
        if entry.key is not None and not entry.stated and entry.text
    }
    link = resolve(changed(plan.link.query, dict(own)), load_catalogue())
    assert link.corrections == ()
    for path, value in plan.best.completed.values.items():
        assert link.completed[path] == pytest.approx(value.value) if isinstance(value.value, float) else True


def test_the_export_is_what_emit_writes(plan: Plan) -> None:
    """File by file, for every launcher that fits; new ones appear here without a change."""
    planned = plan_of(plan.best, plan.best.completed.assumptions, export.emit_settings(plan.link))
    fitting = {target.name for target in TARGETS if target.provider in (None, "aws")}
    assert set(export.targets_of(plan)) == fitting
    for target in fitting:
        files = {file.name: file for file in export.export_files(plan, target)}
        emitted = emitted_files(planned, [target])
        assert {name: files[name].text for name in emitted} == emitted
        assert set(files) == {*emitted, export.SCENARIO_NAME}
        assert all(file.commands or file.notes for file in files.values())
    plain = {file.name: file for file in export.export_files(plan, "torchrun")}
    assert plain["harness.yaml"].commands == "python -m harness launch harness.yaml train.py"
    assert "torchrun train.py" in plain["torchrun.env"].commands
    assert plain[export.SCENARIO_NAME].commands == f"planner recommend {export.SCENARIO_NAME}"
    with zipfile.ZipFile(io.BytesIO(export.zipped(list(plain.values())))) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            name: file.text for name, file in plain.items()
        }


def test_every_setting_of_emit_is_a_key_of_the_link(plan: Plan) -> None:
    """What the command line's flags say about the files, a link can say."""
    names = {field.name for field in dataclasses.fields(EmitSettings)}
    assert {key.replace("-", "_") for key in EMIT_KEYS} == names
    link = resolve(changed(plan.link.query, {key: f"x-{key}" for key in EMIT_KEYS}), load_catalogue())
    assert link.corrections == ()
    assert dataclasses.asdict(export.emit_settings(link)) == {name: f"x-{name.replace('_', '-')}" for name in names}
    assert link.question == plan.link.question


def test_the_exported_scenario_is_read_by_the_command_line_and_means_the_same(plan: Plan) -> None:
    """Scenario out, scenario in: same place, same job."""
    text = next(file.text for file in export.export_files(plan, "torchrun") if file.name == export.SCENARIO_NAME)
    layered = layer(yaml.safe_load(text), export.SCENARIO_NAME, {})
    assert layered.scenario.job.work_hours == 100.0
    assert layered.scenario.fleet.zone == plan.best.offer.zone
    assert layered.scenario.simulation.runs == 2000


def test_the_whole_question_and_the_whole_bill_are_in_what_is_shown() -> None:
    """An unmet objective is said, the curve stands on the plan's own cost, the export names the flags."""
    bill = {"transfer-gib": "20000", "transfer-usd-per-gib": "0.02", "zone": "use1-az6", "runs": "500"}
    asked = {"objective": "deadline", "deadline-hours": "100.5", "deadline-probability": "0.9", "step-seconds": "2"}
    plan = make_plan(resolve(changed((), {**bill, **asked}), load_catalogue()))
    assert any("no place meets the deadline with probability 0.9" in warning for warning in plan.warnings)
    assert plan.curve.optimum.cost.mean == pytest.approx(plan.best.cost_usd.mean, rel=2e-3)
    assert min(point.cost.p50 for point in plan.curve.points) > 400.0
    first = export.scenario_yaml(plan.best, plan.link).splitlines()[0]
    for flag in ("--objective deadline", "--deadline-probability 0.9", "--step-seconds 2"):
        assert flag in first


def test_a_picked_place_becomes_the_plan(plan: Plan) -> None:
    """Picking any row of a comparison gives a link whose plan is that row."""
    found = compare.compare(plan, compare.ZONES)
    index = len(found.candidates) - 1
    again = make_plan(resolve(changed(plan.link.query, compare.pick(found, index)), load_catalogue()))
    assert again.best.offer == found.candidates[index].offer
    assert again.best.cost_usd.mean == pytest.approx(found.candidates[index].cost_usd.mean, rel=1e-3)
    narrowed = compare.compare(again, compare.ZONES)
    assert len(narrowed.candidates) == len(found.candidates), "a narrowed plan is compared with all zones"
    assert narrowed.index_of(again) == index or narrowed.candidates[narrowed.index_of(again)].offer == again.best.offer


def test_every_type_can_be_compared(plan: Plan) -> None:
    """The whole catalogue: many types, estimated speeds marked, rejected ones with reasons."""
    said: list[tuple[str, int, int]] = []
    found = compare.compare(plan, compare.EVERYTHING, lambda *what: said.append(what))
    assert found.rows["instance"].nunique() > 10
    assert found.rows["flags"].str.contains("estimated-speed").any()
    assert found.rejected
    assert said
    assert found.rows["pareto"].sum() >= 1


def test_prices_now_are_the_catalogues(plan: Plan) -> None:
    """Cheapest first, the plan's zone marked once."""
    rows = market.prices_now(plan)
    assert rows["spot_usd_per_hour"].is_monotonic_increasing
    assert rows["chosen"].sum() == 1


def test_every_chart_has_words(plan: Plan) -> None:
    """Alternative texts carry the figures that the charts show."""
    best = plan.best
    assert f"${plan.curve.optimum.cost.mean:,.0f}" in sentences.interval_alt(plan)
    assert f"${best.cost_usd.p95:,.0f}" in sentences.distribution_alt("the cost", best.cost_usd, "USD")
    assert "Startup" in sentences.parts_alt("Mean cost", tables.money_parts(best))
    assert str(len(plan.candidates)) in sentences.compare_alt(tables.candidates(plan))
    rows = pd.DataFrame(
        [{"name": "a", "changed_to": "b", "cost_percent": 3.14}, {"name": "c", "changed_to": "d", "cost_percent": None}]
    )
    assert "a b: +3.1 %" in sentences.tornado_alt(rows)
