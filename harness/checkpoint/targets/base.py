"""What the harness asks of a durable place: a flat store of named objects with one conditional put."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import CheckpointError


class MissingObjectError(CheckpointError):
    """The durable target has no object of this name."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its key relative to the target, and its size."""

    key: str
    bytes: int


class Target(Protocol):
    """A durable target.  Keys are relative, with ``/``; every method raises ExternalServiceError when the place does
    not do its part (after its own retries), and MissingObjectError where an object is asked for that is not there.
    All methods may be called from several threads at once.
    """

    @property
    def uri(self) -> str:
        """Where this is, as the user would write it."""

    def put_file(self, key: str, path: Path, *, digest: str | None = None, resume: bool = False) -> None:
        """Store the file at `path` under `key`, replacing what was there; all of it or nothing becomes visible.

        `digest` (``algorithm:hexadecimal``) is remembered with the object where the store can.  With `resume`, go on
        with an upload of this file that broke off, and send nothing when the object is there with this very digest.
        """

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, replacing what was there."""

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        """Store `data` only if nothing has this key, atomically; False when somebody else's object is there."""

    def get_bytes(self, key: str) -> bytes:
        """The whole object."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to a new file at `path` (not fsynced: it can be fetched again)."""

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        """All objects whose key starts with `prefix`, in order of key."""

    def children(self, prefix: str) -> tuple[str, ...]:
        """Names directly below the folder `prefix` (ends with ``/`` or is empty): of folders and objects alike."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects in this order; one that is not there is no error."""

    def abort_uploads(self, prefix: str, stale: Callable[[str], bool]) -> int:
        """Remove what uploads that broke off have left below the folder `prefix` for keys that are `stale`; how many.

        0 where the store keeps none, or removes them by itself.
        """

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object, where it is a file on this machine; None elsewhere."""
