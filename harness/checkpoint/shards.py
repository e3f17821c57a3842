"""Tensors on disk, in the format of PyTorch Distributed Checkpoint (DCP), so that another world size can load them.

DCP plans who writes what (replicated tensors are shared out between the ranks) and what is read for which shard.
Writing goes through a digesting file.  DCP's index, ``.metadata``, is a pickle: it is written for plain `dcp.load`,
and read here by an unpickler that knows DCP's own record types and nothing else.
"""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.checkpoint.utils import find_state_dict_object

from harness.checkpoint.digests import DigestingFile
from harness.checkpoint.host_memory import HostMemory
from harness.checkpoint.manifest import FileEntry
from harness.checkpoint.names import shard_name
from harness.checkpoint.ranks import Ranks, together
from harness.errors import CorruptCheckpointError, InvalidInputError

_DCP_VERSION = "1.0.0"
_ALIGNMENT = 64
_NAN_CHECK_ELEMENTS = 4 * 1024 * 1024
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class SharePlan:
    """Which tensors (or shards) this rank writes, by component; and on rank 0 the index of all of them."""

    signature: str
    items: dict[str, list[WriteItem]]
    metadata: dict[str, Metadata] = field(default_factory=dict)


def plan_shares(ranks: Ranks, signature: str, tensors: Mapping[str, Tensors]) -> SharePlan:
    """Share out the writing between the ranks; collective.  Replicated tensors are balanced by size."""
    planners: dict[str, DefaultSavePlanner] = {}

    def plan_locally() -> dict[str, SavePlan]:
        plans = {}
        for component, content in tensors.items():
            planners[component] = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
            planners[component].set_up_planner(dict(content), is_coordinator=ranks.rank == 0)
            plans[component] = planners[component].create_local_plan()
        return plans

    gathered = together(ranks, plan_locally)
    metadata: dict[str, Metadata] = {}

    def share_out() -> list[dict[str, SavePlan]]:
        shares: list[dict[str, SavePlan]] = [{} for _ in gathered]
        if ranks.rank == 0:
            for component, planner in planners.items():
                plans, metadata[component] = planner.create_global_plan([plan[component] for plan in gathered])
                for share, plan in zip(shares, plans, strict=True):
                    share[component] = plan
        return shares

    mine = together(ranks, share_out)[0][ranks.rank]
    return SharePlan(signature, {component: plan.items for component, plan in mine.items()}, metadata)


class HostBuffers:
    """This rank's share of the state in host memory: one stretch, touched once, pinned for CUDA, and reused.

    Parameters
    ----------
    reserve_bytes:  room to take in advance for state that is expected to appear (an optimizer's, at its first step).
    previous:       buffers that are no longer needed: their memory is used again where it is enough.
    """

    def __init__(
        self,
        plan: SharePlan,
        tensors: Mapping[str, Tensors],
        *,
        reserve_bytes: int = 0,
        previous: HostBuffers | None = None,
    ) -> None:
        self.plan = plan
        sources = {component: _sources(tensors[component], items) for component, items in plan.items.items()}
        flat = [source for found in sources.values() for source in found]
        needed = sum(map(_room, flat))
        pinned = any(source.is_cuda for source in flat)
        arena: HostMemory | None = None
        if previous is not None:
            arena, previous._arena = previous._arena, HostMemory(0)
            previous._buffers.clear()
        if arena is None or arena.nbytes < needed or (pinned and not arena.pinned):
            arena = None  # the old memory goes before the new comes: never two copies at once
            arena = HostMemory(needed + reserve_bytes, pinned=pinned)
        self._arena: HostMemory = arena
        self._buffers: dict[str, list[torch.Tensor]] = {}
        memory, offset = arena.numpy(), 0
        for component, found in sources.items():
            self._buffers[component] = []
            for source in found:
                # Not a view of the arena: `torch.save` would write the whole of a view's storage.
                buffer = torch.empty(source.shape, dtype=source.dtype)
                if source.numel():
                    count = source.numel()
                    buffer = torch.frombuffer(memory, dtype=source.dtype, count=count, offset=offset)
                self._buffers[component].append(buffer.reshape(source.shape))
                offset += _room(source)

    @property
    def bytes(self) -> int:
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer in buffers)

    @property
    def address(self) -> int:
        """Where the memory is: the same after a new plan that fitted into it."""
        return self._arena.address

    def copy_from(self, tensors: Mapping[str, Tensors]) -> None:
        """Copy the share; when it returns, the caller may change the tensors."""
        devices = set()
        for component, items in self.plan.items.items():
            for source, buffer in zip(_sources(tensors[component], items), self._buffers[component], strict=True):
                buffer.copy_(source, non_blocking=source.is_cuda)
                if source.is_cuda:
                    devices.add(source.device)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()

    def refuse_nan(self) -> None:
        """InvalidInputError naming the first copied tensor that holds NaN (infinities can be meant: masks are)."""
        for component, items in self.plan.items.items():
            for item, buffer in zip(items, self._buffers[component], strict=True):
                if not (buffer.is_floating_point() or buffer.is_complex()):
                    continue
                # In pieces: a mask of the whole tensor would be a quarter of it again.
                pieces = torch.split(buffer.reshape(-1), _NAN_CHECK_ELEMENTS)
                found = sum([int(piece.isnan().sum().item()) for piece in pieces])
                if found:
                    raise InvalidInputError(
                        f"component {component}: {item.index.fqn}",
                        f"NaN in {found} of {buffer.numel()} values",
                        "a state without NaN, as checkpoint.refuse_nan asks",
                        "the last good checkpoint stays: start again from it with a lower learning rate or without "
                        "the data that led here",
                    )

    def share(self, component: str) -> list[tuple[WriteItem, torch.Tensor]]:
        """What this rank writes of a component; nothing when it has no tensors."""
        return list(zip(self.plan.items.get(component, ()), self._buffers.get(component, ()), strict=True))


