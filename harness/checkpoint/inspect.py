"""Look at checkpoints without training: list them, show one, verify every byte.  Needs no torch.

A location is a durable target or a node's own directory: the root that holds runs, a run in it, or one checkpoint.
What ``python -m harness ls|show|verify`` prints is made of these functions' results.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.checkpoint.digests import digest_file
from harness.checkpoint.generation import Lineage, read_lineage
from harness.checkpoint.manifest import FileEntry, Manifest, PartManifest, unseal
from harness.checkpoint.names import MANIFEST, NEXT_LOSS, PROGRESS, parse_checkpoint_name, parse_part_name, part_name
from harness.checkpoint.next_loss import NextLoss
from harness.checkpoint.targets import MissingObjectError, Target, open_target
from harness.errors import CorruptCheckpointError, InvalidInputError

_FILES_AT_ONCE = 4
"""Of a store that has to send them.  Local ones take two threads each (see `digest_file`): as many as have cores."""

State = Literal["complete", "part", "incomplete", "damaged", "void"]
"""``complete``: its manifest vouches for all of it.  ``part``: one node's part, as on a node's own disk.
``incomplete``: never published.  ``damaged``: its manifest cannot be used.  ``void``: disowned by a newer generation.
"""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One checkpoint at a location."""

    run_id: str
    name: str
    step: int
    generation: int
    state: State
    bytes: int
    files: int
    nodes: int | None
    world_size: int | None
    created_unix_seconds: float | None
    components: tuple[str, ...]
    note: str = ""
    """Why it is not complete."""


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """What verification found about one checkpoint."""

    run_id: str
    name: str
    state: State
    files_checked: int
    bytes_checked: int
    problems: tuple[str, ...]
    """One line each; none when every byte is what its manifest says."""

    @property
    def intact(self) -> bool:
        return not self.problems


def list_checkpoints(location: str | Path, *, endpoint_url: str | None = None) -> tuple[CheckpointInfo, ...]:
    """The checkpoints at a location, newest first within each run.

    InvalidInputError when there are none, ExternalServiceError when the place does not answer.
    """
    target, found = find_checkpoints(location, endpoint_url)
    return tuple(describe_checkpoint(target, prefix, lineage) for prefix, lineage in found)


def show_checkpoint(location: str | Path, *, endpoint_url: str | None = None) -> dict[str, Any]:
    """One checkpoint in full: its description, files, components and progress, as JSON-ready data.

    Of a run or a root with several, the newest complete one (else the newest).
    """
    target, found = find_checkpoints(location, endpoint_url)
    infos = [(describe_checkpoint(target, prefix, lineage), prefix) for prefix, lineage in found]
    info, prefix = next((pair for pair in infos if pair[0].state == "complete"), infos[0])
    document: dict[str, Any] = {"location": f"{target.uri}/{prefix}".rstrip("/"), **asdict(info)}
    document |= {"objects": info.files, "files": None, "components": {}, "digest": None, "torch_version": None}
    if info.state != "damaged" and (manifest := read_manifest(target, prefix)) is not None:
        content = manifest.model_dump(mode="json")
        document |= {
            key: content[key]
            for key in document.keys() & {"digest", "components", "files", "torch_version"}
            if key in content
        }
    try:
        document["progress"] = json.loads(target.get_bytes(prefix + PROGRESS))
    except (MissingObjectError, ValueError):
        document["progress"] = None  # a part without rank 0, or damaged: verify tells which
    return document


def verify_checkpoints(location: str | Path, *, endpoint_url: str | None = None) -> tuple[VerifiedCheckpoint, ...]:
    """Read every byte of every complete checkpoint and part at a location and compare it with its manifest.

    A checkpoint that was never completed is reported, not counted as damaged: its presence is normal after a reclaim.
    """
    target, found = find_checkpoints(location, endpoint_url)
    return tuple(_verify(target, prefix, describe_checkpoint(target, prefix, lineage)) for prefix, lineage in found)


def find_checkpoints(location: str | Path, endpoint_url: str | None) -> tuple[Target, list[tuple[str, Lineage]]]:
    """The target, and for each checkpoint in it the prefix of its keys and the lineage of its run."""
    try:
        target = open_target(location, endpoint_url=endpoint_url, create=False)
    except InvalidInputError as error:  # a person has typed a location, and no harness.yaml's remote
        raise InvalidInputError("location", error.value, error.expected, error.hint) from None
    here = target.children("")
    if any(name == MANIFEST or parse_part_name(name) is not None for name in here):
        return target, [("", Lineage(()))]
    runs = [""] if any(map(parse_checkpoint_name, here)) else [f"{name}/" for name in here]
    found = [(prefix, lineage) for run in runs for prefix, lineage in _checkpoints_of(target, run)]
    if not found:
        raise InvalidInputError(
            "location", location, "a checkpoint, a run's prefix, or a directory or bucket that holds runs"
        )
    return target, found


def _checkpoints_of(target: Target, run: str) -> Iterator[tuple[str, Lineage]]:
    names = [name for name in target.children(run) if parse_checkpoint_name(name)]
    if not names:
        return
    # A location may be the run itself, and then the run's id is not among its keys.
    lineage = read_lineage(target, run.rstrip("/"))
    for name in sorted(names, key=lambda name: parse_checkpoint_name(name) or (0, 0), reverse=True):
        yield f"{run}{name}/", lineage


