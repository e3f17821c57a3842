"""One decorator for the engine's entry points: compiled once per machine, never stale, and said when it happens.

numba's own cache looks only at the file of the decorated function, and at install time chooses a folder that may be
read-only.  Here the stamp of a cached kernel is a digest of every source file that can be inlined into it, and the
folder is the user's cache folder (`NUMBA_CACHE_DIR` or `PLANNER_CACHE_DIR` override it).  Where nothing is writable
the kernel is compiled in every process.
"""

# numba is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

_config: Any = numba.config
_njit: Any = numba.njit
_ROOM = Path(__file__).resolve().parent.parent
_FOLDERS = ("adaptive", "engine", "lifetimes", "replay")


def say_on_stderr(message: str) -> None:
    """The default listener for compilation news: one line on stderr."""
    print(message, file=sys.stderr, flush=True)


on_compile: Callable[[str], None] = say_on_stderr
"""Called with one line before a kernel is compiled; replace it to show the line elsewhere."""


@functools.cache
def source_digest() -> str:
    """A digest of all sources whose functions are inlined into kernels."""
    digest = hashlib.sha256()
    folders = [path for name in _FOLDERS for path in (_ROOM / name).glob("*.py")]
    for path in sorted([*folders, _ROOM / "spec.py", _ROOM / "policies.py"]):
        digest.update(str(path.relative_to(_ROOM)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None when no candidate can be written to."""
    import platformdirs

    override = os.environ.get("PLANNER_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    candidates = [Path(override)] if override else [platformdirs.user_cache_path("spot-planner")]
    for candidate in candidates:
        folder = candidate / "kernels"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        return folder
    return None


class _Locator:
    """Tells numba's cache where kernels live and which sources they were made from."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._name = f"{py_func.__module__}.{py_func.__qualname__}"

    def ensure_cache_path(self) -> None:
        Path(self.get_cache_path()).mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_digest()

    def get_disambiguator(self) -> str:
        # One set of files per place of installation: an upgrade overwrites, two checkouts do not evict each other.
        return hashlib.sha256(f"{_ROOM}:{self._name}".encode()).hexdigest()[:12]

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Impl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - numba's own spelling

    def __init__(self, py_func: Any) -> None:
        chosen, _config.CACHE_LOCATOR_CLASSES = getattr(_config, "CACHE_LOCATOR_CLASSES", ""), ""
        try:
            super().__init__(py_func)
        finally:
            _config.CACHE_LOCATOR_CLASSES = chosen


class _Cache(FunctionCache):
    """numba's function cache, which also says when a kernel is not there yet and has to be compiled."""

    _impl_class = _Impl

    def __init__(self, py_func: Any, what: str) -> None:
        self._what, self._started = what, 0.0
        super().__init__(py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None:
            self._started = time.perf_counter()
            on_compile(f"compiling {self._what} (once per machine, some seconds) ...")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        super().save_overload(sig, data)
        on_compile(f"compiled {self._what} in {time.perf_counter() - self._started:.1f} s")


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that kernels call: no allocation, and so no reference counting.

    numba counts references to every array that crosses a call, with atomic instructions that cost more than most of
    these functions' work; without allocations there is nothing to count.
    """
    return _njit(error_model="numpy", _nrt=False)(function)  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`helper`, inlined into its callers."""
    return _njit(error_model="numpy", _nrt=False, forceinline=True)(function)  # type: ignore[no-any-return]


def vectorized(function: Callable[..., Any]) -> Callable[..., Any]:
    """`inlined` for minima over arrays without NaN: order and signed zeros are free, so that they become vectors."""
    options = {"error_model": "numpy", "_nrt": False, "forceinline": True, "fastmath": {"nnan", "nsz"}}
    return _njit(**options)(function)  # type: ignore[no-any-return]


def kernel(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile an entry point: releases the interpreter lock, IEEE arithmetic, kept on disk when a folder is writable.

    `what` names the kernel to a person, as in "compiling the single-node engine".
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = _njit(nogil=True, error_model="numpy")(function)
        if cache_folder() is not None and not _config.DISABLE_JIT:
            dispatcher._cache = _Cache(dispatcher.py_func, what)
        return dispatcher  # type: ignore[no-any-return]

    return decorate
