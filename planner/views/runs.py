"""Telemetry directories for a screen: which there are, and one of them as the harness's own report.

Paths are confined: only what lies (symbolic links resolved) below one root, chosen when the dashboard was started, can
be looked at; names come from a list, never from a link or a text field.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.errors import InvalidInputError
from harness.report import AttemptRow, Report, report_document
from harness.telemetry.reader import FILE_PATTERN, read_telemetry
from harness.telemetry.schema import CheckpointDurable, NoticeReceived, Restored, Window
from planner import render
from planner.views.plan import Number

CONFIG_NAME = "harness.yaml"
ROOT_VARIABLE = "PLANNER_RUNS"
"""Environment variable with the root folder; the folder that the dashboard was started in without it."""

_HEADINGS = {
    "off_percent": "off (%)",
    "n": "observations",
    "startup_seconds": "startup (s)",
    "attempt_id": "attempt",
    "end": "how it ended",
}
_DEEPEST = 6
_MOST = 200
_MOST_FOLDERS = 20_000


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder with telemetry: its name below the root, itself, and the config found beside or above it."""

    name: str
    path: Path
    config: Path | None
    changed_at: float
    """When a file of it was last written (seconds since the epoch)."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """A run as far as it is: the harness's report, and steps and losses against time."""

    report: Report
    steps: pd.DataFrame
    """wall_minutes, step, loss, attempt: one row per window of steps (node 0's rank 0 or whoever wrote it)."""
    happenings: pd.DataFrame
    """wall_minutes, step, what: durable checkpoints, notices, restores."""
    last_event_at: float
    """Seconds since the epoch."""


def root() -> Path:
    """The folder that runs are looked for in."""
    return Path(os.environ.get(ROOT_VARIABLE) or ".").resolve()


def find_runs(top: Path) -> tuple[RunFolder, ...]:
    """Every folder below `top` that holds telemetry files, the one that changed last first.

    Hidden folders and links are not followed; at most 6 levels deep.
    """
    found: list[RunFolder] = []
    for seen, (folder, names, files) in enumerate(os.walk(top, followlinks=False)):
        here = Path(folder)
        depth = len(here.relative_to(top).parts)
        names[:] = sorted(name for name in names if not name.startswith(".")) if depth < _DEEPEST else []
        telemetry = _telemetry(here, top, files)
        if telemetry:
            shown = str(here.relative_to(top)) if here != top else "."
            changed_at = max(path.stat().st_mtime for path in telemetry)
            found.append(RunFolder(shown, here, _config_near(here, top), changed_at))
        if seen > _MOST_FOLDERS:
            break
    return tuple(sorted(found, key=lambda run: -run.changed_at)[:_MOST])


def _telemetry(folder: Path, top: Path, names: Iterable[str]) -> list[Path]:
    """The telemetry files of a folder that, links resolved, lie below `top`."""
    files = [folder / name for name in names if Path(name).match(FILE_PATTERN)]
    return [file for file in files if confined(file, top)]


def confined(path: Path, top: Path) -> bool:
    """Whether `path`, links resolved, lies at or below `top`."""
    return path.resolve().is_relative_to(top.resolve())


def _config_near(folder: Path, top: Path) -> Path | None:
    """harness.yaml in the folder, or in one above it, no higher than `top`."""
    for at in (folder, *folder.parents):
        candidate = at / CONFIG_NAME
        if candidate.is_file() and confined(candidate, top):
            return candidate
        if at == top:
            break
    return None


def monitor(run: RunFolder, top: Path) -> Monitor:
    """What the run has done so far.

    Raises InvalidInputError for a folder outside of `top`, for telemetry that a newer version wrote, and for files that
    are none; a last line that is still being written is left out.
    """
    if not confined(run.path, top):
        raise InvalidInputError("run", run.name, f"a folder below {top}")
    files = _telemetry(run.path, top, sorted(path.name for path in run.path.iterdir()))
    return _monitor(files, run.name, run.config)


