"""What each rank says when it calls the checkpointer, and whether all of them say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """What a rank is about to save."""

    step: int
    components: tuple[str, ...]
    planned: bool
    """The sharing of the writing is planned for exactly these tensors."""
    busy: bool
    unfinished: bool
    """The outcome of the last save is not known yet."""
    failures: int
    """Saves that failed in a row."""
    back_off_seconds: float
    """Until the next periodic save."""


def check_same(calls: Sequence[SaveRequest | str]) -> None:
    """CheckpointError on every rank when one of them saves and another restores, or they save different things."""
    mine = _what(calls[0])
    for rank, call in enumerate(calls):
        if _what(call) != mine:
            raise CheckpointError(
                f"the ranks do different things: rank 0 {mine}, rank {rank} {_what(call)}; call save, restore and "
                "prepare on every rank, in the same order and at the same step"
            )


def _what(call: SaveRequest | str) -> str:
    if isinstance(call, SaveRequest):
        return f"saves step {call.step} of {', '.join(call.components)}"
    return f"calls {call}"
