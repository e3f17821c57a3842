"""What can be taken home: every emitted file, the scenario, and how each is used."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import yaml

from planner.emit.options import EmitSettings
from planner.emit.plan import emitted_files, plan_of
from planner.evaluate import Candidate
from planner.views import tables
from planner.views.link import Link
from planner.views.plan import Plan

SCENARIO_NAME = "scenario.yaml"

_LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash", ".env": "bash", ".tf": "hcl"}


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file: its name, its text, the language for highlighting, and how to use it."""

    name: str
    text: str
    language: str
    usage: str


def export_files(plan: Plan) -> tuple[ExportFile, ...]:
    """Everything that `planner emit` writes for this plan, then the scenario itself.

    Raises InvalidInputError for settings that the harness would not accept.
    """
    candidate = plan.best
    emitted = emitted_files(plan_of(candidate, candidate.completed.assumptions, emit_settings(plan.link)))
    files = [
        ExportFile(name, text, _language(name), _usage(text) or "See the comments in the file.")
        for name, text in emitted.items()
    ]
    text = scenario_yaml(candidate, plan.link)
    files.append(ExportFile(SCENARIO_NAME, text, "yaml", f"planner recommend {SCENARIO_NAME}"))
    return tuple(files)


def chart_tables(plan: Plan) -> dict[str, pd.DataFrame]:
    """The numbers behind the plan's charts by file name (without suffix)."""
    best = plan.best
    return {
        "interval": tables.interval_curve(plan.curve),
        "interval-rules": tables.interval_marks(plan.curve, best.interval.hours),
        "cost-distribution": tables.distribution(best.costs),
        "finish-distribution": tables.distribution(best.runs.makespan_hours),
        "time-parts": tables.time_parts(best),
        "money-parts": tables.money_parts(best),
        "compare": tables.candidates(plan),
        "rejected": tables.rejected_rows(plan.rejected),
    }


def emit_settings(link: Link) -> EmitSettings:
    """The flags of `planner emit` that the link carries."""
    return EmitSettings(
        run_id=link.get("run-id"),
        remote=link.get("remote"),
        local_directory=link.get("local-directory"),
        telemetry_directory=link.get("telemetry-directory"),
        rdzv_endpoint=link.get("rdzv-endpoint"),
    )


def scenario_yaml(candidate: Candidate, link: Link) -> str:
    """The scenario as it was given, put in the plan's place: `planner recommend` reads it and says the same."""
    document = link.layered.scenario.model_dump(exclude_none=True, mode="json")
    document = {section: values for section, values in document.items() if values}
    fleet = document.setdefault("fleet", {})
    fleet["provider"] = candidate.offer.provider
    fleet["instance"] = candidate.offer.instance
    fleet["region"] = candidate.offer.region
    if candidate.offer.zone is not None:
        fleet["zone"] = candidate.offer.zone
    hazard = link.get("hazard")
    flags = f" --hazard {hazard}" if hazard else ""
    flags += "".join(f" --assume {value}" for key, value in link.query if key == "assume")
    header = f"# Written by planner.  Use it with: planner recommend {SCENARIO_NAME}{flags}\n"
    return header + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _usage(text: str) -> str:
    """The commands that a file's own header names: comment lines before the first empty or other line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return "\n".join(line for line in lines if line)


def _language(name: str) -> str:
    return next((language for suffix, language in _LANGUAGES.items() if name.endswith(suffix)), "text")