def monitor_uploads(files: Mapping[str, bytes]) -> Monitor:
    """The same for files that were uploaded: telemetry (.jsonl) and at most one harness.yaml.

    Their names are not used as paths; they live in a private folder for as long as they are read.
    """
    with tempfile.TemporaryDirectory(prefix="planner-runs-") as folder:
        config: Path | None = None
        for index, (name, data) in enumerate(files.items()):
            if name.endswith((".yaml", ".yml", ".json")):
                config = Path(folder) / CONFIG_NAME
                config.write_bytes(data)
            else:
                (Path(folder) / f"node-{index}.jsonl").write_bytes(data)
        return _monitor(sorted(Path(folder).glob(FILE_PATTERN)), "the uploaded files", config)


def _monitor(files: Sequence[Path], name: str, config: Path | None) -> Monitor:
    if not files:
        raise InvalidInputError("telemetry", name, f"files like {FILE_PATTERN}")
    telemetry = read_telemetry(*files)
    if not telemetry.events:
        raise InvalidInputError("telemetry", name, "at least one event: the run has not written any yet")
    report = report_document(files, config)
    first = telemetry.events[0].wall_time
    steps = [
        {
            "wall_minutes": (event.wall_time - first) / 60.0,
            "step": event.step,
            "loss": event.loss,
            "attempt": event.attempt_id,
        }
        for event in telemetry.events
        if isinstance(event, Window) and event.rank == 0
    ]
    happenings = [
        {"wall_minutes": (event.wall_time - first) / 60.0, "step": event.step, "what": what}
        for event in telemetry.events
        if (what := _what(event)) is not None
    ]
    return Monitor(
        report=report,
        steps=pd.DataFrame(steps, columns=["wall_minutes", "step", "loss", "attempt"]),
        happenings=pd.DataFrame(happenings, columns=["wall_minutes", "step", "what"]).drop_duplicates(),
        last_event_at=telemetry.events[-1].wall_time,
    )


def _what(event: object) -> str | None:
    match event:
        case CheckpointDurable():
            return "checkpoint durable"
        case NoticeReceived():
            return "notice"
        case Restored(checkpoint=str()):
            return "restored"
    return None


def comparison_rows(report: Report) -> pd.DataFrame:
    """Predicted against actual, with how far off the prediction was."""
    rows = [
        {
            "quantity": row.quantity,
            "unit": row.unit,
            "predicted": row.predicted,
            "measured": row.measured,
            "off_percent": None
            if not row.predicted or row.measured is None
            else 100.0 * (row.measured / row.predicted - 1.0),
            "observations": row.n,
        }
        for row in report.comparisons
    ]
    return pd.DataFrame(rows, columns=["quantity", "unit", "predicted", "measured", "off_percent", "observations"])


def attempt_rows(report: Report) -> pd.DataFrame:
    """One row per attempt, in the report's words."""
    rows = [row.model_dump() for row in report.attempts]
    return pd.DataFrame(rows, columns=list(AttemptRow.model_fields))


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A small table as text: numbers short, a dash where there is nothing, headings in words."""
    return pd.DataFrame(
        {
            _HEADINGS.get(name, name.replace("_", " ")): [_cell(name, value) for value in rows[name].tolist()]
            for name in rows.columns
        },
        dtype=str,
    )


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    if name == "off_percent":
        return f"{value:+.1f}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def named_run(found: Sequence[RunFolder], name: str | None) -> RunFolder | None:
    """The run of this name among those found; None where there is none.  Names are compared, never used as paths."""
    return next((run for run in found if run.name == name), None)


def folder_label(name: str) -> str:
    """A folder in a list."""
    return "this folder" if name == "." else name


def headline(found: Monitor) -> str:
    """Which run it is, and how far."""
    report = found.report
    state = "finished" if report.finished else "not finished"
    return f"{', '.join(report.run_ids)}: {state} at step {report.steps}"


def run_numbers(found: Monitor) -> tuple[Number, ...]:
    """The four numbers above a run."""
    report = found.report
    return (
        Number("Goodput", render.percent(report.goodput), f"{render.duration(report.wall_seconds)} so far"),
        Number("Steps", f"{report.steps:,}", f"{report.lost_steps:,} lost"),
        Number("Checkpoints", f"{report.durable_checkpoints:,}", f"{report.failed_checkpoints:,} failed"),
        Number("Notices", f"{report.notices:,}", f"{report.notices_acted_on:,} acted on"),
    )
