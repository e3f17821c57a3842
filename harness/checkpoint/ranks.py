"""The ranks of a job talking to each other: small objects, over gloo, and nothing at all in a single process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from harness.errors import CheckpointError, CorruptCheckpointError, ExternalServiceError, FencedError, InvalidInputError

T = TypeVar("T")


class PeerLostError(CheckpointError):
    """Another rank did not take part: it is gone, or hangs."""


class Ranks(Protocol):
    """Collectives; every rank calls the same ones in the same order."""

    @property
    def rank(self) -> int:
        """This process's number."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on every rank."""

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank."""

    def close(self, *, orderly: bool) -> None:
        """No collective follows.  `orderly`: every rank does the same, and none is in flight."""


class SingleRank:
    """A job of one process."""

    rank = 0
    size = 1

    def gather(self, value: T) -> list[T]:
        return [value]

    def broadcast(self, value: T) -> T:
        return value

    def close(self, *, orderly: bool) -> None:
        """Nothing to release."""


_TURN_SECONDS = 0.5
"""Shorter than any timeout of a group."""
_ABSENT = "it is gone, or it does not call the checkpointer at this step as the others do"


class GroupRanks:
    """The ranks of a process group with a CPU backend, which is used by nothing else once it is closed."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group: dist.ProcessGroup | None = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def gather(self, value: T) -> list[T]:
        values: list[T | None] = [None] * self.size
        try:
            dist.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:  # gloo's only error type
            raise PeerLostError(f"a rank did not take part in the checkpoint ({_ABSENT}): {error}") from error
        return values  # type: ignore[return-value]  # every slot was filled by the collective

    def broadcast(self, value: T) -> T:
        box = [value]
        try:
            dist.broadcast_object_list(box, group_src=0, group=self._group)
        except RuntimeError as error:
            raise PeerLostError(f"rank 0 did not take part in the checkpoint: {error}") from error
        return box[0]

    def close(self, *, orderly: bool) -> None:
        group, self._group = self._group, None
        if group is not None:
            release_group(group, orderly=orderly)


def release_group(group: dist.ProcessGroup, *, orderly: bool) -> None:
    """Let go of a gloo group; the caller must hold no other reference to it.

    The group's threads end with its last reference.  One that is still there when the interpreter is taken down, with a
    tensor of the last collective in its hands, ends the process by SIGABRT.  Where a collective may be in flight the
    group is told to give it up, or its end would wait for a peer that is gone.
    """
    with contextlib.suppress(RuntimeError, ValueError):  # taken down already, with the default group
        if orderly:
            dist.destroy_process_group(group)
        else:
            group.abort()


@dataclass(frozen=True, slots=True)
class Failure:
    """A rank's error, in a form that travels."""

    kind: str
    arguments: tuple[object, ...]

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        if isinstance(error, InvalidInputError):
            return cls("invalid", (error.field, str(error.value), error.expected, error.hint))
        for kind, errors in _KINDS.items():
            if isinstance(error, errors):
                return cls(kind, (str(error),))
        if isinstance(error, OSError):
            return cls("checkpoint", (f"{error.filename or 'disk'}: {error.strerror or error}",))
        return cls("checkpoint", (f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",))

    def exception(self, rank: int, size: int) -> Exception:
        """The error as every rank raises it; it names the rank that met it when there are several."""
        if self.kind == "invalid":
            field, value, expected, hint = self.arguments
            return InvalidInputError(str(field), value, str(expected), None if hint is None else str(hint))
        text = str(self.arguments[0])
        if size > 1 and self.kind != "fenced":
            text = f"rank {rank}: {text}"
        return _KINDS[self.kind](text)


_KINDS: dict[str, type[Exception]] = {
    "fenced": FencedError,
    "corrupt": CorruptCheckpointError,
    "external": ExternalServiceError,
    "peer": PeerLostError,
    "checkpoint": CheckpointError,
}


def together(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """Do `work` on every rank; all results, or, when any rank failed, the worst error on every rank alike.

    A rank that fails still takes part, so that nobody waits for it.
    """
    outcome, cause = _attempt(work)
    outcomes = ranks.gather(outcome)
    _raise_worst(outcomes, ranks.size, cause)
    return outcomes  # type: ignore[return-value]  # no Failure among them


def agreed(ranks: Ranks, work: Callable[[], T]) -> T:
    """As `together`, for results that stay on their rank: only failures travel."""
    outcome, cause = _attempt(work)
    _raise_worst(ranks.gather(outcome if isinstance(outcome, Failure) else None), ranks.size, cause)
    return outcome  # type: ignore[return-value]  # no Failure among them


def agreed_at_length(ranks: Ranks, work: Callable[[], T]) -> T:
    """As `agreed`, for work that may take any rank longer than the group's timeout: they meet all the while.

    A rank that is gone, or a link that went silent, is found out by the meetings.
    """
    if ranks.size == 1:
        return agreed(ranks, work)
    outcomes: list[tuple[T | Failure, BaseException | None]] = []
    thread = threading.Thread(target=lambda: outcomes.append(_attempt(work)), name="checkpoint-work", daemon=True)
    thread.start()
    over = False
    while not over:
        thread.join(_TURN_SECONDS)
        over = all(ranks.gather(not thread.is_alive()))
    outcome, cause = outcomes[0]
    _raise_worst(ranks.gather(outcome if isinstance(outcome, Failure) else None), ranks.size, cause)
    return outcome  # type: ignore[return-value]  # no Failure among them


def _attempt(work: Callable[[], T]) -> tuple[T | Failure, BaseException | None]:
    try:
        return work(), None
    except (Exception, CheckpointException) as error:  # noqa: BLE001 - it is raised on every rank after the gather
        return Failure.of(error), error


def _raise_worst(outcomes: list[Any], size: int, cause: BaseException | None) -> None:
    failures = [(rank, found) for rank, found in enumerate(outcomes) if isinstance(found, Failure)]
    if failures:
        rank, worst = min(failures, key=lambda failure: _SEVERITY.index(failure[1].kind))
        raise worst.exception(rank, size) from cause


_SEVERITY = ("fenced", "invalid", "external", "peer", "checkpoint", "corrupt")