def _room(tensor: torch.Tensor) -> int:
    """Bytes that a tensor takes in the buffers: whole cache lines."""
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _sources(tensors: Tensors, items: list[WriteItem]) -> list[torch.Tensor]:
    """The tensor, or this rank's shard of it, that each item writes."""
    state = dict(tensors)
    return [find_state_dict_object(state, item.index).detach() for item in items]


_crc32_lock = threading.Lock()
_crc32_users = 0


@contextlib.contextmanager
def _without_crc32() -> Iterator[None]:
    """No CRC-32 in the records that `torch.save` writes: it costs more than the writing, and the digest covers them.

    A setting of the process: what a training script saves itself meanwhile has none either, and loads all the same.
    """
    global _crc32_users
    with _crc32_lock:
        if _crc32_users == 0:
            _crc32_before.append(torch.serialization.get_crc32_options())
            torch.serialization.set_crc32_options(False)
        _crc32_users += 1
    try:
        yield
    finally:
        with _crc32_lock:
            _crc32_users -= 1
            if _crc32_users == 0:
                torch.serialization.set_crc32_options(_crc32_before.pop())


_crc32_before: list[bool] = []


def write_share(
    folder: Path, component: str, rank: int, share: list[tuple[WriteItem, torch.Tensor]], algorithm: str
) -> tuple[FileEntry, list[WriteResult]]:
    """Write a rank's share of a component into one new file, digested on the way and forced to disk."""
    name = shard_name(rank)
    results = []
    size = sum(tensor.nbytes for _, tensor in share)
    with DigestingFile(folder / component / name, algorithm, expected_bytes=size) as file, _without_crc32():
        for item, tensor in share:
            start = file.tell()
            try:
                torch.save(tensor, cast("IO[bytes]", file))  # it needs write, tell and flush only
            except RuntimeError as error:
                raise file.error or error from error
            length = file.tell() - start
            info = dcp_filesystem._StorageInfo(name, start, length)
            results.append(WriteResult(index=item.index, size_in_bytes=length, storage_data=info))
        digest = file.finish()
    return FileEntry(path=f"{component}/{name}", bytes=file.size, digest=digest), results


def metadata_bytes(metadata: Metadata, results: list[list[WriteResult]]) -> bytes:
    """DCP's ``.metadata`` for what all ranks wrote of a component."""
    storage = {result.index: result.storage_data for written in results for result in written}
    complete = Metadata(
        state_dict_metadata=metadata.state_dict_metadata,
        planner_data=metadata.planner_data,
        storage_data=storage,
        storage_meta=dcp_metadata.StorageMeta(),
        version=_DCP_VERSION,
    )
    return pickle.dumps(complete)


_ALLOWED_CLASSES: dict[tuple[str, str], Any] = {
    **{
        (dcp_metadata.__name__, name): getattr(dcp_metadata, name)
        for name in (
            "Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
            "TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING",
        )
    },
    (dcp_filesystem.__name__, "_StorageInfo"): dcp_filesystem._StorageInfo,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("collections", "OrderedDict"): collections.OrderedDict,
}  # fmt: skip


class _MetadataUnpickler(pickle.Unpickler):
    """Knows DCP's record types and torch's dtypes; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in _ALLOWED_CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a checkpoint's index")
        return _ALLOWED_CLASSES[module, name]


def read_metadata(data: bytes, component: str) -> Metadata:
    """DCP's index from verified bytes; CorruptCheckpointError when it holds anything but DCP's own records."""
    try:
        found = _MetadataUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise CorruptCheckpointError(f"{component}: its index cannot be read: {error}") from error
    if not isinstance(found, Metadata) or not isinstance(found.storage_data, dict):
        raise CorruptCheckpointError(f"{component}: its index is not one of DCP")
    return found


def stored_shapes(metadata: Metadata) -> dict[str, tuple[list[int], str]]:
    """Name → (global shape, dtype) of the stored tensors."""
    return {
        name: (list(stored.size), str(stored.properties.dtype))
        for name, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata)
    }


@dataclass(frozen=True)
class LoadWork:
    """What one rank reads of one component."""

    component: str
    metadata: Metadata
    targets: dict[str, torch.Tensor]
    planner: DefaultLoadPlanner
    plan: LoadPlan

    @property
    def files(self) -> set[str]:
        """The files that are needed, relative to the checkpoint."""
        storage = self.metadata.storage_data
        return {f"{self.component}/{storage[item.storage_index].relative_path}" for item in self.plan.items}


def plan_load(component: str, metadata: Metadata, targets: dict[str, torch.Tensor]) -> LoadWork:
    """Plan to fill `targets` (plain tensors whole, DTensors with this rank's shards), in place."""
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(targets), metadata, is_coordinator=False)
    return LoadWork(component, metadata, targets, planner, planner.create_local_plan())


def execute_load(folder: Path, work: LoadWork) -> None:
    """Fill the targets from verified files below `folder`."""
    if not work.plan.items:
        return
    reader = dcp_filesystem.FileSystemReader(folder / work.component)
    reader.set_up_storage_reader(work.metadata, is_coordinator=False)
    reader.read_data(work.planner.finish_plan(work.plan), work.planner).wait()
