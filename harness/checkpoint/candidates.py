"""Which checkpoints could be restored, newest first: proven complete by the durable target, or whole on the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.checkpoint.generation import Lineage
from harness.checkpoint.local import LocalCheckpoint
from harness.checkpoint.manifest import Manifest, PartManifest, unseal
from harness.checkpoint.names import MANIFEST, parse_checkpoint_name
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import CorruptCheckpointError, InvalidInputError

Survey = Sequence[Mapping[str, LocalCheckpoint]]
"""For each rank what its node's disk has; empty for ranks that do not lead their node."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that is complete somewhere."""

    manifest: Manifest
    origin: Literal["durable", "this node", "several nodes"]
    """``durable``: its manifest is on the target.  Else every part is on a local disk: of the only node, or of several
    (their upload has to be finished before anyone can restore it)."""
    holders: Mapping[int, int]
    """Part → the rank that leads a node which has it locally."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A checkpoint that cannot be restored."""

    name: str
    reason: str
    damaged: bool = False
    """It was complete once: starting from the beginning in spite of it would bury the run silently."""


def candidate_names(target: Target, run_id: str, survey: Survey) -> list[str]:
    """Every checkpoint that anybody knows of, newest first."""
    names = {name for name in target.children(f"{run_id}/") if parse_checkpoint_name(name)}
    names.update(name for node in survey for name in node)
    return sorted(names, key=lambda name: parse_checkpoint_name(name) or (0, 0), reverse=True)


def consider(
    target: Target, run_id: str, name: str, lineage: Lineage, survey: Survey, nodes: int
) -> Candidate | Rejected:
    """Whether checkpoint `name` is complete and belongs to the living history; `nodes` is the present fleet.

    InvalidInputError when it belongs to another run; ExternalServiceError when the target does not answer.
    """
    if (newer := lineage.disowned_by(name)) is not None:
        return Rejected(name, f"published after generation {newer} had gone on from an older one")
    holders = {local.part.node: rank for rank, node in enumerate(survey) if (local := node.get(name)) is not None}
    source = f"{target.uri}/{run_id}/{name}/{MANIFEST}"
    try:
        manifest = unseal(Manifest, target.get_bytes(f"{run_id}/{name}/{MANIFEST}"), source)
    except CorruptCheckpointError as error:
        return Rejected(name, str(error), damaged=True)
    except MissingObjectError:
        return _from_parts(name, holders, survey, nodes)
    if manifest.run_id != run_id or manifest.name != name:
        raise InvalidInputError(
            "checkpoint.remote",
            source,
            f"a checkpoint {name} of run {run_id}",
            f"it is {manifest.name} of run {manifest.run_id}: use another prefix or the right run_id",
        )
    return Candidate(manifest, "durable", holders)


def _from_parts(name: str, holders: Mapping[int, int], survey: Survey, nodes: int) -> Candidate | Rejected:
    if not holders:
        return Rejected(name, "never became complete: its manifest was not published")
    parts = [survey[rank][name].part for rank in holders.values()]
    wanted = parts[0].nodes
    if any((part.nodes, part.world_size, part.components) != (wanted, *_shape(parts[0])) for part in parts):
        return Rejected(name, "its parts on the nodes' disks do not fit together")
    missing = [node for node in range(wanted) if node not in holders]
    if missing:
        return Rejected(name, f"never became complete: part {missing[0]} of {wanted} is gone with its node")
    manifest = manifest_of(parts)
    return Candidate(manifest, "this node" if nodes == 1 else "several nodes", holders)


def _shape(part: PartManifest) -> tuple[int, object]:
    return part.world_size, part.components


def manifest_of(parts: Sequence[PartManifest]) -> Manifest:
    """The global manifest that these parts (all of a checkpoint) add up to."""
    first = min(parts, key=lambda part: part.node)
    return Manifest(
        run_id=first.run_id,
        name=first.name,
        step=first.step,
        generation=first.generation,
        world_size=first.world_size,
        nodes=first.nodes,
        digest=first.digest,
        components=first.components,
        files=tuple(file for part in sorted(parts, key=lambda part: part.node) for file in part.files),
        save_id=f"from-parts-of-{first.name}",
        created_unix_seconds=0.0,
    )
