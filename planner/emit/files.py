"""Writing a folder's files all or nothing: an interrupted or failed write leaves what was there before.

A new folder appears with one rename.  In an existing folder the files are staged beside their targets, flushed, and
then renamed one by one with SIGINT and SIGTERM held back; if a rename fails, those already done are undone.  (A
power loss between two renames can leave a mixture; each file is whole even then.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import InvalidInputError


def write_folder(folder: Path, files: Mapping[str, str], *, field: str = "--emit") -> tuple[Path, ...]:
    """Write `files` (name → text, UTF-8) into `folder`, creating it; the paths written.

    Raises InvalidInputError (naming `field`) when the folder is a file or cannot be written; nothing has changed then.
    """
    for name in files:
        assert Path(name).name == name, f"{name} is not a plain file name"
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(field, folder, "a folder; a file of this name exists")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder if folder.is_dir() else folder.parent))
    except OSError as error:
        raise InvalidInputError(field, folder, "a folder that can be written", error.strerror) from None
    try:
        for name, text in files.items():
            _write_durably(staging / name, text)
        _publish(staging, folder, tuple(files))
    except OSError as error:
        raise InvalidInputError(field, folder, "a folder that can be written", error.strerror) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(folder / name for name in files)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(staging: Path, folder: Path, names: tuple[str, ...]) -> None:
    if not folder.exists():
        # mkdtemp makes it private; a folder that a person asked for has the usual permissions.
        staging.chmod(0o777 & ~_umask())
        staging.rename(folder)
    else:
        backups = staging / "replaced"
        backups.mkdir()
        with _signals_held():
            done: list[str] = []
            try:
                for name in names:
                    if (folder / name).exists():
                        os.link(folder / name, backups / name)
                    (staging / name).replace(folder / name)
                    done.append(name)
            except OSError:
                for name in done:
                    if (backups / name).exists():
                        (backups / name).replace(folder / name)
                    else:
                        (folder / name).unlink()
                raise
    _sync_folder(folder)
    _sync_folder(folder.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back for a few renames; they are delivered afterwards.

    By handlers, not by a mask: a mask holds for one thread, and the simulator's other threads would take the signal.
    Python runs handlers in the main thread, so another thread cannot be interrupted by them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    previous = {
        number: signal.signal(number, lambda received, _frame: held.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for received in held:
            signal.raise_signal(received)
