"""Digests over every byte that is written, and their verification before a byte is interpreted.

``xxh3_128`` (default) runs at memory speed and catches accidents; ``sha256`` also resists intent, at about a tenth of
the speed; ``crc32c`` is what object stores speak.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Protocol, Self

from harness.checkpoint.durable import reserve, start_writing_back
from harness.errors import InvalidInputError, did_you_mean

CHUNK_BYTES = 4 * 1024 * 1024
_WRITE_BYTES = 1024 * 1024
_WRITE_BACK_BYTES = 8 * 1024 * 1024
_SMALL_BYTES = 1024 * 1024
_BY_TWO_BYTES = 4 * CHUNK_BYTES
"""From this size on, one thread reads while another digests; for less, starting it costs more than it gains."""


class Digest(Protocol):
    """A running digest, as `hashlib` has them."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, in hexadecimal."""


class _Crc32c:
    def __init__(self) -> None:
        from awscrt import checksums

        self._function: Callable[..., int] = checksums.crc32c
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _xxh3_128() -> Digest:
    import xxhash

    return xxhash.xxh3_128()


def _sha256() -> Digest:
    return hashlib.sha256()


_ALGORITHMS: dict[str, Callable[[], Digest]] = {"xxh3_128": _xxh3_128, "crc32c": _Crc32c, "sha256": _sha256}


def new_digest(algorithm: str) -> Digest:
    """A fresh digest by name: ``xxh3_128``, ``crc32c`` or ``sha256``."""
    make = _ALGORITHMS.get(algorithm)
    if make is None:
        raise InvalidInputError(
            "digest", algorithm, f"one of {', '.join(_ALGORITHMS)}", did_you_mean(algorithm, _ALGORITHMS)
        )
    return make()


def digest_bytes(data: bytes, algorithm: str) -> str:
    """The digest of `data`, in hexadecimal."""
    digest = new_digest(algorithm)
    digest.update(data)
    return digest.hexdigest()


def digest_file(path: Path, algorithm: str) -> tuple[int, str]:
    """(size in bytes, digest) of the file at `path`, read once in chunks; OSError as `open` raises it.

    Not by mapping it into memory: a disk that fails to give a page, or a file that shrinks, would kill the process.
    """
    digest = new_digest(algorithm)
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        large = os.fstat(file.fileno()).st_size >= _BY_TWO_BYTES
        size = _TwoReaders(file, digest).run() if large else _digest_in_turns(file, digest)
    return size, digest.hexdigest()


def _digest_in_turns(file: FileIO, digest: Digest) -> int:
    size, buffer = 0, memoryview(bytearray(_SMALL_BYTES))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        size += count
    return size


class _TwoReaders:
    """Two threads take a file's chunks by turns: one reads the next while the other digests, and both let go of the
    interpreter's lock.

    A chunk is digested by the thread that has read it, from its own core's cache; the order is that of the file.
    """

    def __init__(self, file: FileIO, digest: Digest) -> None:
        self._file, self._digest = file, digest
        self._size = 0
        self._done = threading.Condition()
        self._next: int | None = 0
        """The chunk to be digested next; None when there is none any more."""
        self._error: BaseException | None = None

    def run(self) -> int:
        """Bytes up to the end of the file; OSError as reading raises it."""
        other = threading.Thread(target=self._take, args=(1,), name="checkpoint-read", daemon=True)
        other.start()
        self._take(0)
        other.join()
        if self._error is not None:
            raise self._error
        return self._size

    def _is_turn_of(self, chunk: int) -> bool:
        return self._next is None or self._next == chunk

    def _take(self, first: int) -> None:
        """Chunks `first`, `first` + 2, … until one of the two is at the end or fails."""
        buffer = memoryview(bytearray(CHUNK_BYTES))
        mine = first
        following: int | None = None
        try:
            while True:
                count = _fill(self._file.fileno(), buffer, mine * CHUNK_BYTES)
                with self._done:
                    self._done.wait_for(functools.partial(self._is_turn_of, mine))
                    if self._next is None:
                        return
                self._digest.update(buffer[:count])
                following = mine + 1 if count == CHUNK_BYTES else None
                with self._done:
                    self._size += count
                    self._next = following
                    self._done.notify()
                if following is None:
                    return
                mine += 2
        except BaseException as error:  # noqa: BLE001  it is raised by `run`, in the caller's thread
            with self._done:
                self._error = self._error or error
                self._next = None
                self._done.notify()


def _fill(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Read at `offset` until `buffer` is full or the file ends; bytes that were read."""
    filled = 0
    while filled < len(buffer) and (count := os.preadv(descriptor, [buffer[filled:]], offset + filled)):
        filled += count
    return filled


class DigestingFile:
    """A new file that digests what passes through it; `finish` makes it survive a power cut.

    A context manager; `write`, `tell` and `flush` are what `torch.save` needs.  The disk begins to write while more is
    still coming.  `expected_bytes`, no more than will be written, are reserved: OSError when there is no room for them.
    """

    def __init__(self, path: Path, algorithm: str, *, expected_bytes: int = 0) -> None:
        # "x": a file is never written over, so that nothing that was vouched for can change under its manifest.
        self._file = path.open("xb", buffering=0)
        try:
            reserve(self._file.fileno(), expected_bytes)
        except OSError:
            self._file.close()
            raise
        self._digest = new_digest(algorithm)
        self._begun = 0
        """So many bytes are on their way to the disk."""
        self.size = 0
        self.error: OSError | None = None
        """What the disk said when it refused: `torch.save` raises an error of its own in its place."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write and digest all of `data`."""
        view = memoryview(data).cast("B")
        try:
            # Piece by piece: what has just been digested is written from the processor's cache.
            for start in range(0, len(view), _WRITE_BYTES):
                piece = view[start : start + _WRITE_BYTES]
                self._digest.update(piece)
                while piece:  # a raw write may be short
                    written = self._file.write(piece)
                    piece = piece[written:]
                    self.size += written
                if self.size - self._begun >= _WRITE_BACK_BYTES:
                    start_writing_back(self._file.fileno(), self._begun, self.size - self._begun)
                    self._begun = self.size
        except OSError as error:
            self.error = error
            raise
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def finish(self) -> str:
        """Force the bytes to disk; their digest in hexadecimal."""
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
