"""State that is not a tensor, as JSON: exact round trips of numbers and containers, and no pickle anywhere.

Tensors are taken out and replaced by their name, so that they can be written, shared out and resharded by DCP.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from harness.errors import CorruptCheckpointError, InvalidInputError

Path = tuple[object, ...]


def encode(value: Any, tensors: dict[str, torch.Tensor], *, where: str) -> Any:
    """`value` as JSON-ready data; its tensors are added to `tensors` under names like ``state.0.exp_avg``.

    InvalidInputError for anything that would not come back exactly as it is (`where` names the component).
    """
    return _Encoder(tensors, where).encode(value, ())


def decode(data: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The value that `encode` was given; CorruptCheckpointError for data that it cannot have written."""
    if isinstance(data, list):
        return [decode(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        (tag, content), *_ = data.items()
        if tag.startswith("$"):
            read = _READERS.get(tag)
            if read is None:
                raise CorruptCheckpointError(f"a state document holds the unknown kind {tag!r}: upgrade this release")
            return read(content, tensors)
    return {key: decode(item, tensors) for key, item in data.items()}


class _Encoder:
    def __init__(self, tensors: dict[str, torch.Tensor], where: str) -> None:
        self._tensors, self._where = tensors, where

    def encode(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if value is None or kind in {bool, int, str}:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is list:
            return [self.encode(item, (*path, index)) for index, item in enumerate(value)]
        if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._take(value, path)}
        if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject and value.dtype.names is None:
            raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
            shape = None if isinstance(value, np.generic) else list(value.shape)
            return {"$numpy": {"dtype": value.dtype.str, "shape": shape, "base64": raw}}
        tag, content = _plain(value)
        if tag is None:
            at = ".".join(str(part) for part in path) or "state_dict()"
            raise InvalidInputError(
                f"component {self._where}: {at}",
                f"a {kind.__module__}.{kind.__qualname__}",
                "tensors, numbers, strings, NumPy arrays and lists, tuples, sets and dicts of them",
                "turn it into these in state_dict() and back in load_state_dict()",
            )
        return {tag: self._encode_items(content, path)}

    def _encode_items(self, content: Any, path: Path) -> Any:
        if isinstance(content, _Pairs):
            return [[self.encode(key, (*path, "key")), self.encode(item, (*path, key))] for key, item in content]
        if isinstance(content, list):
            return [self.encode(item, (*path, index)) for index, item in enumerate(content)]
        return content

    def _take(self, tensor: torch.Tensor, path: Path) -> str:
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            raise InvalidInputError(
                f"component {self._where}: {'.'.join(map(str, path))}",
                f"a {tensor.layout} tensor on {tensor.device}",
                "a dense tensor that has its data",
            )
        name = ".".join(str(part) for part in path)
        unique, count = name, 1
        while unique in self._tensors:  # ("a.b", "c") and ("a", "b.c") read alike
            count += 1
            unique = f"{name}~{count}"
        self._tensors[unique] = tensor.detach()
        return unique


class _Pairs(list[tuple[Any, Any]]):
    """The items of a mapping."""


def _plain(value: Any) -> tuple[str | None, Any]:
    """(tag, content) of the less usual containers and scalars; (None, None) for what is not supported."""
    kind = type(value)
    if kind in _MAPPINGS:
        return _MAPPINGS[kind], _Pairs(value.items())
    if kind in _SEQUENCES:
        return _SEQUENCES[kind], sorted(value, key=repr) if kind in {set, frozenset} else list(value)
    if kind is deque and value.maxlen is None:
        return "$deque", list(value)
    if kind is bytes:
        return "$bytes", base64.b64encode(value).decode("ascii")
    if kind is complex:
        return "$complex", [value.real, value.imag]
    if kind is torch.Size:
        return "$size", list(value)
    if kind is torch.dtype:
        return "$dtype", str(value).removeprefix("torch.")
    if kind is torch.device:
        return "$device", str(value)
    return None, None


_MAPPINGS: dict[type, str] = {dict: "$dict", OrderedDict: "$ordered_dict", Counter: "$counter"}
_SEQUENCES: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}


def _read_pairs(make: Callable[[Any], Any]) -> Callable[[Any, Mapping[str, torch.Tensor]], Any]:
    return lambda content, tensors: make((decode(key, tensors), decode(item, tensors)) for key, item in content)


def _read_items(make: Callable[[Any], Any]) -> Callable[[Any, Mapping[str, torch.Tensor]], Any]:
    return lambda content, tensors: make(decode(item, tensors) for item in content)


def _read_tensor(content: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if content not in tensors:
        raise CorruptCheckpointError(f"a state document names the tensor {content!r}, which the checkpoint lacks")
    return tensors[content]


def _read_numpy(content: Any, _: Mapping[str, torch.Tensor]) -> Any:
    dtype = np.dtype(content["dtype"])
    flat = np.frombuffer(base64.b64decode(content["base64"]), dtype=dtype)
    return flat[0] if content["shape"] is None else flat.reshape(content["shape"]).copy()


def _read_dtype(content: Any, _: Mapping[str, torch.Tensor]) -> torch.dtype:
    dtype = getattr(torch, str(content), None)
    if not isinstance(dtype, torch.dtype):
        raise CorruptCheckpointError(f"a state document names the unknown type torch.{content}")
    return dtype


_READERS: dict[str, Callable[[Any, Mapping[str, torch.Tensor]], Any]] = {
    "$tensor": _read_tensor,
    "$numpy": _read_numpy,
    "$dtype": _read_dtype,
    "$float": lambda content, _: float(content),
    "$bytes": lambda content, _: base64.b64decode(content),
    "$complex": lambda content, tensors: complex(*(decode(part, tensors) for part in content)),
    "$size": lambda content, _: torch.Size(content),
    "$device": lambda content, _: torch.device(content),
    "$dict": _read_pairs(dict),
    "$ordered_dict": _read_pairs(OrderedDict),
    "$counter": _read_pairs(lambda pairs: Counter(dict(pairs))),
    "$tuple": _read_items(tuple),
    "$set": _read_items(set),
    "$frozenset": _read_items(frozenset),
    "$deque": _read_items(deque),
}
