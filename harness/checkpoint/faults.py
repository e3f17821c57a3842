"""Named places in save, upload, publish, retention and restore where a test can make something go wrong.

`reach("upload:before_manifest")` does nothing in production: one look at an empty list.  A test installs a handler in
the process, or sets ``HARNESS_FAULT=<point>[#<nth time>][@<file>]`` for a child process, which then dies by SIGKILL
there: with a file, only once that exists, and it becomes ``<file>.fired`` before, so that each fault happens once.
Faults are addressed by position, never by time; `POINTS` lists every position, so that a soak can enumerate them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

POINTS = (
    "save:staged",
    "write:before_files",
    "write:after_files",
    "local:before_part_manifest",
    "local:before_rename",
    "local:after_rename",
    "upload:before_files",
    "upload:between_files",
    "upload:before_part_manifest",
    "upload:before_manifest",
    "upload:after_manifest",
    "local:before_manifest",
    "retention:before_local_delete",
    "retention:between_local_deletes",
    "retention:before_remote_delete",
    "retention:between_remote_deletes",
    "restore:before_choice",
    "restore:before_files",
    "restore:between_files",
    "restore:before_load",
    "restore:before_record",
)
"""In the order in which one save, its retention and one restore pass them."""

Handler = Callable[[str], None]
_handlers: list[Handler] = []


def reach(point: str) -> None:
    """Say that `point` was reached; what a handler raises, or the death it brings, happens to the caller."""
    for handler in tuple(_handlers):
        handler(point)


@contextlib.contextmanager
def installed(handler: Handler) -> Iterator[None]:
    """Call `handler(point)` at every point that any thread of this process reaches, inside the ``with`` block."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


def kill_at(point: str, occurrence: int = 1, trigger: Path | None = None) -> Handler:
    """A handler that ends this process by SIGKILL the `occurrence`-th time that `point` is reached.

    With a `trigger`, only times count at which that file exists; whoever renames it to ``.fired`` is the one that dies.
    """
    if point not in POINTS:
        raise ValueError(f"unknown fault point {point!r}")
    left = occurrence

    def handler(reached: str) -> None:
        nonlocal left
        if reached == point and (trigger is None or trigger.exists()):
            left -= 1
            if left == 0:
                if trigger is not None:
                    try:
                        trigger.rename(f"{trigger}.fired")
                    except FileNotFoundError:  # another process of this node was first
                        return
                os.kill(os.getpid(), signal.SIGKILL)

    return handler


def _install_from_environment() -> None:
    setting = os.environ.get("HARNESS_FAULT")
    if setting:
        position, _, trigger = setting.partition("@")
        point, _, occurrence = position.partition("#")
        _handlers.append(kill_at(point, int(occurrence or 1), Path(trigger) if trigger else None))


_install_from_environment()
