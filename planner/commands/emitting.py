"""Writing what was found: the best candidate into one folder, or every candidate into one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InvalidInputError
from planner import render
from planner.assumptions import Assumption
from planner.emit.options import emit_settings, emit_targets

if TYPE_CHECKING:
    from planner.evaluate import Candidate


def check_emitting(parameters: Mapping[str, Any]) -> None:
    """InvalidInputError for flags of the emitted files that cannot be kept: before anything is simulated."""
    asked = parameters.get("output") or parameters.get("emit") or parameters.get("emit_all")
    settings = emit_settings(parameters)
    if not asked:
        given = [name for name, value in asdict(settings).items() if value is not None and not _from_environment(name)]
        if parameters["targets"] or given:
            flag = "--target" if parameters["targets"] else f"--{given[0].replace('_', '-')}"
            value = parameters["targets"][0] if parameters["targets"] else getattr(settings, given[0])
            raise InvalidInputError(flag, value, "--emit DIR or --emit-all DIR beside it: it is about emitted files")
        return
    from planner.emit.harness_yaml import check_settings
    from planner.emit.plan import check_targets

    check_targets(emit_targets(parameters))
    check_settings(settings)
    if parameters.get("emit_all") is not None and settings.run_id is not None:
        raise InvalidInputError("--run-id", settings.run_id, "no run id beside --emit-all: each plan has its own")


def _from_environment(name: str) -> bool:
    return f"PLANNER_{name.upper()}" in os.environ


def emit_found(
    best: Candidate, candidates: Sequence[Candidate], stated: Sequence[Assumption], parameters: Mapping[str, Any]
) -> str | None:
    """What ``--emit`` and ``--emit-all`` ask for; a sentence about what was written, None when nothing was asked for.

    Raises InvalidInputError for settings that the harness would not accept, and where nothing can be written.
    """
    folder: Path | None = parameters["emit"]
    every: Path | None = parameters["emit_all"]
    if folder is None and every is None:
        return None
    settings, targets = emit_settings(parameters), emit_targets(parameters)
    said: list[str] = []
    if folder is not None:
        from planner.emit.plan import emit_plan, plan_of

        written = emit_plan(plan_of(best, (*stated, *best.completed.assumptions), settings), folder, targets=targets)
        said.append(f"Wrote {', '.join(path.name for path in written)} for {best.offer.place} into {folder}.")
    if every is not None:
        from planner.emit.many import emit_each

        folders = emit_each(candidates, stated, settings, every, targets=targets)
        said.append(f"Wrote {len(folders):,} folders, one for each candidate, below {every}.")
    return " ".join(said)


def print_written(sentence: str | None) -> None:
    """That sentence, for a person."""
    if sentence is not None:
        out = render.console()
        out.print()
        render.paragraph(out, sentence)
