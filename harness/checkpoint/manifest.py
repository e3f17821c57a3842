"""Manifests: what a checkpoint consists of, byte for byte.  Strict, versioned, and sealed by a digest of their own.

A part manifest lists one node's files; the global manifest lists all of them and is published last.  Both are JSON in
one exact encoding: a file that differs from what its own content would be encoded as is corrupt, so that not even a
changed space passes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from harness.checkpoint.names import check_component_name, check_relative_path, parse_checkpoint_name
from harness.errors import CorruptCheckpointError, InvalidInputError
from harness.validation import StrictModel

SCHEMA_VERSION: Literal[1] = 1

DigestName = Literal["xxh3_128", "crc32c", "sha256"]


class FileEntry(StrictModel):
    """One file of a checkpoint."""

    path: str
    """Relative to the checkpoint, with ``/``."""
    bytes: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{8,64}$")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        try:
            return check_relative_path(path)
        except CorruptCheckpointError as error:
            raise ValueError(str(error)) from None

    @property
    def component(self) -> str | None:
        """The component whose folder holds the file; None at the top."""
        head, slash, _ = self.path.partition("/")
        return head if slash else None


class ComponentEntry(StrictModel):
    """One component of a checkpoint."""

    kind: Literal["sharded", "per-rank"]
    """``sharded``: one state of the whole job, loadable at any world size.  ``per-rank``: one state for each rank."""
    tensors: int = Field(ge=0)
    shapes_digest: str
    """Over names, shapes and types of the tensors: what another config would change."""


class _Described(StrictModel):
    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    name: str
    step: int = Field(ge=0)
    generation: int = Field(ge=1)
    world_size: int = Field(ge=1)
    nodes: int = Field(ge=1)
    digest: DigestName
    components: dict[str, ComponentEntry]
    files: tuple[FileEntry, ...]

    @field_validator("components")
    @classmethod
    def _component_names(cls, components: dict[str, ComponentEntry]) -> dict[str, ComponentEntry]:
        try:
            for name in components:
                check_component_name(name)
        except InvalidInputError as error:
            raise ValueError(str(error)) from None
        return components

    @model_validator(mode="after")
    def _consistent(self) -> _Described:
        if parse_checkpoint_name(self.name) != (self.step, self.generation):
            raise ValueError(f"name {self.name!r} does not say step {self.step} and generation {self.generation}")
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is listed twice")
        return self


class PartManifest(_Described):
    """What one node wrote: lies beside its files, and proves that this part is whole."""

    kind: Literal["part"] = "part"
    node: int = Field(ge=0)

    @model_validator(mode="after")
    def _node_exists(self) -> PartManifest:
        if self.node >= self.nodes:
            raise ValueError(f"node {self.node} of {self.nodes}")
        return self


class Manifest(_Described):
    """The whole checkpoint: its presence on the durable target proves that all parts are there."""

    kind: Literal["checkpoint"] = "checkpoint"
    save_id: str
    """Unique to one publication, so that a conditional put whose answer was lost can be told from another's."""
    created_unix_seconds: float
    torch_version: str = ""
    product_version: str = ""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    def entry(self, path: str) -> FileEntry:
        """The file at `path`; CorruptCheckpointError when the checkpoint has none."""
        for file in self.files:
            if file.path == path:
                return file
        raise CorruptCheckpointError(f"{self.name} has no file {path}")


Sealed = TypeVar("Sealed", bound=StrictModel)


def seal(model: StrictModel) -> bytes:
    """`model` as a JSON document with a digest over its content, in the one encoding that `unseal` accepts."""
    content = model.model_dump(mode="json")
    return _encode({"sha256": hashlib.sha256(_encode(content)).hexdigest(), "content": content})


def unseal(kind: type[Sealed], data: bytes, source: str) -> Sealed:
    """The model in a sealed document; CorruptCheckpointError when a byte differs from what was sealed."""
    try:
        document: Any = json.loads(data)
        content = document["content"]
        intact = hashlib.sha256(_encode(content)).hexdigest() == document["sha256"] and _encode(document) == data
    except (ValueError, KeyError, TypeError, RecursionError):
        intact, content = False, None
    if not intact:
        raise CorruptCheckpointError(f"{source} is damaged: its content is not what its digest says")
    try:
        return kind.model_validate(content)
    except ValidationError as report:
        error = report.errors(include_url=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CorruptCheckpointError(
                f"{source} has schema version {version}, this release reads {SCHEMA_VERSION}: upgrade it"
            ) from None
        raise CorruptCheckpointError(f"{source} cannot be used: {where}: {error['msg']}") from None


def _encode(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")
