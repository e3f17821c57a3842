"""The pages' logic under Streamlit's AppTest: inputs, corrections, edits, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.shell import PAGES
from app.text import plain
from tests.app.conftest import QUERY
from tests.app.test_run_folders import events

Open = Callable[..., AppTest]


def query(made: AppTest) -> dict[str, str]:
    """The URL's query, one value a key."""
    return {key: value if isinstance(value, str) else value[-1] for key, value in made.query_params.items()}


@pytest.mark.parametrize("name", [name for name, _, _ in PAGES])
def test_every_page_opens_without_an_error(
    page: Open, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A title, no error, no exception."""
    monkeypatch.setenv("PLANNER_RUNS", str(tmp_path))
    made = page(name)
    assert made.title
    assert not made.error


def test_the_plan_answers_in_one_sentence_and_four_numbers(page: Open) -> None:
    """The title is the answer."""
    made = page("plan")
    assert made.title[0].value.startswith("Rent p4d.24xlarge in ")
    assert [row.label for row in made.metric] == ["Cost", "Done after", "Saved", "Interruptions"]


def test_changing_an_input_changes_the_answer_and_the_url(page: Open) -> None:
    """Twice the work costs about twice as much; the link says so."""
    made = page("plan")
    before = made.title[0].value
    made.number_input(key="in-work-hours").set_value(200.0).run()
    assert made.title[0].value != before
    assert query(made)["work-hours"] == "200"
    assert query(made)["runs"] == "2000"


def test_a_url_that_lags_behind_takes_nothing_back(page: Open) -> None:
    """The browser sends the URL that it has: one older than what the user did since is no link that was followed."""
    made = page("plan")
    old = dict(made.query_params)
    made.number_input(key="in-work-hours").set_value(200.0).run()
    for key, value in old.items():
        made.query_params[key] = value
    made.slider(key="in-notice-success").set_value(0.5).run()
    assert (query(made)["work-hours"], query(made)["notice-success"]) == ("200", "0.5")
    for key, value in old.items():
        made.query_params[key] = value
    made.run()
    assert (query(made)["work-hours"], query(made)["notice-success"]) == ("200", "0.5")


def test_a_deadline_turns_the_fourth_number_into_its_probability(page: Open) -> None:
    """What is asked is answered."""
    made = page("plan", (*QUERY, ("deadline-hours", "104")))
    assert made.metric[3].label == "Done within 104 h"
    assert made.metric[3].value.endswith("%")


def test_a_bad_value_in_a_link_is_shown_until_something_is_changed(page: Open) -> None:
    """Named and corrected visibly; the URL is corrected too."""
    made = page("plan", (*QUERY, ("nodes", "999x"), ("instance", "p4d.24xlage")))
    shown = [row.value for row in made.warning]
    assert any("nodes was" in text for text in shown)
    assert any("p4d\\.24xlage" in text for text in shown) or any("p4d.24xlage" in text for text in shown)
    assert "nodes" not in query(made)
    made.number_input(key="in-checkpoint-gib").set_value(20.0).run()
    assert not any("nodes was" in row.value for row in made.warning)


def test_a_type_without_a_rate_is_a_sentence_and_can_be_mended(page: Open) -> None:
    """The inputs stay usable: giving a rate makes a plan."""
    made = page("plan", (("instance", "p5e.48xlarge"), ("runs", "2000")))
    assert "how often a node is interrupted" in made.error[0].value
    assert not made.title
    made.selectbox(key="in-hazard").set_value("my own rate").run()
    assert not made.error
    assert made.title[0].value.startswith("Rent p5e.48xlarge")


def test_choosing_a_type_drops_the_place_of_the_old_one(page: Open) -> None:
    """A zone of one type is not a zone of another."""
    made = page("plan", (*QUERY, ("region", "us-east-1"), ("zone", "use1-az6")))
    assert "use1-az6" in made.title[0].value
    made.selectbox(key="in-instance").set_value("p3.16xlarge").run()
    assert "zone" not in query(made)
    assert "p3.16xlarge" in made.title[0].value


def test_the_rate_slider_sets_the_rate(page: Open) -> None:
    """From a source to a rate of one's own and back."""
    made = page("plan")
    made.selectbox(key="in-hazard").set_value("my own rate").run()
    made.select_slider(key="in-rate").set_value("0.5").run()
    assert query(made)["rate-per-hour"] == "0.5"
    made.selectbox(key="in-hazard").set_value("best").run()
    assert "rate-per-hour" not in query(made)


def test_an_assumption_is_edited_marked_and_reset(page: Open) -> None:
    """The edit is in the URL; its reset takes it out."""
    made = page("assumptions")
    made.text_input(key="value-startup_seconds").set_value("600").run()
    assert query(made)["startup-seconds"] == "600"
    assert any("startup" in row.value and ":material/edit:" in row.value for row in made.markdown)
    made.button(key="reset-value-startup_seconds").click().run()
    assert "startup-seconds" not in query(made)


def test_a_stated_assumption_is_edited_through_assume(page: Open) -> None:
    """What others are derived from can be changed too."""
    made = page("assumptions")
    widget = next(row for row in made.text_input if row.key and row.key.startswith("value-stated-"))
    name = str(widget.key).removeprefix("value-stated-")
    widget.set_value("1").run()
    assert query(made)["assume"] == f"{name}=1"


def test_nonsense_in_an_assumption_is_refused_in_words(page: Open) -> None:
    """The old value stays."""
    made = page("assumptions")
    made.text_input(key="value-startup_seconds").set_value("soon").run()
    assert any("startup" in row.value and "finite number" in row.value for row in made.warning)
    assert "startup-seconds" not in query(made)


def test_a_picked_place_is_in_the_url(page: Open) -> None:
    """Pick the last of the list: it is the plan."""
    made = page("compare")
    places = next(row for row in made.selectbox if row.label == "Place")
    places.set_value(places.options and len(places.options) - 1).run()
    next(row for row in made.button if row.label == "Make it the plan").click().run()
    assert "zone" in query(made)


def test_stepping_through_runs(page: Open) -> None:
    """Next is the next run; each run is told in a sentence."""
    made = page("understand")
    before = next(row.value for row in made.markdown if row.value.startswith("Run "))
    next(row for row in made.button if row.label == "Next").click().run()
    after = next(row.value for row in made.markdown if row.value.startswith("Run "))
    assert before != after
    assert int(after.split(":")[0][4:]) == int(before.split(":")[0][4:]) + 1
    # A link to this run shows this run; one to a run that there is not says so.
    linked = page("understand", tuple(query(made).items()))
    assert after in [row.value for row in linked.markdown]
    wrong = page("understand", (*QUERY, ("show-run", "2000")))
    assert any("a run from 0 to 1999" in row.value.replace("\\", "") for row in wrong.warning)


def test_what_is_compared_is_in_the_url(page: Open) -> None:
    """And a link that says it is followed."""
    made = page("compare")
    made.button_group[0].set_value("accelerator").run()
    assert query(made)["compare"] == "accelerator"
    linked = page("compare", tuple(query(made).items()))
    assert linked.button_group[0].value == made.button_group[0].value


def test_the_launcher_is_in_the_url_and_its_files_are_shown(page: Open) -> None:
    """Pick one: its manifest is previewed."""
    made = page("export")
    made.selectbox(key="target").set_value("kubernetes").run()
    assert query(made)["target"] == "kubernetes"
    assert any("kind: Job" in row.value for row in made.code)


def test_a_monitored_run_is_found_by_its_name_alone(
    page: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The link's name is looked for in the page's own list; a path is only a name that is not there."""
    for name in ("one", "two"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "node-0.jsonl").write_text("\n".join(events(run_id=name)), encoding="utf-8")
    (tmp_path / "node-0.jsonl").write_text("\n".join(events(run_id="outside")), encoding="utf-8")
    monkeypatch.setenv("PLANNER_RUNS", str(tmp_path / "root"))
    for name in ("one", "two"):
        made = page("runs", (*QUERY, ("telemetry", name)))
        assert [row.value for row in made.text if row.value.startswith(name)]
    made = page("runs", (*QUERY, ("telemetry", "..")))
    assert "There is no run" in made.warning[0].value
    assert not [row.value for row in made.text if row.value.startswith("outside")]


def test_an_uploaded_scenario_replaces_the_inputs_or_is_refused_in_words(page: Open) -> None:
    """What can be used becomes the link; of what cannot, nothing is taken over."""
    made = page("plan")
    made.file_uploader[0].set_value(("mine.yaml", b"job: {work_hours: many}", "text/yaml")).run()
    assert "work" in made.error[0].value
    assert query(made)["work-hours"] == "100"
    good = b"job: {work_hours: 33, checkpoint_gib: 4}\nfleet: {instance: p3.16xlarge}\nsimulation: {runs: 2000}\n"
    made.file_uploader[0].set_value(("mine.yaml", good, "text/yaml")).run()
    assert not made.error
    assert query(made) == {"work-hours": "33", "checkpoint-gib": "4", "instance": "p3.16xlarge", "runs": "2000"}
    assert made.number_input(key="in-work-hours-1").value == 33.0
    assert "p3.16xlarge" in made.title[0].value


def test_the_export_follows_its_settings(page: Open) -> None:
    """A run id given on the page is in the file and in the URL; a bad one is a sentence."""
    made = page("export")
    made.text_input(key="setting-run-id").set_value("my-run").run()
    assert query(made)["run-id"] == "my-run"
    assert any("run_id: my-run" in row.value for row in made.code)
    made.text_input(key="setting-run-id").set_value("No Spaces!").run()
    assert "run" in made.error[0].value


def test_telemetry_is_text_and_nothing_else(page: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run id that is HTML or Markdown is shown as it is, in an element that renders neither."""
    evil = "<img src=x onerror=alert(1)> **bold** ![x](http://evil)"
    lines = events(run_id=evil)
    (tmp_path / "node-0.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("PLANNER_RUNS", str(tmp_path))
    made = page("runs")
    assert any(evil in row.value for row in made.text)
    assert not any("onerror" in row.value for row in [*made.markdown, *made.caption, *made.title, *made.subheader])


def test_text_from_outside_cannot_become_markdown() -> None:
    """Every sign that Markdown, formulas, colours and icons are made of is escaped."""
    assert plain("a *b* [c](d) $e$ :red[f] <g> `h` _i_ ~j~ #k") == (
        "a \\*b\\* \\[c\\]\\(d\\) \\$e\\$ \\:red\\[f\\] \\<g\\> \\`h\\` \\_i\\_ \\~j\\~ \\#k"
    )
