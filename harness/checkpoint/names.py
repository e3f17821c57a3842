"""Names of checkpoints and of the files in them.  Nothing that comes from outside becomes a path unchecked."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from harness.errors import CorruptCheckpointError, InvalidInputError

MANIFEST = "manifest.json"
"""The global manifest: the only proof that a checkpoint is complete."""
PROGRESS = "progress.json"
DOCUMENT = "state.json"
"""What of a component's state is not a tensor."""
METADATA = ".metadata"
"""DCP's index of a component's tensors."""
NEXT_LOSS = "next-loss.json"
"""The loss of the step after the checkpoint, for the restore check: added when that step is done, so in no manifest."""
GENERATIONS = "generations"
IDENTITY = "identity.json"
"""What a run's prefix belongs to: another run's config is refused."""
WRITING, RESTORING, DISCARDED = ".writing-", ".restoring-", ".discarded-"
"""Prefixes of local directories that are not checkpoints (yet, or any more)."""

_CHECKPOINT = re.compile(r"step-([0-9]{9,15})-g([0-9]{4,9})")
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PART_OF_PATH = re.compile(r"[A-Za-z0-9._-]{1,255}")


def checkpoint_name(step: int, generation: int) -> str:
    """``step-000001500-g0003``: unique, because a generation saves a step once."""
    return f"step-{step:09d}-g{generation:04d}"


def parse_checkpoint_name(name: str) -> tuple[int, int] | None:
    """(step, generation) of a checkpoint's name: its sort key, newest highest; None for any other name."""
    found = _CHECKPOINT.fullmatch(name)
    if found is None:
        return None
    step, generation = int(found.group(1)), int(found.group(2))
    return (step, generation) if checkpoint_name(step, generation) == name else None


def part_name(node: int) -> str:
    """The file name of a node's part manifest."""
    return f"part-{node:05d}.json"


def parse_part_name(name: str) -> int | None:
    """The node of a part manifest's file name; None for any other name."""
    found = re.fullmatch(r"part-([0-9]{5,9})\.json", name)
    return int(found.group(1)) if found else None


def shard_name(rank: int) -> str:
    """The file with a rank's share of a component's tensors, named as DCP names it."""
    return f"__{rank}_0.distcp"


def rank_file_name(rank: int) -> str:
    """The file with one rank's own state of a per-rank component."""
    return f"rank-{rank:05d}.pt"


def check_component_name(name: str) -> str:
    """`name` when it can be a component's folder; InvalidInputError otherwise."""
    if not _COMPONENT.fullmatch(name):
        raise InvalidInputError("component name", name, "lower-case letters, digits and '_', starting with a letter")
    return name


def check_relative_path(path: str) -> str:
    """`path` when it stays inside its checkpoint: plain parts, no root, no ``..``; CorruptCheckpointError otherwise."""
    parts = PurePosixPath(path).parts
    plain = parts and all(_PART_OF_PATH.fullmatch(part) and part not in {".", ".."} for part in parts)
    if not plain or "/".join(parts) != path:
        raise CorruptCheckpointError(f"the file name {path!r} does not stay inside its checkpoint")
    return path
