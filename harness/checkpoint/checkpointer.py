"""`Checkpointer`: the one object that a training loop (through `harness.Run`) saves with and restores from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.checkpoint.outcomes import RestoredState, SaveHandle, SaveResult
from harness.checkpoint.progress import Progress
from harness.checkpoint.targets.base import Target
from harness.clock import Clock, SystemClock
from harness.config import RunConfig

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = ["Checkpointer", "EventSink", "RestoredState", "SaveHandle", "SaveResult"]

EventSink = Callable[[str, Mapping[str, object]], None]


class Checkpointer:
    """Saves and restores registered components of a job, from every rank of it.

    Constructing it, `save`, `restore` and `prepare` are collective: every rank calls them in the same order.

    Parameters
    ----------
    config:         the run's ``harness.yaml``; `config.checkpoint` says where and how.
    node_rank, rank, world_size, local_rank:  this process, as torchrun numbers it (GROUP_RANK, RANK, WORLD_SIZE,
                    LOCAL_RANK).  ``{node}`` in `config.checkpoint.directory` becomes `node_rank`.
    target:         the durable target, from `open_target(config.checkpoint.remote)`.
    generation:     from `claim_generation`, claimed by rank 0 once per attempt and broadcast to all.
    process_group:  a gloo group of all ranks for the background work, used by nothing else; None makes one (and None
                    is right for a single process without torch.distributed).
    clock:          time; tests pass their own.
    on_event:       called with (name, fields) from any thread, on local rank 0 of each node only:
                    ``checkpoint_started``, ``checkpoint_local``, ``checkpoint_durable``, ``checkpoint_failed``,
                    ``checkpoint_skipped``, ``restored``.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        node_rank: int,
        rank: int,
        world_size: int,
        local_rank: int,
        target: Target,
        generation: int,
        process_group: dist.ProcessGroup | None = None,
        clock: Clock | None = None,
        on_event: EventSink | None = None,
    ) -> None:
        self._config, self._target, self._generation = config, target, generation
        self._clock = clock or SystemClock()

    def save(self, components: Mapping[str, Any], progress: Progress, *, reason: str = "periodic") -> SaveHandle:
        """Start a checkpoint of `components` at `progress.step`; returns once the state is copied.

        `components` maps a name (lower-case, a folder's name) to an nn.Module, an optimizer, or anything with
        `state_dict` and `load_state_dict`.  A component called ``rng``, or with an attribute ``per_rank = True``, is
        saved and restored for each rank by itself; of all others there is one state for the whole job.

        Only one save is in flight: while another is, ``reason="periodic"`` waits or is skipped as
        `config.checkpoint.when_busy` says, every other reason waits.  A step that is durable already is not saved
        again.  A save that fails in the background is an event, a log line at the next save and
        `SaveHandle.previous_failure`; training goes on and the last durable checkpoint stays.

        Raises FencedError when a newer attempt has taken over; CheckpointError when the ranks do not call it at the
        same step with the same components; InvalidInputError when a component's state cannot be stored safely.
        """
        raise NotImplementedError

    def wait(self, timeout_seconds: float | None = None) -> SaveResult | None:
        """Block until the save in flight is durable; None when none was ever started.

        Raises CheckpointError when the last save failed or is not durable after `timeout_seconds`, FencedError when a
        newer attempt has taken over.
        """
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether a save is in flight on this rank."""
        raise NotImplementedError

    def restore(self, components: Mapping[str, Any]) -> RestoredState | None:
        """Load the newest complete checkpoint that verifies into `components`; None when the run has none.

        Rank 0 decides and all ranks follow.  Nothing is loaded before every byte that is needed has been verified on
        every rank.  Raises InvalidInputError when the checkpoints belong to another run or another model's config,
        CheckpointError when there are complete ones but none verifies, ExternalServiceError when the target does not
        answer, FencedError when a newer attempt has taken over.
        """
        raise NotImplementedError

    def prepare(self, components: Mapping[str, Any]) -> None:
        """Plan the sharing of the writing and allocate the host buffers now, so that the first save is no slower."""
        raise NotImplementedError

    def close(self, timeout_seconds: float | None = None) -> None:
        """Wait (bounded) for the save in flight and end the background thread.  Never raises for a failed save."""
        raise NotImplementedError
