"""Reading harness telemetry for the planner: which runs there are, each summarised on its own, and two more measures.

The reader, the summary and the profile are the harness's; here the runs are told apart, and what only the planner asks
(work between saves, time between attempts) is measured.  Nothing here needs torch; boto3 only where a bucket is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.errors import InvalidInputError
from harness.telemetry.reader import TelemetryFile, read_telemetry
from harness.telemetry.schema import TELEMETRY_VERSION, AnyEvent, CheckpointStarted, Measurement
from harness.telemetry.summary import RunSummary, summarize_run


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One run: its events in time order and what they add up to."""

    run_id: str
    events: tuple[AnyEvent, ...]
    summary: RunSummary


@dataclass(frozen=True, slots=True)
class TelemetryRuns:
    """Every run in the telemetry that was read, by run id; the files, and the lines that a kill cut short."""

    runs: tuple[MeasuredRun, ...]
    files: tuple[str, ...]
    damaged_lines: int


def read_runs(places: Sequence[str], *, endpoint_url: str | None = None) -> TelemetryRuns:
    """The runs at or below `places`: folders, files, or URIs of durable targets.

    Raises InvalidInputError where there is no telemetry, where another schema version wrote it, and where no attempt
    had started yet.
    """
    local = [Path(place.removeprefix("file://")) for place in places if not _is_bucket(place)]
    fetched: list[TelemetryFile] = []
    for place in places:
        if _is_bucket(place):
            from harness.report import fetch_files

            fetched += fetch_files(place, endpoint_url)
    telemetry = read_telemetry(*local, fetched=fetched)
    shown = ", ".join(places)
    for event in telemetry.events:
        if event.schema_version != TELEMETRY_VERSION:
            raise InvalidInputError(
                "telemetry", f"schema_version {event.schema_version} in {shown}", f"version {TELEMETRY_VERSION}"
            )
    by_run: dict[str, list[AnyEvent]] = {}
    for event in telemetry.events:
        by_run.setdefault(event.run_id, []).append(event)
    runs = tuple(MeasuredRun(run, tuple(events), summarize_run(events)) for run, events in sorted(by_run.items()))
    started = tuple(run for run in runs if run.summary.attempts)
    if not started:
        raise InvalidInputError("telemetry", shown, "a run that has started: there is no such event in it yet")
    return TelemetryRuns(started, telemetry.files, telemetry.damaged_lines)


def only_run(read: TelemetryRuns, hint: str) -> MeasuredRun:
    """The only run; InvalidInputError when there are several, whose attempts must not be taken for one run's."""
    if len(read.runs) > 1:
        found = ", ".join(run.run_id for run in read.runs)
        raise InvalidInputError("telemetry", f"runs {found}", "the telemetry of one run", hint)
    return read.runs[0]


def work_between_saves_seconds(run: MeasuredRun) -> Measurement | None:
    """Useful work between two starts of a periodic save (the interval that was really used), over all attempts.

    Steps between them x the mean time of a step; None without periodic saves or measured steps.
    """
    step = run.summary.profile.step_seconds
    if step is None:
        return None
    gaps: list[float] = []
    for attempt in run.summary.attempts:
        starts = {
            event.step
            for event in run.events
            if isinstance(event, CheckpointStarted)
            and event.attempt_id == attempt.attempt_id
            and event.reason == "periodic"
        }
        at = attempt.start_step
        for save in sorted(starts):
            if save > at:
                gaps.append((save - at) * step.mean)
            at = save
    return Measurement.of(gaps)


def between_attempts_seconds(run: MeasuredRun) -> Measurement | None:
    """From the last sign of an attempt to the next launcher's start: detection, wait for capacity, boot.

    Within one launch torchrun restarts at once, so this is near 0 there.  None with a single attempt.
    """
    attempts = run.summary.attempts
    return Measurement.of([max(0.0, after.first_wall - before.last_wall) for before, after in pairwise(attempts)])


def replacement_seconds(run: MeasuredRun) -> Measurement | None:
    """As `between_attempts_seconds`, only where a node was reclaimed and as many nodes as before went on.

    That is the wait for capacity and the boot; a process that was merely started again waited for nothing.
    """
    attempts = run.summary.attempts
    return Measurement.of(
        [
            max(0.0, after.first_wall - before.last_wall)
            for before, after in pairwise(attempts)
            if before.reclaimed_nodes > 0 and after.nodes >= before.nodes
        ]
    )


def _is_bucket(place: str) -> bool:
    return "://" in place and not place.startswith("file://")
