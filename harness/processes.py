"""Process trees: who started this process, ending a whole tree, and being told when the parent is gone.

torchrun puts every worker into a session of its own, so neither a process group nor a closed terminal reaches all of
a job; the tree has to be walked.  Reads ``/proc`` (Linux), as the rest of the product is run there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

HARNESS_AGENT = "harness.agent"
"""What `harness launch` starts in place of torchrun."""

_AGENT_MARKS = (
    HARNESS_AGENT,
    "torch.distributed.run",
    "torch/distributed/run.py",
    "torchrun",
    "torch.distributed.launch",
)


def command_line(pid: int) -> list[str]:
    """The arguments that `pid` was started with; empty when there is no such process (or no /proc)."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.split(b"\0") if part]


def elastic_agent_pid() -> int | None:
    """The pid of the torchrun agent that started this process; None when the parent is not one.

    Both signs are needed: torchrun's environment (inherited by anything below it) and the parent's command line.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    parent = os.getppid()
    is_agent = any(mark in argument for argument in command_line(parent)[:4] for mark in _AGENT_MARKS)
    return parent if is_agent else None


def agent_argument(pid: int, name: str) -> str | None:
    """The value of torchrun's option `name` (``rdzv-endpoint``) for the agent `pid`.

    From its command line, else from the environment that it has handed down (``PET_RDZV_ENDPOINT``); None without both.
    """
    words = command_line(pid)
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option.startswith("--") and option[2:].replace("_", "-") == name:
            return value if equals else next(iter(words[index + 1 : index + 2]), None)
    return os.environ.get("PET_" + name.upper().replace("-", "_"))


def children() -> dict[int, list[int]]:
    """Every process's children, from one walk over /proc."""
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208  iterdir builds paths that are not needed, thousands of them
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # "pid (command) state ppid …": the command may contain anything, so split behind its last ')'.
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
                parent = int(stat.rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(entry))
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents before their children."""
    tree = children()
    found: list[int] = []
    frontier = [pid]
    while frontier:
        below = [child for parent in frontier for child in tree.get(parent, [])]
        found += below
        frontier = below
    return found


def is_running(pid: int) -> bool:
    """Whether `pid` exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def kill_tree(pid: int, *, and_root: bool = True) -> list[int]:
    """SIGKILL `pid` and everything below it, as a machine that disappears does; returns the pids that were killed.

    The tree is stopped first, from the root down, so that nothing in it can react to the death of something else.
    """
    killed: dict[int, None] = {}
    for _ in range(10):
        found = ([pid] if and_root else []) + descendants(pid)
        fresh = [p for p in found if p not in killed and p != os.getpid()]
        if not fresh:
            break
        for process in fresh:
            killed[process] = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
    for process in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return list(killed)


def wait_gone(pids: list[int], timeout_seconds: float) -> list[int]:
    """Wait until none of `pids` runs any more; returns those that still do after `timeout_seconds`."""
    end = time.monotonic() + timeout_seconds
    left = [pid for pid in pids if is_running(pid)]
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [pid for pid in left if is_running(pid)]
    return left


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> bool:
    """Have the kernel send this process `number` when its parent ends; False where that does not exist."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies, so that none is lost; False where impossible."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return int(_libc().prctl(option, value, 0, 0, 0)) == 0


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
