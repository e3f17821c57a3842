"""Checkpoints that cannot lie: parts per node, one global manifest, digests, atomic publish, generations, restore.

Importing this package is cheap; `Checkpointer` brings torch with it when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.checkpoint.checkpointer import Checkpointer
    from harness.checkpoint.generation import check_fence, claim_generation
    from harness.checkpoint.outcomes import RestoredState, SaveHandle, SaveResult
    from harness.checkpoint.progress import Progress
    from harness.checkpoint.targets import Target, open_target

_HOMES = {
    "Checkpointer": "checkpointer",
    "RestoredState": "outcomes",
    "SaveHandle": "outcomes",
    "SaveResult": "outcomes",
    "Progress": "progress",
    "Target": "targets",
    "check_fence": "generation",
    "claim_generation": "generation",
    "open_target": "targets",
}

__all__ = [
    "Checkpointer",
    "Progress",
    "RestoredState",
    "SaveHandle",
    "SaveResult",
    "Target",
    "check_fence",
    "claim_generation",
    "open_target",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"harness.checkpoint.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'harness.checkpoint' has no attribute {name!r}")
