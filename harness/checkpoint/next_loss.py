"""The loss of the step after a checkpoint: saved with it, compared after a restore.

Digests prove that the bytes are the saved ones; only training itself shows that they are the right ones.  A component
that nobody registered, or that loads itself wrongly, gives another loss on the batch that comes next.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from harness.checkpoint.manifest import seal, unseal
from harness.checkpoint.names import NEXT_LOSS
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import CorruptCheckpointError
from harness.validation import StrictModel


class NextLoss(StrictModel):
    """The loss of each rank in the step after the checkpoint, before that step's update."""

    schema_version: Literal[1] = 1
    run_id: str
    name: str
    losses: tuple[float, ...] = Field(min_length=1)
    """By rank; a loss that is not finite is not written."""


def write_next_loss(target: Target, record: NextLoss) -> None:
    """Put it beside the checkpoint on the durable target."""
    target.put_bytes(f"{record.run_id}/{record.name}/{NEXT_LOSS}", seal(record))


def read_next_loss(target: Target, run_id: str, name: str) -> NextLoss | None:
    """What was written for checkpoint `name`; None when nothing (usable) was: the run ended before the next step."""
    key = f"{run_id}/{name}/{NEXT_LOSS}"
    try:
        found = unseal(NextLoss, target.get_bytes(key), f"{target.uri}/{key}")
    except (MissingObjectError, CorruptCheckpointError):
        return None
    return found if (found.run_id, found.name) == (run_id, name) else None


def difference(expected: NextLoss, losses: tuple[float, ...], tolerance: float) -> str | None:
    """How `losses` (by rank) differ from `expected` by more than `tolerance` (relative); None when they do not.

    Rank by rank at an equal world size, by their mean otherwise: the ranks then share the global batch differently.
    """
    pairs = [(f"rank {rank}", *pair) for rank, pair in enumerate(zip(expected.losses, losses, strict=False))]
    if len(losses) != len(expected.losses):
        pairs = [("mean of all ranks", _mean(expected.losses), _mean(losses))]
    for who, before, now in pairs:
        if not math.isfinite(now) or abs(now - before) > tolerance * max(abs(now), abs(before)):
            return f"{who}: {now:.9g}, was {before:.9g}"
    return None


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)