def read_manifest(target: Target, prefix: str) -> Manifest | PartManifest | None:
    """What describes the checkpoint: the part manifest on a node's disk, else the global one; None without either.

    On a node's disk a copy of the global manifest may lie beside the part: it lists files that are elsewhere.
    """
    names = target.children(prefix)
    parts = [name for name in names if parse_part_name(name) is not None]
    manifest = None
    if MANIFEST in names:
        manifest = unseal(Manifest, target.get_bytes(prefix + MANIFEST), prefix + MANIFEST)
        if len(parts) == manifest.nodes:
            return manifest
    if len(parts) == 1:
        return unseal(PartManifest, target.get_bytes(prefix + parts[0]), prefix + parts[0])
    return manifest


def describe_checkpoint(target: Target, prefix: str, lineage: Lineage) -> CheckpointInfo:
    objects = target.list(prefix)
    name = prefix.rstrip("/").rpartition("/")[2] or target.uri.rpartition("/")[2]
    try:
        manifest = read_manifest(target, prefix)
        note = ""
    except CorruptCheckpointError as error:
        manifest, note = None, str(error)
    step, generation = parse_checkpoint_name(manifest.name if manifest else name) or (0, 0)
    state: State
    if note:
        state = "damaged"
    elif manifest is None:
        state, note = "incomplete", "its manifest was not published"
    elif (newer := lineage.disowned_by(manifest.name)) is not None:
        state, note = "void", f"published after generation {newer} had gone on from an older one"
    else:
        state = "complete" if isinstance(manifest, Manifest) or manifest.nodes == 1 else "part"
    return CheckpointInfo(
        run_id=manifest.run_id if manifest else prefix.rpartition(f"{name}/")[0].rstrip("/") or "?",
        name=manifest.name if manifest else name,
        step=step,
        generation=generation,
        state=state,
        bytes=sum(found.bytes for found in objects),
        files=len(objects),
        nodes=manifest.nodes if manifest else None,
        world_size=manifest.world_size if manifest else None,
        created_unix_seconds=manifest.created_unix_seconds if isinstance(manifest, Manifest) else None,
        components=tuple(sorted(manifest.components)) if manifest else (),
        note=note,
    )


def _verify(target: Target, prefix: str, info: CheckpointInfo) -> VerifiedCheckpoint:
    if info.state == "damaged":
        return VerifiedCheckpoint(info.run_id, info.name, info.state, 0, 0, (info.note,))
    if info.state == "incomplete":
        return VerifiedCheckpoint(info.run_id, info.name, info.state, 0, 0, ())
    manifest = read_manifest(target, prefix)
    assert manifest is not None
    problems, size = [], 0
    local = target.local_path(prefix + MANIFEST) is not None
    at_once = min(_FILES_AT_ONCE, max(1, (os.cpu_count() or 1) // 2)) if local else _FILES_AT_ONCE
    with ThreadPoolExecutor(at_once, thread_name_prefix="checkpoint-verify") as pool:
        checks = pool.map(lambda entry: _check_file(target, prefix, entry, manifest.digest), manifest.files)
        for entry, problem in zip(manifest.files, checks, strict=True):
            if problem is None:
                size += entry.bytes
            else:
                problems.append(problem)
    there = {found.key[len(prefix) :] for found in target.list(prefix)}
    listed = {entry.path for entry in manifest.files} | {MANIFEST, NEXT_LOSS}
    parts = {path for path in there if parse_part_name(path) is not None}
    problems += [f"{path}: not listed in the manifest" for path in sorted(there - listed - parts)]
    if isinstance(manifest, Manifest):
        wanted = {part_name(node) for node in range(manifest.nodes)}
        problems += [f"{path}: missing" for path in sorted(wanted - parts)]
        problems += filter(None, (_check_part(target, prefix, path, manifest) for path in sorted(parts)))
    if NEXT_LOSS in there:
        problems += filter(None, [_check_next_loss(target, prefix, manifest.name)])
    return VerifiedCheckpoint(info.run_id, info.name, info.state, len(manifest.files), size, tuple(problems))


def _check_part(target: Target, prefix: str, path: str, manifest: Manifest) -> str | None:
    """What is wrong with a node's part manifest: nothing is restored by it any more, but it must not lie either."""
    try:
        part = unseal(PartManifest, target.get_bytes(prefix + path), path)
    except CorruptCheckpointError as error:
        return f"{path}: {error}"
    same = part.name == manifest.name and part_name(part.node) == path and set(part.files) <= set(manifest.files)
    return None if same else f"{path}: describes other files than the manifest"


def _check_next_loss(target: Target, prefix: str, name: str) -> str | None:
    try:
        found = unseal(NextLoss, target.get_bytes(prefix + NEXT_LOSS), NEXT_LOSS)
    except CorruptCheckpointError as error:
        return f"{NEXT_LOSS}: {error}"
    return None if found.name == name else f"{NEXT_LOSS}: belongs to {found.name}"


def _check_file(target: Target, prefix: str, entry: FileEntry, algorithm: str) -> str | None:
    """What is wrong with one file; None when nothing is."""
    try:
        path = target.local_path(prefix + entry.path)
        if path is not None:
            size, digest = digest_file(path, algorithm)
        else:
            with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
                copy = Path(folder) / "object"
                target.get_file(prefix + entry.path, copy)
                size, digest = digest_file(copy, algorithm)
    except (FileNotFoundError, MissingObjectError):
        return f"{entry.path}: missing"
    except CorruptCheckpointError as error:
        return f"{entry.path}: {error}"
    except OSError as error:
        return f"{entry.path}: cannot be read: {error.strerror}"
    if size != entry.bytes:
        return f"{entry.path}: {size} bytes, expected {entry.bytes}"
    return None if digest == entry.digest else f"{entry.path}: differs from its digest"
