"""A folder for each candidate of a recommendation or a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.assumptions import Assumption
from planner.emit.files import write_folder
from planner.emit.options import EmitSettings
from planner.emit.plan import emitted_files, plan_of

if TYPE_CHECKING:
    from planner.evaluate import Candidate


def emit_each(
    candidates: Sequence[Candidate],
    stated: Iterable[Assumption],
    settings: EmitSettings,
    folder: Path,
    *,
    targets: Sequence[str],
    field: str = "--emit-all",
) -> tuple[Path, ...]:
    """One folder below `folder` for each candidate, named by its rank, fleet and place; the folders.

    `stated` was assumed before there were candidates.  Every text is made before the first file is written, so that
    bad settings change nothing.  A target of one provider is left out for candidates of another.  Raises
    InvalidInputError as `emit_plan` does.
    """
    stated = tuple(stated)
    texts = {}
    for rank, candidate in enumerate(candidates, start=1):
        plan = plan_of(candidate, (*stated, *candidate.completed.assumptions), settings)
        texts[folder_name(rank, candidate)] = emitted_files(plan, targets, strict=False)
    return tuple(write_folder(folder / name, files, field=field)[0].parent for name, files in texts.items())


def folder_name(rank: int, candidate: Candidate) -> str:
    """Such as ``001-2x-p4d.24xlarge-use1-az2``."""
    name = f"{rank:03d}-{candidate.nodes}x-{candidate.offer.instance}-{candidate.offer.place}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
