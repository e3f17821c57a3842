"""From verified files to a state in memory: what each rank needs of a checkpoint, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.tensor import DTensor

from harness.checkpoint.assemble import Assembly
from harness.checkpoint.components import ComponentState, check_module_matches, load_rank_bytes, unwrapped
from harness.checkpoint.manifest import Manifest
from harness.checkpoint.names import DOCUMENT, METADATA, PROGRESS, rank_file_name
from harness.checkpoint.progress import Progress
from harness.checkpoint.shards import LoadWork, execute_load, plan_load, read_metadata, stored_shapes
from harness.errors import CorruptCheckpointError, InvalidInputError
from harness.validation import parse

States = Mapping[str, ComponentState]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one rank reads."""

    works: dict[str, LoadWork]
    files: frozenset[str]
    """Relative to the checkpoint; without the index files, which are there already."""


@dataclass(frozen=True, slots=True)
class Loadable:
    """A checkpoint's content on this rank, verified and read, not yet given to the components."""

    progress: Progress
    documents: dict[str, bytes]
    tensors: dict[str, Mapping[str, torch.Tensor]]
    missing: tuple[str, ...]
    """Per-rank components of which no state was saved for a rank of this number."""


def index_files(manifest: Manifest, states: States) -> set[str]:
    """The small files that say where everything else is."""
    there = {file.path for file in manifest.files}
    wanted = {PROGRESS}
    for name, state in states.items():
        if not state.per_rank:
            wanted.add(f"{name}/{DOCUMENT}")
            wanted.update({f"{name}/{METADATA}"} & there)
    return wanted


def plan_reading(assembly: Assembly, components: Mapping[str, Any], states: States, rank: int) -> Reading:
    """What this rank has to read to fill its components; InvalidInputError when they are another model's."""
    there = {file.path for file in assembly.manifest.files}
    works: dict[str, LoadWork] = {}
    files: set[str] = set()
    for name, state in states.items():
        if state.per_rank:
            files.update({f"{name}/{rank_file_name(rank)}"} & there)
            continue
        metadata = Metadata({}, storage_data={})
        if f"{name}/{METADATA}" in there:
            metadata = read_metadata((assembly.folder / name / METADATA).read_bytes(), name)
        if state.is_module:
            check_module_matches(name, state.tensors, stored_shapes(metadata))
        works[name] = plan_load(name, metadata, _targets(name, components[name], state, metadata))
        files |= works[name].files
    if unlisted := files - there:
        raise CorruptCheckpointError(f"an index names the file {min(unlisted)!r}, which the manifest does not list")
    return Reading(works, frozenset(files))


def _targets(name: str, holder: Any, state: ComponentState, metadata: Metadata) -> dict[str, torch.Tensor]:
    """Tensors to fill: a sharded one in place, where the component has it; everything else whole, on the CPU."""
    component = unwrapped(holder)
    parameters: list[torch.Tensor] = []
    if isinstance(component, torch.optim.Optimizer):
        parameters = [parameter for group in component.param_groups for parameter in group["params"]]
    targets: dict[str, torch.Tensor] = {}
    for key, stored in metadata.state_dict_metadata.items():
        if not isinstance(stored, TensorStorageMetadata):
            raise CorruptCheckpointError(f"{name}: {key} is stored in a form that this release does not read")
        mine = state.tensors.get(key)
        if isinstance(mine, DTensor):
            if mine.shape != stored.size:
                raise InvalidInputError(
                    f"component {name}: {key}", list(mine.shape), f"the shape {list(stored.size)} of the checkpoint"
                )
            targets[key] = mine
        elif (like := _sharded_parameter(key, parameters, stored)) is not None:
            targets[key] = torch.zeros_like(like, dtype=stored.properties.dtype)
        else:
            targets[key] = torch.empty(stored.size, dtype=stored.properties.dtype)
    return targets


def _sharded_parameter(key: str, parameters: list[torch.Tensor], stored: TensorStorageMetadata) -> torch.Tensor | None:
    """The sharded parameter to which the optimizer state ``state.<index>.<name>`` belongs, when it has its shape.

    A fresh optimizer has no state to fill in place; the state is sharded as its parameter is.
    """
    head, _, rest = key.partition(".")
    index = rest.partition(".")[0]
    if head != "state" or not index.isdecimal() or int(index) >= len(parameters):
        return None
    parameter = parameters[int(index)].detach()
    return parameter if isinstance(parameter, DTensor) and parameter.shape == stored.size else None


def interpret(assembly: Assembly, reading: Reading, states: States, rank: int) -> Loadable:
    """Read the files, which `assembly` has verified."""
    progress_file = assembly.folder / PROGRESS
    try:
        progress = parse(Progress, json.loads(progress_file.read_bytes()), source=PROGRESS)
    except (ValueError, InvalidInputError) as error:
        raise CorruptCheckpointError(f"{assembly.manifest.name}: {error}") from error
    documents: dict[str, bytes] = {}
    tensors: dict[str, Mapping[str, torch.Tensor]] = {}
    missing = []
    for name, state in states.items():
        if not state.per_rank:
            execute_load(assembly.folder, reading.works[name])
            documents[name] = (assembly.folder / name / DOCUMENT).read_bytes()
            tensors[name] = reading.works[name].targets
        elif (path := f"{name}/{rank_file_name(rank)}") in reading.files:
            documents[name], tensors[name] = load_rank_bytes((assembly.folder / path).read_bytes())
        else:
            missing.append(name)
    return Loadable(progress, documents, tensors, tuple(missing))
