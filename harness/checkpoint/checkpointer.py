"""`Checkpointer`: the one object that a training loop (through `harness.Run`) saves with and restores from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from harness.checkpoint.backoff import BackOff
from harness.checkpoint.components import (
    ComponentState,
    check_module_matches,
    expected_bytes,
    plan_signature,
    read_states,
)
from harness.checkpoint.faults import reach
from harness.checkpoint.identity import identity_of
from harness.checkpoint.local import LocalStore
from harness.checkpoint.manifest import ComponentEntry
from harness.checkpoint.names import checkpoint_name
from harness.checkpoint.outcomes import RestoredState, SaveHandle, SaveResult, Status
from harness.checkpoint.persist import Save, Saver
from harness.checkpoint.place import find_place, open_ranks
from harness.checkpoint.priority import yield_to_training
from harness.checkpoint.progress import Progress
from harness.checkpoint.ranks import agreed, together
from harness.checkpoint.requests import SaveRequest, check_same
from harness.checkpoint.restore import Restorer
from harness.checkpoint.shards import HostBuffers, plan_shares
from harness.checkpoint.targets.base import Target
from harness.clock import Clock, SystemClock
from harness.config import RunConfig
from harness.errors import CheckpointError, FencedError, InvalidInputError, SpotPlannerError

logger = logging.getLogger(__name__)

__all__ = ["Checkpointer", "EventSink", "RestoredState", "SaveHandle", "SaveResult"]

EventSink = Callable[[str, Mapping[str, object]], None]

_PERIODIC = frozenset({"periodic", "risk"})
"""Reasons of saves that another one will follow: these may be skipped."""
_LEAVING = "notice"
"""Reason of a save that has seconds: it does not even wait for the retention after the one before."""
_TELL_SECONDS = 30.0
"""Who waits for a slow save says so this often."""


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
        checkpoint = config.checkpoint
        self._run_id, self._generation = config.run_id, generation
        self._when_busy = checkpoint.when_busy
        self._timeout_seconds = float(config.torchrun.process_group_timeout_seconds)
        self._clock = clock or SystemClock()
        self._on_event = on_event
        self._ranks, background = open_ranks(rank, world_size, self._timeout_seconds, process_group)
        self._background = background
        self._place = find_place(self._ranks, node_rank, local_rank)
        directory = Path(str(checkpoint.directory).replace("{node}", str(node_rank)))
        local = LocalStore(directory, config.run_id, generation)
        agreed(self._ranks, lambda: local.open() if self._place.leads_node else None)
        self._saver = Saver(
            run_id=config.run_id,
            generation=generation,
            algorithm=checkpoint.digest,
            keep_last=checkpoint.keep_last,
            keep_last_local=checkpoint.keep_last_local,
            refuse_nan=checkpoint.refuse_nan,
            place=self._place,
            ranks=background,
            local=local,
            target=target,
            clock=self._clock,
        )
        self._restorer = Restorer(
            run_id=config.run_id,
            generation=generation,
            verify=checkpoint.verify,
            on_corrupt=checkpoint.on_corrupt,
            place=self._place,
            ranks=self._ranks,
            local=local,
            target=target,
        )
        self._buffers: HostBuffers | None = None
        self._shapes: dict[str, dict[str, tuple[list[int], str]]] = {}
        """Of the modules, as `restore` or `prepare` found them."""
        self._thread: threading.Thread | None = None
        self._last: SaveHandle | None = None
        self._fatal: SpotPlannerError | None = None
        self._failure: str | None = None
        self._back_off = BackOff()
        self._sequence = 0
        self._closed = False

    def save(self, components: Mapping[str, Any], progress: Progress, *, reason: str = "periodic") -> SaveHandle:
        """Start a checkpoint of `components` at `progress.step`; returns once the state is copied.

        `components` maps a name (lower-case, a folder's name) to an nn.Module, an optimizer, or anything with
        `state_dict` and `load_state_dict`.  A component called ``rng``, or with an attribute ``per_rank = True``, is
        saved and restored for each rank by itself; of all others there is one state for the whole job.

        Only one save is in flight: while another is, ``reason="periodic"`` (or ``"risk"``) waits or is skipped as
        `config.checkpoint.when_busy` says (and is skipped after `process_group_timeout_seconds`), every other reason
        waits for as long as it takes, and says so.  A step that is durable already is not saved again.  A save that
        fails in the background is an event, a log line at the next save and `SaveHandle.previous_failure`; training
        goes on and the last durable checkpoint stays.  While saves fail, periodic ones never wait, and are skipped for
        a time that grows with each failure (`BackOff`).

        Raises FencedError when a newer attempt has taken over; CheckpointError when the ranks do not call it at the
        same step with the same components; InvalidInputError when a component's state cannot be stored safely.
        """
        started = self._clock.monotonic()
        name = checkpoint_name(progress.step, self._generation)
        states: dict[str, ComponentState] = {}
        requests = together(self._ranks, lambda: self._request(components, progress, states))
        check_same(requests)
        busy = any(request.busy for request in requests)
        if self._last is not None and self._last.step == progress.step and (busy or _is_durable(self._last)):
            return self._last
        handle = SaveHandle(name, progress.step, reason)
        if reason in _PERIODIC and (why := self._why_skip(requests)):
            return self._skip(handle, why)
        if any(request.unfinished if reason == _LEAVING else request.busy for request in requests) and (
            why := self._let_last_end(reason)
        ):
            return self._skip(handle, why)
        if self._fatal is not None:  # the save that was waited for ended so, on every rank alike
            raise self._fatal
        handle.waited_seconds = self._clock.monotonic() - started
        self._report_previous_failure(handle)
        if not all(request.planned for request in requests):
            self._plan(states)
        save = agreed(self._ranks, lambda: self._copy(handle, states, progress))
        handle.stall_seconds = self._clock.monotonic() - started
        self._emit("checkpoint_started", handle, waited_seconds=handle.waited_seconds)
        self._last = handle
        self._thread = threading.Thread(
            target=self._persist, args=(handle, save), name=f"checkpoint-{name}", daemon=True
        )
        self._thread.start()
        return handle

    def wait(self, timeout_seconds: float | None = None) -> SaveResult | None:
        """Block until the save in flight is durable; None when none was ever started.

        Without `timeout_seconds` for as long as the background works on it; says so every now and then.  Raises
        CheckpointError when the last save failed or is not durable after `timeout_seconds`, FencedError when a newer
        attempt has taken over.
        """
        handle = self._last
        if handle is None:
            return None
        waited = 0.0
        while timeout_seconds is None and not handle.wait(_TELL_SECONDS) and self.busy:
            waited += _TELL_SECONDS
            self._tell_waiting(handle, waited)
        result = handle.result(timeout_seconds or 0.0)
        if handle.exception is not None:
            raise handle.exception
        return result

    @property
    def latest(self) -> SaveHandle | None:
        """The save that was started last; None before the first."""
        return self._last

    @property
    def busy(self) -> bool:
        """Whether a save is in flight on this rank."""
        return self._thread is not None and self._thread.is_alive()

    def restore(self, components: Mapping[str, Any]) -> RestoredState | None:
        """Load the newest complete checkpoint that verifies into `components`; None when the run has none.

        Rank 0 decides and all ranks follow.  Nothing is loaded before every byte that is needed has been verified on
        every rank.  Raises InvalidInputError when the checkpoints belong to another run or another model's config,
        CheckpointError when there are complete ones but none verifies, ExternalServiceError when the target does not
        answer, FencedError when a newer attempt has taken over.
        """
        started = self._clock.monotonic()
        states: dict[str, ComponentState] = {}
        self._enter("restore", components, states)
        restored = self._restorer.restore(components, states)
        if restored is not None:
            if self._place.rank == 0:
                logger.info("%s", restored.line)
            self._event(
                "restored",
                {
                    "step": restored.step,
                    "checkpoint": restored.name,
                    "restore_seconds": self._clock.monotonic() - started,
                    "source": restored.source,
                    "skipped": tuple(f"{name}: {reason}" for name, reason in restored.skipped),
                    "checkpoint_bytes": restored.bytes,
                },
            )
        return restored

    def prepare(self, components: Mapping[str, Any]) -> None:
        """Plan the sharing of the writing and allocate the host buffers now, so that the first save is no slower.

        An optimizer that has not stepped yet has no state; room for what it is going to have is taken as well.
        """
        states: dict[str, ComponentState] = {}
        self._enter("prepare", components, states)
        self._let_last_end("prepare")
        self._plan(states, reserve_bytes=expected_bytes(components, self._place.world_size))

    def close(self, timeout_seconds: float | None = None, *, orderly: bool = True) -> None:
        """Wait (bounded) for the save in flight, end the background thread and give up the process groups.

        Never raises for a failed save.  `orderly`: every rank closes.
        """
        self._closed = True
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        if not self._is_over(seconds, durable_is_enough=False):
            logger.warning("%s is still in flight after %.0f s", self._last and self._last.name, seconds)
        for ranks in (self._background, self._ranks):
            ranks.close(orderly=orderly and not self.busy)

    def _enter(self, call: str, components: Mapping[str, Any], states: dict[str, ComponentState]) -> None:
        """Begin `call` on every rank, filling in the components' `states`."""

        def read() -> str:
            states.update(read_states(components))
            return call

        check_same(together(self._ranks, read))
        self._shapes = {name: state.tensor_shapes() for name, state in states.items() if state.is_module}

    def _request(
        self, components: Mapping[str, Any], progress: Progress, states: dict[str, ComponentState]
    ) -> SaveRequest:
        if self._closed:
            raise CheckpointError("this checkpointer is closed")
        if self._fatal is not None:
            raise self._fatal
        states.update(read_states(components))
        for name, shapes in self._shapes.items():
            if name in states:
                check_module_matches(name, states[name].tensors, shapes, where="at the start")
        signature = plan_signature(states)
        return SaveRequest(
            step=progress.step,
            components=tuple(sorted(states)),
            planned=self._buffers is not None and self._buffers.plan.signature == signature,
            busy=self.busy,
            unfinished=self._last is not None and not self._last.done,
            failures=self._back_off.failures,
            back_off_seconds=self._back_off.seconds_left(self._clock.monotonic()),
        )

    def _why_skip(self, requests: list[SaveRequest]) -> str:
        """Why a periodic save is left out; empty when it is not.  From what all ranks know alike."""
        failures = max(request.failures for request in requests)
        if (seconds := max(request.back_off_seconds for request in requests)) > 0.0:
            return f"the last {failures} saves failed: the next one is tried in {seconds:.0f} s"
        if failures and any(request.unfinished for request in requests):
            return "an earlier save is still in flight, and the one before it failed"
        busy = any(request.busy for request in requests)
        return "an earlier save is still in flight" if busy and self._when_busy == "skip" else ""

    def _plan(self, states: Mapping[str, ComponentState], reserve_bytes: int = 0) -> None:
        tensors = {name: state.tensors for name, state in states.items() if state.tensors and not state.per_rank}
        plan = plan_shares(self._ranks, plan_signature(states), tensors)
        previous, self._buffers = self._buffers, None
        self._buffers = agreed(
            self._ranks, lambda: HostBuffers(plan, tensors, reserve_bytes=reserve_bytes, previous=previous)
        )

    def _copy(self, handle: SaveHandle, states: Mapping[str, ComponentState], progress: Progress) -> Save:
        assert self._buffers is not None
        self._sequence += 1
        shared = {name: state for name, state in states.items() if not state.per_rank}
        self._buffers.copy_from({name: state.tensors for name, state in shared.items() if state.tensors})
        save = Save(
            name=handle.name,
            step=handle.step,
            sequence=self._sequence,
            again=self._last is not None and self._last.name == handle.name,
            buffers=self._buffers,
            components={
                name: ComponentEntry(
                    kind="per-rank" if state.per_rank else "sharded",
                    tensors=len(state.tensors),
                    shapes_digest=state.shapes_digest(),
                )
                for name, state in states.items()
            },
            documents={name: state.document_bytes() for name, state in shared.items()},
            rank_states={name: state.rank_bytes() for name, state in states.items() if state.per_rank},
            progress=(progress.model_dump_json(indent=1) + "\n").encode(),
            identity=identity_of(
                self._run_id, {name: state.shapes_digest() for name, state in states.items() if state.is_module}
            ),
        )
        reach("save:staged")
        return save

    def _persist(self, handle: SaveHandle, save: Save) -> None:
        """The background thread."""
        if handle.reason in _PERIODIC:  # otherwise training waits for it
            yield_to_training()
        started = self._clock.monotonic()
        local = False

        def on_local(part_bytes: int) -> None:
            nonlocal local
            local = True
            seconds = handle.stall_seconds + self._clock.monotonic() - started
            self._emit("checkpoint_local", handle, seconds=seconds, checkpoint_bytes=part_bytes)

        try:
            manifest = self._saver.persist(save, on_local)
        except (Exception, CheckpointException) as error:  # noqa: BLE001 - a thread's error must surface somewhere
            self._fail(handle, error, local, self._clock.monotonic() - started)
            return
        seconds = self._clock.monotonic() - started
        self._failure = None
        self._back_off.succeeded()
        self._emit("checkpoint_durable", handle, persist_seconds=seconds, checkpoint_bytes=manifest.bytes)
        handle.finish(
            SaveResult(handle.name, handle.step, "durable", True, persist_seconds=seconds, bytes=manifest.bytes)
        )
        self._saver.tidy(manifest)

    def _fail(self, handle: SaveHandle, error: BaseException, local: bool, seconds: float) -> None:
        if not isinstance(error, SpotPlannerError):
            logger.error("checkpoint %s failed by a bug", handle.name, exc_info=error)
            error = CheckpointError(f"{type(error).__name__}: {error}")
        if isinstance(error, (FencedError, InvalidInputError)):
            self._fatal = error  # neither goes away by trying again: the next save raises it
        self._failure = f"{handle.name}: {error}"
        self._back_off.failed(self._clock.monotonic(), seconds)
        status: Status = "fenced" if isinstance(error, FencedError) else "failed"
        self._emit("checkpoint_failed", handle, error=str(error), failures_in_a_row=self._back_off.failures)
        handle.finish(SaveResult(handle.name, handle.step, status, local, str(error), seconds), error)

    def _report_previous_failure(self, handle: SaveHandle) -> None:
        handle.previous_failure = self._failure
        if self._failure is not None and self._place.leads_node:
            logger.warning("the last save failed (%d in a row): %s", self._back_off.failures, self._failure)

    def _skip(self, handle: SaveHandle, why: str) -> SaveHandle:
        handle.finish(SaveResult(handle.name, handle.step, "skipped", local=False, error=why))
        self._emit("checkpoint_skipped", handle, error=why)
        return handle

    def _let_last_end(self, reason: str) -> str:
        """Wait until the last save is over on every rank; why a periodic one is left out instead, else empty.

        Collective, in turns shorter than the group's timeout: an upload may take as long as it has to.
        """
        turn, waited = min(_TELL_SECONDS, self._timeout_seconds / 2.0), 0.0
        while not all(self._ranks.gather(self._is_over(turn, durable_is_enough=reason == _LEAVING))):
            waited += turn
            if reason in _PERIODIC and waited >= self._timeout_seconds:
                return f"an earlier save is still in flight after {waited:.0f} s"
            assert self._last is not None, "some rank has one in flight, so all have started it"
            self._tell_waiting(self._last, waited)
        return ""

    def _is_over(self, seconds: float, *, durable_is_enough: bool) -> bool:
        """Whether nothing of the last save is in flight on this rank, or comes to its end within `seconds`.

        Once its outcome is known only retention follows, which needs none of what the next save needs.
        """
        if self._thread is None or (durable_is_enough and self._last is not None and self._last.wait(seconds)):
            return True
        if not durable_is_enough:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _tell_waiting(self, handle: SaveHandle, seconds: float) -> None:
        if self._place.leads_node:
            doing = "retention after it" if handle.done else "it"
            logger.warning("waiting for %s for %.0f s now: %s is still in flight", handle.name, seconds, doing)

    def _emit(self, event: str, handle: SaveHandle, **fields: object) -> None:
        common = {
            "step": handle.step,
            "checkpoint": handle.name,
            "reason": handle.reason,
            "stall_seconds": handle.stall_seconds,
        }
        self._event(event, {**common, **fields})

    def _event(self, event: str, fields: Mapping[str, object]) -> None:
        if self._on_event is None or not self._place.leads_node:
            return
        try:
            self._on_event(event, fields)
        except Exception:
            # A report that cannot be written must not fail the save that it reports.
            logger.exception("the event %s could not be reported", event)


def _is_durable(handle: SaveHandle) -> bool:
    return handle.done and handle.result().durable
