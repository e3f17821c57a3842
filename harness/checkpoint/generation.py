"""Fencing: each attempt of a run takes a generation by compare-and-set, and only the newest may change anything.

On the durable target, below the run's prefix, ``generations/g0003.json`` says who holds generation 3 and
``generations/g0003-restored.json`` from which checkpoint it went on.  The second file closes a gap that a check
before each put cannot close: an old attempt that passes its check, is overtaken, and then publishes.  What it
publishes is newer than what its successor went on from, and is therefore never restored (`Lineage`).
"""

from __future__ import annotations

import re
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from harness.checkpoint.manifest import seal, unseal
from harness.checkpoint.names import GENERATIONS, parse_checkpoint_name
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import CheckpointError, CorruptCheckpointError, FencedError
from harness.validation import StrictModel

_CLAIM = re.compile(r"g([0-9]{4,9})\.json")
_RECORD = re.compile(r"g([0-9]{4,9})-restored\.json")
_MAX_TRIES = 1000


class Claim(StrictModel):
    """Who holds a generation."""

    schema_version: Literal[1] = 1
    run_id: str
    generation: int = Field(ge=1)
    attempt_id: str
    host: str
    claimed_unix_seconds: float
    nonce: str
    """Tells a claim whose answer was lost from somebody else's."""


class RestoreRecord(StrictModel):
    """From which checkpoint a generation went on."""

    schema_version: Literal[1] = 1
    run_id: str
    generation: int = Field(ge=1)
    restored: str | None
    """Its name; None for a start from nothing."""


def claim_generation(target: Target, run_id: str, attempt_id: str, *, above: int = 0) -> int:
    """Take the next generation of a run (1, 2, …): one caller per attempt, before anything else is written.

    It is higher than `above`, the highest one that the nodes' own disks know of: a target that was moved or emptied
    counts from the beginning, and would give out numbers, and so names of checkpoints, that the disks hold already.
    Compare-and-set by the target's conditional put: of several attempts that race, each gets its own number, and the
    highest is the only one that may go on.  Raises ExternalServiceError when the target does not answer.
    """
    generation = max(newest_generation(target, run_id), above)
    for _ in range(_MAX_TRIES):
        generation += 1
        claim = Claim(
            run_id=run_id,
            generation=generation,
            attempt_id=attempt_id,
            host=socket.gethostname(),
            claimed_unix_seconds=time.time(),
            nonce=uuid.uuid4().hex,
        )
        if target.put_bytes_if_absent(_claim_key(run_id, generation), seal(claim)):
            return generation
    raise CheckpointError(f"{target.uri}: {_MAX_TRIES} other attempts of run {run_id} took a generation meanwhile")


def newest_generation(target: Target, run_id: str) -> int:
    """The highest generation that any attempt has claimed; 0 before the first."""
    found = (_CLAIM.fullmatch(name) for name in target.children(f"{run_id}/{GENERATIONS}/"))
    return max((int(match.group(1)) for match in found if match), default=0)


def check_fence(target: Target, run_id: str, generation: int) -> None:
    """Return while `generation` is the newest; FencedError, saying who took over, as soon as it is not."""
    newest = newest_generation(target, run_id)
    if newest <= generation:
        return
    by = ""
    try:
        key = _claim_key(run_id, newest)
        claim = unseal(Claim, target.get_bytes(key), key)
        by = f" by attempt {claim.attempt_id} on {claim.host}"
    except (MissingObjectError, CorruptCheckpointError):
        pass  # the number alone is enough to stop
    raise FencedError(
        f"run {run_id}: this attempt holds generation {generation}, but generation {newest} was claimed{by}; "
        f"this attempt stops and leaves {target.uri} to the newer one"
    )


def record_restore(target: Target, run_id: str, generation: int, restored: str | None) -> None:
    """Write down from which checkpoint (or None) this generation goes on; before it trains."""
    record = RestoreRecord(run_id=run_id, generation=generation, restored=restored)
    target.put_bytes(f"{run_id}/{GENERATIONS}/g{generation:04d}-restored.json", seal(record))


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which checkpoints belong to the history that is still alive."""

    went_on_from: tuple[tuple[int, str | None], ...]
    """(generation, name of the checkpoint it restored), ascending."""

    @property
    def newest(self) -> tuple[int, str] | None:
        """(generation, checkpoint) of the last one to go on, when it went on from a checkpoint and not from nothing."""
        generation, restored = self.went_on_from[-1] if self.went_on_from else (0, None)
        return None if restored is None else (generation, restored)

    def disowned_by(self, name: str) -> int | None:
        """The generation that took over from an older point than checkpoint `name`, which is therefore void."""
        key = parse_checkpoint_name(name)
        if key is None:
            return None
        for generation, restored in self.went_on_from:
            if generation > key[1]:
                limit = parse_checkpoint_name(restored) if restored is not None else None
                if limit is None or key > limit:
                    return generation
        return None


def read_lineage(target: Target, run_id: str, known: dict[int, str | None] | None = None) -> Lineage:
    """The records of all generations; an empty `run_id` when the target is the run's own prefix.

    Those in `known` (what each generation restored) are not read again, and what is read is added to it.
    A damaged record is a CorruptCheckpointError: what it disowned is unknown.
    """
    folder, records = f"{run_id}/{GENERATIONS}/".lstrip("/"), dict(known or {})
    there = {
        int(match.group(1)): folder + name for name in target.children(folder) if (match := _RECORD.fullmatch(name))
    }
    for generation, key in there.items():
        if generation not in records:
            records[generation] = unseal(RestoreRecord, target.get_bytes(key), key).restored
    if known is not None:
        known.update(records)
    return Lineage(tuple((generation, records[generation]) for generation in sorted(there)))


def _claim_key(run_id: str, generation: int) -> str:
    return f"{run_id}/{GENERATIONS}/g{generation:04d}.json"
