"""A directory as durable target: a mounted file system, or, in tests and demos, the stand-in for a bucket."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from harness.checkpoint.digests import digest_file
from harness.checkpoint.durable import fsync_directory, reserve, start_writing_back
from harness.checkpoint.names import check_relative_path
from harness.checkpoint.targets.base import MissingObjectError, ObjectInfo
from harness.checkpoint.targets.throttle import Throttle
from harness.errors import ExternalServiceError, InvalidInputError

_TEMPORARY = ".tmp-"
_PIECE_BYTES = 4 * 1024 * 1024
_TRIES = 8
"""To put a first file into a folder that others are emptying."""


class DirectoryTarget:
    """Objects are files below `root`; each appears by one rename (or hard link, for the conditional put)."""

    def __init__(self, root: Path, *, create: bool = True, bandwidth_limit_mib_per_second: float | None = None) -> None:
        self._root = root
        self._throttle = Throttle.of_mib(bandwidth_limit_mib_per_second)
        if root.exists() and not root.is_dir():
            raise InvalidInputError("remote", root, "a directory")
        if not root.exists() and not create:
            raise InvalidInputError("remote", root, "an existing directory")
        with self._explained("create"):
            root.mkdir(parents=True, exist_ok=True)

    @property
    def uri(self) -> str:
        return str(self._root)

    def put_file(self, key: str, path: Path, *, digest: str | None = None, resume: bool = False) -> None:
        if resume and digest is not None and self._is_there(key, path, digest):
            return
        with self._explained("write", key), self._arriving(key) as (temporary, final):
            with path.open("rb") as source, temporary.open("wb") as sink:
                reserve(sink.fileno(), path.stat().st_size)
                self._copy(source, sink)
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(final)

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._explained("write", key), self._arriving(key) as (temporary, final):
            _write(temporary, data)
            temporary.replace(final)

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        with self._explained("write", key), self._arriving(key) as (temporary, final):
            _write(temporary, data)
            try:
                # A link, unlike a rename, fails when the name is taken, and the content is whole from the first moment.
                final.hardlink_to(temporary)
            except FileExistsError:
                # On NFS also when the answer to our own link was lost and the request was sent again.
                return _is_same(final, temporary)
        return True

    def get_bytes(self, key: str) -> bytes:
        with self._explained("read", key):
            return self._path(key).read_bytes()

    def get_file(self, key: str, path: Path) -> None:
        with self._explained("read", key), self._path(key).open("rb") as source, path.open("xb") as sink:
            self._copy(source, sink)

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        found = []
        folder = prefix.rpartition("/")[0]
        with self._explained("list", prefix):
            for directory, _, names in os.walk(self._path(folder) if folder else self._root):
                for name in names:
                    path = Path(directory, name)
                    key = path.relative_to(self._root).as_posix()
                    if key.startswith(prefix) and not name.startswith(_TEMPORARY):
                        with contextlib.suppress(FileNotFoundError):  # deleted between the walk and here
                            found.append(ObjectInfo(key, path.stat().st_size))
        return tuple(sorted(found, key=lambda info: info.key))

    def children(self, prefix: str) -> tuple[str, ...]:
        folder = prefix.rstrip("/")
        with self._explained("list", prefix):
            try:
                names = [path.name for path in (self._path(folder) if folder else self._root).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return ()
        return tuple(sorted(name for name in names if not name.startswith(_TEMPORARY)))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            with self._explained("delete", key):
                path.unlink(missing_ok=True)
                self._prune(path)

    def abort_uploads(self, prefix: str, stale: Callable[[str], bool]) -> int:
        count = 0
        with self._explained("list", prefix):
            for directory, _, names in os.walk(self._path(prefix.rstrip("/"))):
                for name in names:
                    path = Path(directory, name)
                    if name.startswith(_TEMPORARY) and stale(path.relative_to(self._root).as_posix()):
                        path.unlink(missing_ok=True)
                        self._prune(path)
                        count += 1
        return count

    def exists(self, key: str) -> bool:
        with self._explained("read", key):
            return self._path(key).is_file()

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _prune(self, path: Path) -> None:
        """An object store has no empty folders; neither has this one."""
        for folder in path.relative_to(self._root).parents:
            if folder == Path():
                break
            try:
                (self._root / folder).rmdir()
            except OSError:
                break

    def _is_there(self, key: str, path: Path, digest: str) -> bool:
        algorithm, _, value = digest.partition(":")
        try:
            return digest_file(self._path(key), algorithm) == (path.stat().st_size, value)
        except OSError:
            return False

    def _copy(self, source: BinaryIO, sink: BinaryIO) -> None:
        size = 0
        while piece := source.read(_PIECE_BYTES):
            self._throttle.take(len(piece))
            sink.write(piece)  # larger than the buffer: it goes straight through
            start_writing_back(sink.fileno(), size, len(piece))
            size += len(piece)

    def _path(self, key: str) -> Path:
        return self._root / check_relative_path(key)

    @contextlib.contextmanager
    def _arriving(self, key: str) -> Iterator[tuple[Path, Path]]:
        """(temporary, final) path; what is left of the temporary is removed, and the folder forced to disk."""
        final = self._path(key)
        temporary = final.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        try:
            _create(temporary)
            yield temporary, final
        except BaseException:
            with contextlib.suppress(OSError):  # the error that is under way says more
                temporary.unlink(missing_ok=True)
                self._prune(temporary)
            raise
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # deleted again already, and its folder pruned
            fsync_directory(final.parent)

    @contextlib.contextmanager
    def _explained(self, action: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if action == "read":
                raise MissingObjectError(f"{self.uri} has no {key}") from None
            raise ExternalServiceError(f"cannot {action} {self._root / key}: {error.strerror}") from error
        except OSError as error:
            hint = "; free some space or raise the quota" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
            raise ExternalServiceError(f"cannot {action} {self._root / key}: {error.strerror}{hint}") from error


def _create(path: Path) -> None:
    """Make an empty file at `path`, and its folders: from then on the folder is not empty, and nobody prunes it."""
    for left in reversed(range(_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
        except (FileNotFoundError, FileExistsError):  # pruned by somebody who deleted the last file in it
            if not left:
                raise
        else:
            return


def _write(path: Path, data: bytes) -> None:
    """Fill the file at `path` and force it to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False
