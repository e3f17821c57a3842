"""One component of a checkpoint as one file that other tools read: ``.pt`` (`torch.load`) or ``.safetensors``."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from harness.checkpoint.components import document_state
from harness.checkpoint.digests import digest_file
from harness.checkpoint.durable import fsync_directory
from harness.checkpoint.inspect import CheckpointInfo, describe_checkpoint, find_checkpoints, read_manifest
from harness.checkpoint.manifest import FileEntry, Manifest, PartManifest
from harness.checkpoint.names import DOCUMENT, METADATA
from harness.checkpoint.shards import execute_load, plan_load, read_metadata
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import CheckpointError, CorruptCheckpointError, InvalidInputError, did_you_mean

SUFFIXES = (".pt", ".safetensors")
_DEFAULT_COMPONENT = "model"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    run_id: str
    checkpoint: str
    step: int
    component: str
    output: Path
    tensors: int
    bytes: int


def export_checkpoint(
    location: str | Path,
    output: Path,
    *,
    component: str | None = None,
    endpoint_url: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a component of the checkpoint at `location` (of several, the newest complete one) to `output`.

    ``.pt`` holds the component's `state_dict()` as it was saved; ``.safetensors`` the tensors alone, and only of a
    component that is nothing but named tensors, as a module's state is.  Every byte is verified before it is read, the
    file appears by one rename, and one that exists is replaced only with `force`.

    Needs memory for the component once.  Raises InvalidInputError for a location, component or output that will not
    do, CorruptCheckpointError when the checkpoint is damaged.
    """
    if output.suffix not in SUFFIXES:
        raise InvalidInputError("OUT", output, f"a name that ends in {' or '.join(SUFFIXES)}")
    if output.exists() and not force:
        raise InvalidInputError("OUT", output, "a file that does not exist yet", "use --force to replace it")
    if not output.absolute().parent.is_dir():
        raise InvalidInputError("OUT", output, "a file in an existing folder")
    target, prefix, info = _choose(location, endpoint_url)
    manifest = read_manifest(target, prefix)
    assert manifest is not None
    name = _choose_component(manifest, component)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.absolute().parent) as scratch:
        folder = _obtain(target, prefix, manifest, name, Path(scratch))
        state, tensors = _read(folder, name, (entry.path for entry in manifest.files))
    notes = {"format": "pt", "run_id": info.run_id, "checkpoint": info.name, "step": str(info.step)}
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex}.tmp")
    try:
        if output.suffix == ".pt":
            torch.save(state, temporary)
        else:
            _save_safetensors(name, state, temporary, notes)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(output)
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(output.absolute().parent)
    return Exported(info.run_id, info.name, info.step, name, output, len(tensors), output.stat().st_size)


def _choose(location: str | Path, endpoint_url: str | None) -> tuple[Target, str, CheckpointInfo]:
    target, found = find_checkpoints(location, endpoint_url)
    infos = [(prefix, describe_checkpoint(target, prefix, lineage)) for prefix, lineage in found]
    for prefix, info in infos:
        if info.state == "complete":
            return target, prefix, info
    info = infos[0][1]
    why = "one node's part of it" if info.state == "part" else f"{info.state}: {info.note}"
    hint = "export from the durable target, which has all parts" if info.state == "part" else None
    raise InvalidInputError("SOURCE", location, "a place with a complete checkpoint", hint or f"{info.name} is {why}")


def _choose_component(manifest: Manifest | PartManifest, component: str | None) -> str:
    shared = sorted(name for name, entry in manifest.components.items() if entry.kind == "sharded")
    wanted = component or _DEFAULT_COMPONENT
    if wanted in shared:
        return wanted
    expected = f"one of {', '.join(shared)}, as {manifest.name} holds them"
    hint = did_you_mean(wanted, shared)
    if wanted in manifest.components:
        hint = "it is another one for each rank: it has no one state to export"
    raise InvalidInputError("--component", wanted if component else "nothing", expected, hint)


def _obtain(target: Target, prefix: str, manifest: Manifest | PartManifest, component: str, scratch: Path) -> Path:
    """A folder with the component's files below it, each verified: where they are, or fetched into `scratch`."""
    entries = [entry for entry in manifest.files if entry.component == component]
    here = target.local_path(prefix + entries[0].path)
    if here is not None:
        folder = here.parents[len(Path(entries[0].path).parts) - 1]
    else:
        folder = scratch
        (folder / component).mkdir()
    for entry in entries:
        path = folder / entry.path
        if here is None:
            try:
                target.get_file(prefix + entry.path, path)
            except MissingObjectError:
                raise CorruptCheckpointError(f"{entry.path} is missing on {target.uri}") from None
        _verify(path, entry, manifest.digest)
    return folder


def _verify(path: Path, entry: FileEntry, algorithm: str) -> None:
    try:
        found = digest_file(path, algorithm)
    except OSError as error:
        raise CorruptCheckpointError(f"{entry.path} cannot be read: {error.strerror}") from error
    if found != (entry.bytes, entry.digest):
        raise CorruptCheckpointError(f"{entry.path} differs from its digest: nothing was exported")


def _read(folder: Path, component: str, listed: Iterable[str]) -> tuple[Any, Mapping[str, torch.Tensor]]:
    metadata = Metadata({}, storage_data={})
    if f"{component}/{METADATA}" in set(listed):
        metadata = read_metadata((folder / component / METADATA).read_bytes(), component)
    tensors = {
        key: torch.empty(stored.size, dtype=stored.properties.dtype)
        for key, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata)
    }
    execute_load(folder, plan_load(component, metadata, tensors))
    return document_state(component, (folder / component / DOCUMENT).read_bytes(), tensors), tensors


def _save_safetensors(component: str, state: Any, path: Path, notes: dict[str, str]) -> None:
    from safetensors.torch import save_file

    if not isinstance(state, Mapping):
        raise _no_safetensors(component, f"a {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise _no_safetensors(component, f"{key}: {json.dumps(str(value))[:40]}")
    save_file(dict(state), path, metadata=notes)


def _no_safetensors(component: str, found: str) -> InvalidInputError:
    return InvalidInputError(
        "OUT", ".safetensors", f"a .pt file for component {component}", f"it holds more than named tensors: {found}"
    )
