"""`python -m harness report`: what a run did, and how it compares with what was predicted."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.checkpoint.targets import open_target
from harness.config import PlanConfig, load_run_config
from harness.telemetry.reader import FILE_PATTERN, TelemetryFile, read_telemetry
from harness.telemetry.schema import AnyEvent, IntervalTuned, Measurement, Profile
from harness.telemetry.summary import RunSummary, summarize_run
from harness.validation import StrictModel


class AttemptRow(StrictModel):
    """One attempt."""

    attempt_id: str
    generation: int | None
    nodes: int
    restored: str | None
    from_step: int
    to_step: int
    durable_checkpoints: int
    notices: int
    lost_steps: int
    startup_seconds: float | None
    end: str


class Comparison(StrictModel):
    """One quantity, predicted and measured; None where there is nothing."""

    quantity: str
    unit: str
    predicted: float | None
    measured: float | None
    n: int | None = None
    """Observations behind the measured value."""


class Report(StrictModel):
    """The JSON document of `python -m harness report --json`."""

    schema_version: Literal[1] = 1
    run_ids: tuple[str, ...]
    finished: bool
    steps: int
    executed_steps: int
    lost_steps: int
    goodput: float | None
    wall_seconds: float
    durable_checkpoints: int
    failed_checkpoints: int
    notices: int
    notices_acted_on: int
    interruptions: int
    first_loss: float | None
    final_loss: float | None
    attempts: tuple[AttemptRow, ...]
    predicted_for: str | None
    """What the prediction was made for, when the config has a plan."""
    comparisons: tuple[Comparison, ...]
    damaged_lines: int
    files: tuple[str, ...]
    profile: Profile


def fetch_files(uri: str, endpoint_url: str | None = None) -> list[TelemetryFile]:
    """The telemetry files on the durable target at `uri` (a bucket's prefix: one run's or several)."""
    target = open_target(uri, endpoint_url=endpoint_url, create=False)
    found = []
    for info in target.list(""):
        name = info.key.rpartition("/")[2]
        if fnmatch.fnmatch(name, FILE_PATTERN):
            found.append(TelemetryFile(name, f"{uri.rstrip('/')}/{info.key}", target.get_bytes(info.key)))
    return found


def report_document(
    paths: Sequence[Path | str], config_path: Path | None = None, *, endpoint_url: str | None = None
) -> Report:
    """The report on the telemetry at or below `paths` (directories, files, or URIs of durable targets).

    The plan comes from the run's harness.yaml at `config_path`.
    """
    local = [path for path in paths if "://" not in str(path)]
    fetched = [f for path in paths if "://" in str(path) for f in fetch_files(str(path), endpoint_url)]
    telemetry = read_telemetry(*local, fetched=fetched)
    summary = summarize_run(telemetry.events)
    plan = load_run_config(config_path).plan if config_path else PlanConfig()
    profile = summary.profile
    return Report(
        run_ids=summary.run_ids,
        finished=summary.finished,
        steps=profile.useful_steps,
        executed_steps=summary.executed_steps,
        lost_steps=profile.lost_steps,
        goodput=profile.goodput,
        wall_seconds=profile.wall_hours * 3600.0,
        durable_checkpoints=summary.durable_checkpoints,
        failed_checkpoints=profile.checkpoints_failed,
        notices=profile.notices,
        notices_acted_on=profile.notices_acted_on,
        interruptions=profile.interruptions,
        first_loss=summary.first_loss,
        final_loss=summary.final_loss,
        attempts=tuple(_rows(summary)),
        predicted_for=_predicted_for(plan),
        comparisons=(*_comparisons(plan, profile), *_retuned(telemetry.events)),
        damaged_lines=telemetry.damaged_lines,
        files=telemetry.files,
        profile=profile,
    )


def _rows(summary: RunSummary) -> list[AttemptRow]:
    return [
        AttemptRow(
            attempt_id=attempt.attempt_id,
            generation=attempt.generation,
            nodes=attempt.nodes,
            restored=attempt.checkpoint,
            from_step=attempt.start_step,
            to_step=attempt.last_step,
            durable_checkpoints=len(attempt.durable_steps),
            notices=attempt.notices,
            lost_steps=attempt.lost_steps,
            startup_seconds=attempt.startup_seconds,
            end=attempt.end,
        )
        for attempt in summary.attempts
    ]


def _predicted_for(plan: PlanConfig) -> str | None:
    parts = [f"{plan.nodes} ×" if plan.nodes else None, plan.instance, plan.zone or plan.region]
    return " ".join(part for part in parts if part) or None


def _comparisons(plan: PlanConfig, profile: Profile) -> list[Comparison]:
    def row(quantity: str, unit: str, predicted: float | None, measured: Measurement | None) -> Comparison:
        return Comparison(
            quantity=quantity,
            unit=unit,
            predicted=predicted,
            measured=measured.mean if measured else None,
            n=measured.n if measured else None,
        )

    rate = profile.interruptions / profile.exposure_hours if profile.exposure_hours > 0.0 else None
    lost_hours = profile.lost_steps * profile.step_seconds.mean / 3600.0 if profile.step_seconds else None

    def plain(quantity: str, unit: str, predicted: float | None, measured: float | None) -> Comparison:
        return Comparison(quantity=quantity, unit=unit, predicted=predicted, measured=measured)

    return [
        plain("goodput", "", plan.goodput_mean, profile.goodput),
        plain("makespan", "h", plan.makespan_hours_p50, profile.wall_hours),
        plain("interruptions", "", plan.interruptions_mean, float(profile.interruptions)),
        plain("interruption rate", "/node-hour", plan.rate_per_hour, rate),
        plain("lost work", "h", plan.lost_work_hours_mean, lost_hours),
        row("stall", "s", plan.stall_seconds, profile.stall_seconds),
        row("persist", "s", plan.persist_seconds, profile.persist_seconds),
        row("emergency", "s", plan.emergency_seconds, profile.emergency_seconds),
        row("startup", "s", plan.startup_seconds, profile.startup_seconds),
    ]


def _retuned(events: Sequence[AnyEvent]) -> list[Comparison]:
    """The interval that was planned and the one that re-tuning came to, where it moved."""
    moves = [event for event in events if isinstance(event, IntervalTuned)]
    if not moves:
        return []
    last = moves[-1].interval_seconds
    return [Comparison(quantity="interval, re-tuned", unit="s", predicted=moves[0].previous_seconds, measured=last)]


def render_report(report: Report) -> str:
    """The report as text for a terminal, at most 110 columns."""
    state = "finished" if report.finished else "not finished"
    header = ("attempt", "nodes", "restored", "steps", "durable", "notices", "lost", "startup s", "end")
    layout = "  {:<14}{:>5}  {:<24}{:>11}{:>9}{:>9}{:>6}{:>11}  {}"
    counts = [
        f"steps executed {report.executed_steps}, lost {report.lost_steps}",
        f"checkpoints durable {report.durable_checkpoints}, failed {report.failed_checkpoints}",
        f"notices {report.notices}, acted on {report.notices_acted_on}",
        f"interruptions {report.interruptions}",
    ]
    figures = [
        f"wall-clock {report.wall_seconds:.1f} s",
        f"goodput {_percent(report.goodput)}",
        f"loss {_number(report.first_loss)} → {_number(report.final_loss)}",
    ]
    lines = [
        f"run {', '.join(report.run_ids)}: {state} at step {report.steps}",
        "  " + "   ".join(counts),
        "  " + "   ".join(figures),
        "",
        layout.format(*header),
    ]
    for row in report.attempts:
        steps, startup = f"{row.from_step}–{row.to_step}", _number(row.startup_seconds, 1)
        lines.append(
            layout.format(
                row.attempt_id,
                row.nodes,
                row.restored or "–",
                steps,
                row.durable_checkpoints,
                row.notices,
                row.lost_steps,
                startup,
                row.end,
            )
        )
    measured_on = f"{report.profile.nodes or 0} node(s), {report.profile.device or 'unknown device'}"
    lines += [
        "",
        f"  predicted for {report.predicted_for or 'nothing (the config has no plan)'}; measured on {measured_on}",
        f"  {'quantity':<20}{'predicted':>14}{'measured':>14}{'n':>5}  unit",
    ]
    lines += [
        f"  {row.quantity:<20}{_significant(row.predicted):>14}{_significant(row.measured):>14}"
        f"{'' if row.n is None else row.n:>5}  {row.unit}".rstrip()
        for row in report.comparisons
    ]
    if report.damaged_lines:
        lines += ["", f"  {report.damaged_lines} line(s) of telemetry were cut short by a kill and are left out"]
    return "\n".join(lines)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _significant(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
