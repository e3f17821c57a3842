"""Components: the named state holders of a job, read into tensors and a document, and loaded back."""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from harness.checkpoint.documents import decode, encode
from harness.checkpoint.names import check_component_name
from harness.errors import CorruptCheckpointError, InvalidInputError

PER_RANK_COMPONENT = "rng"


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One component's state at one moment; the tensors are the live ones."""

    tensors: dict[str, torch.Tensor]
    document: Any
    per_rank: bool
    is_module: bool

    def shapes_digest(self) -> str:
        """SHA-256 over names, global shapes and types of the tensors."""
        lines = sorted(f"{name} {list(tensor.shape)} {tensor.dtype}\n" for name, tensor in self.tensors.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def tensor_shapes(self) -> dict[str, tuple[list[int], str]]:
        """Name → (global shape, dtype) of the tensors."""
        return {name: (list(tensor.shape), str(tensor.dtype)) for name, tensor in self.tensors.items()}

    def signature(self) -> list[str]:
        """What a plan for writing depends on."""
        return [
            f"{name} {list(tensor.shape)} {tensor.dtype} {tensor.device.type} "
            f"{tensor.placements if isinstance(tensor, DTensor) else ''}"
            for name, tensor in self.tensors.items()
        ]

    def document_bytes(self) -> bytes:
        """The document, as it is stored."""
        return (json.dumps(self.document, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")

    def rank_bytes(self) -> bytes:
        """The whole of a per-rank component, loadable with ``weights_only``."""
        buffer = io.BytesIO()
        tensors = {name: tensor.detach().cpu() for name, tensor in self.tensors.items()}
        torch.save({"document": self.document_bytes().decode("ascii"), "tensors": tensors}, buffer)
        return buffer.getvalue()


def unwrapped(component: Any) -> Any:
    """The module inside DDP and torch.compile wrappers: a checkpoint must not depend on them."""
    while True:
        if isinstance(component, DistributedDataParallel):
            component = component.module
        elif isinstance(component, nn.Module) and hasattr(component, "_orig_mod"):
            component = component._orig_mod
        else:
            return component


def read_states(components: Mapping[str, Any]) -> dict[str, ComponentState]:
    """The present state of every component, by name; InvalidInputError for what cannot be a component."""
    if not components:
        raise InvalidInputError("components", "none", "at least one, such as {'model': model}")
    return {check_component_name(name): _read_state(name, holder) for name, holder in components.items()}


def _read_state(name: str, holder: Any) -> ComponentState:
    component = unwrapped(holder)
    if not callable(getattr(component, "state_dict", None)) or not callable(
        getattr(component, "load_state_dict", None)
    ):
        raise InvalidInputError(
            f"component {name}", f"a {type(component).__name__}", "an object with state_dict() and load_state_dict()"
        )
    state = component.state_dict()
    versions = getattr(state, "_metadata", None)
    tensors: dict[str, torch.Tensor] = {}
    # A module's state is an OrderedDict with a private attribute; what counts is its items and that attribute.
    content = dict(state) if isinstance(state, OrderedDict) else state
    document = {"state": encode(content, tensors, where=name)}
    if versions is not None:
        document["module_versions"] = encode(dict(versions), {}, where=name)
    return ComponentState(
        tensors=tensors,
        document=document,
        per_rank=name == PER_RANK_COMPONENT or bool(getattr(component, "per_rank", False)),
        is_module=isinstance(component, nn.Module),
    )


def document_state(name: str, document: bytes, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The component's state, as its `state_dict` gave it, from what was stored of it."""
    try:
        stored = json.loads(document)
        state = decode(stored["state"], tensors)
        if "module_versions" in stored:
            state = OrderedDict(state)
            # Where nn.Module keeps the versions of its parts, for load_state_dict to upgrade old states by.
            vars(state)["_metadata"] = OrderedDict(decode(stored["module_versions"], {}))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"component {name}: its document cannot be read: {error}") from error
    return state


def load_component(name: str, holder: Any, document: bytes, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load a stored state into a component; InvalidInputError when the component refuses it."""
    state = document_state(name, document, tensors)
    try:
        unwrapped(holder).load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"component {name}",
            "the state in the checkpoint",
            "a state that this component accepts: start with the model and optimizer that saved it, or a new run_id",
            " ".join(str(error).split())[:200],
        ) from error


def load_rank_bytes(data: bytes) -> tuple[bytes, dict[str, torch.Tensor]]:
    """(document, tensors) of one rank's file of a per-rank component."""
    try:
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return stored["document"].encode("ascii"), dict(stored["tensors"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise CorruptCheckpointError(f"a per-rank state cannot be read: {error}") from error


def check_module_matches(
    name: str,
    mine: Mapping[str, torch.Tensor],
    stored: Mapping[str, tuple[list[int], str]],
    *,
    where: str = "in the checkpoint",
) -> None:
    """InvalidInputError naming the first tensor in which a module differs from what was found `where`."""
    expected = "the model that this run was started with, or a new run_id for another one"
    for missing in sorted(stored.keys() - mine.keys()):
        raise InvalidInputError(f"component {name}", f"no tensor {missing}", expected, f"there is one {where}")
    for extra in sorted(mine.keys() - stored.keys()):
        raise InvalidInputError(f"component {name}", f"tensor {extra}", expected, f"there is none {where}")
    for key, tensor in mine.items():
        shape, dtype = stored[key]
        if (list(tensor.shape), str(tensor.dtype)) != (shape, dtype):
            raise InvalidInputError(
                f"component {name}: {key}",
                f"{list(tensor.shape)} {tensor.dtype}",
                expected,
                f"{shape} {dtype} {where}",
            )


def plan_signature(states: Mapping[str, ComponentState]) -> str:
    """A digest of everything that a plan for writing depends on."""
    lines: Iterable[str] = (
        f"{name} {state.per_rank} {state.is_module} {state.signature()}\n" for name, state in sorted(states.items())
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def expected_bytes(components: Mapping[str, Any], world_size: int) -> int:
    """What optimizers without state yet will add, on this rank, at their first step: an estimate, to reserve memory by.

    Torch's own optimizers keep tensors like the parameter: Adam and its kin (``betas``) two, or three with ``amsgrad``;
    SGD one with momentum; RMSprop (``alpha``) one, and one each with momentum and ``centered``.  Others count nothing.
    """
    total = 0
    for holder in components.values():
        optimizer = unwrapped(holder)
        if not isinstance(optimizer, torch.optim.Optimizer) or optimizer.state:
            continue
        for group in optimizer.param_groups:
            tensors_each = (
                2 * ("betas" in group)
                + bool(group.get("amsgrad"))
                + bool(group.get("momentum"))
                + ("alpha" in group and "betas" not in group)
                + bool(group.get("centered"))
            )
            for parameter in group["params"]:
                if parameter.requires_grad:
                    shared = not isinstance(parameter, DTensor)  # replicas share the writing, shards are written here
                    size = parameter.nbytes if shared else parameter.to_local().nbytes
                    total += tensors_each * (-(-size // world_size) if shared else size)
    return total + total // 32 + (1024 * 1024 if total else 0)
