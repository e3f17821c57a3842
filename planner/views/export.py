"""What can be taken home: every emitted file, the scenario, and how each is used."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import yaml

from planner.emit.options import EmitSettings
from planner.emit.plan import TARGETS, emitted_files, plan_of
from planner.evaluate import Candidate
from planner.views import tables
from planner.views.link import EMIT_KEYS, PLAN_KEYS, TARGET, Link
from planner.views.plan import Plan

SCENARIO_NAME = "scenario.yaml"

_COMMANDS = ("python ", "planner ", "torchrun ")


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file, and what its own head says: the commands that use it, and what else is to be known."""

    name: str
    text: str
    commands: str
    notes: tuple[str, ...]


def targets_of(plan: Plan) -> dict[str, str]:
    """Name → title of each launcher that `planner emit` writes for and that fits the plan."""
    return {
        target.name: f"{target.title[0].upper()}{target.title[1:]}"
        for target in TARGETS
        if target.provider in (None, plan.best.offer.provider)
    }


def target_of(plan: Plan) -> str:
    """The launcher that the link names, the first one where it names none or one that does not fit the plan."""
    known = targets_of(plan)
    given = plan.link.get(TARGET)
    return given if given in known else next(iter(known))


def export_files(plan: Plan, target: str) -> tuple[ExportFile, ...]:
    """What ``planner emit --target`` writes for this plan, then the scenario itself.

    Raises InvalidInputError for settings that the harness would not accept.
    """
    candidate = plan.best
    emitted = emitted_files(plan_of(candidate, candidate.completed.assumptions, emit_settings(plan.link)), [target])
    emitted[SCENARIO_NAME] = scenario_yaml(candidate, plan.link)
    return tuple(ExportFile(name, text, *_head(text)) for name, text in emitted.items())


def zipped(files: Sequence[ExportFile]) -> bytes:
    """All of them in one archive; the same files, the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name), file.text)
    return stream.getvalue()


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
    return EmitSettings(**{key.replace("-", "_"): link.get(key) for key in EMIT_KEYS})


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
    given = {key: link.get(key) for key in PLAN_KEYS}
    if link.objective.name != "deadline":
        given.pop("deadline-probability")  # (means nothing then, and the command line says so)
    flags = "".join(f" --{key} {value}" for key, value in given.items() if value)
    flags += "".join(f" --assume {value}" for key, value in link.query if key == "assume")
    header = f"# Written by planner. Use it with: planner recommend {SCENARIO_NAME}{flags}\n"
    return header + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _head(text: str) -> tuple[str, tuple[str, ...]]:
    """(commands, notes) of the comment at the top of a file.

    A command stands on an indented line of its own, or behind the colon of the first line.
    """
    commands: list[str] = []
    notes = [""]
    for line in text.splitlines():
        if line.startswith("#!"):
            continue
        if not line.startswith("#"):
            break
        words = line[1:].strip()
        _, _, behind = words.partition(": ")
        if words and line.startswith("#  "):
            commands.append(words)
        elif behind.startswith(_COMMANDS):
            commands.append(behind)
        elif not words:
            notes.append("")
        elif not words.startswith("Written by planner"):
            notes[-1] = f"{notes[-1]} {words}".strip()
    return "\n".join(commands), tuple(note for note in notes if note)
