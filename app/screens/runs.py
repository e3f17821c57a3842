"""Runs: what a run has done so far against what was predicted, live while it goes on."""

from __future__ import annotations

import streamlit as st

from app import state
from app.charts.runs import steps_chart
from app.figure_block import figure_block
from app.state import held_input
from app.text import note, plain, show_error
from planner.views import runs
from planner.views.link import TELEMETRY
from planner.views.runs import Monitor, RunFolder

REFRESH_SECONDS = 2.0
_MOST_UPLOADS = 64


def draw() -> None:
    """The page."""
    st.title("Runs: predicted against actual", anchor=False)
    here, upload = "Folders on this machine", "Upload files"
    source = st.segmented_control("Where from", [here, upload], default=here, key="runs-source") or here
    if source == here:
        _folders()
    else:
        _uploads()


def _folders() -> None:
    top = runs.root()
    found = runs.find_runs(top)
    note(plain(f"Looking below {top}. Another folder: planner dashboard --runs FOLDER. Nothing outside of it is read."))
    if not found:
        st.info(
            "No telemetry here yet. A run writes it into the folder that its harness.yaml names under telemetry; start "
            "the dashboard above that folder, or upload the files."
        )
        return
    held = state.chosen()
    given = dict(held.query or ()).get(TELEMETRY)
    chosen = runs.named_run(found, given)
    if given is not None and chosen is None:
        st.warning(
            plain(f"There is no run “{given}” here; the one that changed last is shown."), icon=":material/edit:"
        )
    chosen = chosen or found[0]
    widget = held.input("runs-name")
    on_change = held_input(widget, chosen.name, lambda name: held.change({TELEMETRY: name}))
    names = [run.name for run in found]
    st.selectbox("Run", names, key=widget, format_func=runs.folder_label, on_change=on_change)
    live = st.toggle("Follow it live", value=True, key="runs-live")

    followed = chosen

    @st.fragment(run_every=REFRESH_SECONDS if live else None)
    def show() -> None:
        _folder(followed)

    show()


def _folder(run: RunFolder) -> None:
    try:
        found = runs.monitor(run, runs.root())
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    if run.config is None:
        note("No harness.yaml lies beside or above this folder: there is no prediction to compare with.")
    _draw(found)


def _uploads() -> None:
    files = st.file_uploader(
        "Telemetry files (node-*.jsonl) and the run's harness.yaml",
        type=["jsonl", "yaml", "yml"],
        accept_multiple_files=True,
        key="runs-files",
    )
    if not files:
        st.info("Choose the run's node-*.jsonl files, and its harness.yaml for the predictions.")
        return
    try:
        found = runs.monitor_uploads({file.name: file.getvalue() for file in files[:_MOST_UPLOADS]})
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    _draw(found)


def _draw(found: Monitor) -> None:
    report = found.report
    # Whatever stands in telemetry is text: shown as text, never as Markdown or HTML.
    st.text(runs.headline(found))
    for column, number in zip(st.columns(4), runs.run_numbers(found), strict=True):
        column.metric(number.label, number.value, number.detail, delta_color="off", delta_arrow="off", border=True)
    compared = runs.comparison_rows(report)
    st.subheader("Predicted against actual")
    if report.predicted_for:
        st.text(f"Predicted for {report.predicted_for}")
    st.dataframe(
        runs.shown(compared), hide_index=True, alt="Each quantity as predicted and as measured.", key="run-compared"
    )
    figure_block(
        "Steps against time",
        steps_chart(found.steps, found.happenings, dark=state.is_dark()),
        found.steps,
        name="run-steps",
        alt=f"Steps against minutes since the first event: {report.steps} steps in {report.wall_seconds:.0f} s, "
        f"{report.durable_checkpoints} durable checkpoints, {report.notices} notices.",
    )
    st.subheader("Attempts")
    st.dataframe(runs.shown(runs.attempt_rows(report)), hide_index=True, alt="One row per attempt.", key="run-attempts")
    if report.damaged_lines:
        note(f"{report.damaged_lines} line(s) were cut short by a kill and are left out.")
