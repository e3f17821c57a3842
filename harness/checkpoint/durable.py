"""Local files that are there entirely or not at all, also after a power cut: fsync, one rename, fsync the parent."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from harness.checkpoint.names import DISCARDED


def fsync_directory(path: Path) -> None:
    """Force a directory's entries (names, renames, deletions) to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_SYNC_FILE_RANGE_WRITE = 2
_FALLOC_FL_KEEP_SIZE = 1


@functools.cache
def _libc(name: str, *types: Any) -> Callable[..., int] | None:
    """A Linux call that Python does not have; None where the C library has none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError:
        return None
    function.argtypes = types
    return cast("Callable[..., int]", function)


def reserve(descriptor: int, count: int) -> None:
    """Take room for `count` bytes of a new file now: they lie together, and a disk that is too full says so first.

    OSError when there is no room; nothing where the file system cannot do it.
    """
    function = _libc("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if function is not None and count > 0 and function(descriptor, _FALLOC_FL_KEEP_SIZE, 0, count) != 0:
        number = ctypes.get_errno()
        if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise OSError(number, os.strerror(number))


def start_writing_back(descriptor: int, start: int, count: int) -> None:
    """Have the kernel begin to write these bytes of a file to the disk, without waiting for them.

    The `fsync` that must follow then finds most of the work done: the disk works while the rest is still being written
    to memory.  A hint: where it does not exist, and when it fails, `fsync` does (and reports) everything.
    """
    function = _libc("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    if function is not None:
        function(descriptor, start, count, _SYNC_FILE_RANGE_WRITE)


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` atomically: a reader, or a restart, sees the old file, the new one, or none."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_new_file(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_new_file(path: Path, data: bytes) -> None:
    """Create `path` with `data` and force it to disk; FileExistsError when it is there already."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def publish_directory(temporary: Path, final: Path) -> None:
    """Make a finished directory appear under its final name by one rename.

    Its files must have been fsynced by whoever wrote them; its folders and the parent are fsynced here.  A directory
    that already has the name (an earlier attempt at the same step that never became durable) makes way first.
    """
    for folder, _, _ in os.walk(temporary):
        fsync_directory(Path(folder))
    if final.exists():
        discard_directory(final)
    temporary.rename(final)
    fsync_directory(final.parent)


def discard_directory(path: Path) -> None:
    """Remove a directory so that it never looks like a checkpoint with files missing: renamed first, then deleted."""
    grave = path if path.name.startswith(DISCARDED) else path.with_name(f"{DISCARDED}{path.name}-{uuid.uuid4().hex}")
    try:
        if grave is not path:
            path.rename(grave)
    except FileNotFoundError:
        return
    shutil.rmtree(grave, ignore_errors=True)
