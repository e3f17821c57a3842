"""Doing it: checkpoints, notices, elastic data and batch, telemetry, launch.

Importing this package is cheap and works without torch; what needs torch is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.config import RunConfig, load_run_config
    from harness.run import Run

__all__ = ["Run", "RunConfig", "load_run_config"]


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        module = "harness.config" if name in {"RunConfig", "load_run_config"} else "harness.run"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
