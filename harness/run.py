"""`Run`: what a training script adds to survive interruptions.

    import harness

    with harness.Run.from_env() as run:
        model = ...                                                  # your own code, on run.device
        run.register(model=model, optimizer=optimizer, scheduler=scheduler)
        for step, indices in run.steps(10_000, samples=len(dataset), global_batch_samples=256):
            ...                                                      # one optimizer step on these samples
            run.observe(loss=loss)

Under torchrun, `python -m harness launch`, or alone.  Leaving the block ends the run: with a final checkpoint when the
last step is done, else with status.json and an exit code as docs/harness.md says (75: interrupted and resumable).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import torch
from torch import nn
from torch.utils.data import DataLoader

from harness.attempt import Attempt
from harness.batches import BatchPlan
from harness.board import NoticeBoard
from harness.boundary import Boundary
from harness.checkpoint.outcomes import RestoredState
from harness.clock import Clock, SystemClock
from harness.config import RunConfig, load_run_config
from harness.data import SampleOrder
from harness.elastic import Elastic
from harness.environment import DeviceKind, Placement, find_config
from harness.errors import InvalidInputError
from harness.leaving import end_with_error
from harness.ledger_writer import LedgerWriter, open_ledger
from harness.listening import Listener, listen
from harness.loading import Loader, StatefulStream, as_loader
from harness.log import configure_logging
from harness.newcomers import watch_for_newcomers
from harness.position import Position
from harness.randomness import RandomState, seed_everything
from harness.restore_check import RestoreCheck
from harness.skipping import Skips
from harness.steps import Step
from harness.timing import StepTimer

__all__ = ["Run"]

_log = logging.getLogger("harness")

RNG, STREAM = "rng", "stream"


class Run:
    """One process's part in a run that survives interruptions.

    Made by `from_env` in the main thread.  Every rank calls `register`, `steps` and what they yield in the same order,
    as parallel training does anyway.
    """

    def __init__(self, attempt: Attempt, board: NoticeBoard, listeners: list[Listener]) -> None:
        self._attempt, self._board, self._listeners = attempt, board, listeners
        self.config: RunConfig = attempt.config
        self.device: torch.device = attempt.device
        self.rank: int = attempt.placement.rank
        self.world_size: int = attempt.placement.world_size
        self.local_rank: int = attempt.placement.local_rank
        self.local_world_size: int = attempt.placement.local_world_size
        self.restored: RestoredState | None = None
        """What was restored; None before `restore` and after a start from nothing."""
        self._components: dict[str, Any] = {}
        self._rng = RandomState(self.device)
        self._began = self._looped = False
        self._in_body = False
        self._position = Position(self.config, self.world_size, attempt.placement.nodes)
        self._elastic = Elastic(self.config, self.rank, self.world_size, self._position)
        self._step: Step | None = None
        self._ledger: LedgerWriter | None = None
        self._timer = StepTimer(attempt.clock, window_steps=self.config.telemetry.window_steps)
        self._boundary = Boundary(attempt, board, self._position, self._timer, self._state)
        self._restore_check = RestoreCheck(attempt)
        self._skips = Skips(attempt, self._position)

    @classmethod
    def from_env(
        cls,
        config: Path | str | RunConfig | None = None,
        *,
        device: DeviceKind = "auto",
        clock: Clock | None = None,
        **components: Any,
    ) -> Self:
        """Join the run that the environment describes.

        `config` is the harness.yaml; by default ``$HARNESS_CONFIG``, else the one in the working directory.  Joins the
        process group unless the script has done so, picks the device by local rank, listens for notices, and seeds
        Python, NumPy and PyTorch with the config's seed, alike on all ranks.  `components` are passed to `register`.

        Bad input ends the process: one line on stderr, status.json, exit code 2, and no restart by torchrun.
        """
        attempt: Attempt | None = None
        board: NoticeBoard | None = None
        listeners: list[Listener] = []
        try:
            placement = Placement.from_environment()
            configure_logging(placement.node_name, placement.rank)
            loaded = config if isinstance(config, RunConfig) else load_run_config(find_config(config))
            attempt = Attempt(loaded, placement, device=device, clock=clock or SystemClock())
            board = listen(attempt, listeners)
            attempt.connect()
            newcomers = watch_for_newcomers(attempt, board)
            if newcomers is not None:
                listeners.append(newcomers)
            run = cls(attempt, board, listeners)
            seed_everything(attempt.config.seed)
            run.register(**components)
        except Exception as error:  # noqa: BLE001  every failure ends the process as the exit contract says
            end_with_error(error, attempt, board, step=0)
        return run

    @property
    def step(self) -> int:
        """Optimizer steps done in the run's history."""
        return self._position.step

    def register(self, **components: Any) -> None:
        """What is saved and restored, by name: modules, optimizers, anything with `state_dict`/`load_state_dict`.

        A DistributedDataParallel is stored as the module it wraps; None is passed over.  Before `steps`, with the
        same names on every rank.
        """
        if self._began and components:
            raise InvalidInputError("register", ", ".join(components), "components before the first step and restore()")
        for name, component in components.items():
            if name == RNG:
                raise InvalidInputError("register", name, "another name: the run saves the random state itself")
            if component is not None:
                self._components[name] = component

    def restore(self) -> RestoredState | None:
        """Load the newest good checkpoint into the registered components; `steps` does it when nobody has.

        Without one, training starts at step 0.  Random streams that it does not have begin from (seed, rank, step).
        """
        if self._began:
            return self.restored
        self._began = True
        if not any(isinstance(component, nn.Module) for component in self._components.values()):
            raise InvalidInputError("register", ", ".join(self._components) or "nothing", "at least the model")
        self._elastic.adapt_components(list(self._components.values()))
        began = self._attempt.clock.monotonic()
        self.restored = self._attempt.load(self._state())
        if self.restored is not None:
            generation = self._attempt.identity.generation
            assert generation is not None, "an attempt claims one before it restores"
            self._position.adopt(self.restored, generation=generation)
        self._seed_where_not_restored()
        self._attempt.restored(self.restored, self._attempt.clock.monotonic() - began)
        self._restore_check.restored(self.restored)
        self._boundary.started_at(self.step)
        self._attempt.checkpointer.prepare(self._state())
        return self.restored

    def steps(
        self,
        total: int,
        *,
        samples: int | None = None,
        global_batch_samples: int | None = None,
        loader: Loader | DataLoader[Any] | None = None,
    ) -> Iterator[Step]:
        """The steps that are left of `total`, each with this rank's part of its global batch.

        ``for step, indices in run.steps(…)`` gives this rank's sample indices (int64, 1-D), ``for step in
        run.steps(…)`` micro-batches, too (see `Step`).

        Parameters
        ----------
        total:                 optimizer steps of the whole run.
        samples:               size of the dataset; every sample is visited once per epoch.  Not with a loader.
        global_batch_samples:  over all ranks, at the reference world size; `data.global_batch_samples` of the config
                               when not given.  Where it is no multiple of the world size, the loop must use weights.
        loader:                a torch DataLoader (its batch_size is the largest micro-batch, its order is the run's), a
                               `SampleLoader` or a `StatefulStream`; its batches become `micro.data`.

        A step counts as done when the body of the loop has run for it, by ``break`` too.  Between two steps the run
        saves when it is due, and ends the process when it is interrupted.  May be called again when a loop is over, as
        for one epoch after the other: `total` counts from the run's start.
        """
        if self._in_body:  # an earlier loop was left by `break`
            self._step_done()
            self._boundary.pass_()
        batch = self._reference_batch(global_batch_samples)
        if total < 0:
            raise InvalidInputError("total", total, "a number of steps >= 0")
        loader = None if loader is None else as_loader(loader)
        samples = samples if loader is None else loader.samples
        if samples is None and not isinstance(loader, StatefulStream):
            raise InvalidInputError("samples", None, "the size of the dataset")
        order = None if samples is None else SampleOrder(samples, self.config.seed, shuffle=self.config.data.shuffle)
        plan = self._elastic.plan_for(batch, loader)
        if isinstance(loader, StatefulStream) and self._components.get(STREAM) is not loader:
            self.register(**{STREAM: loader})
        self.restore()
        self._position.use_dataset(samples, plan.global_batch_samples, total, self.restored)
        if not self._looped:
            self._skips.check(self.restored)
        self._elastic.begin(plan, order, loader, self.restored)
        self._ledger = self._ledger or open_ledger(self._attempt, self._position)
        self._enter_streams()
        self._timer.start()
        while self.step < total:
            if self._skips.apply(plan.reference_batch_samples, self._ledger):
                self._elastic.moved(order)
                self._restore_check.forget()
            self._step = self._elastic.step()
            self._timer.step_begins()
            self._in_body = True
            yield self._step
            self._step_done()
            self._boundary.pass_()
            if self._timer.window_full:
                self._emit_window()
        self._emit_window()  # what lies between two loops is no step's time

    def plan(self, global_batch_samples: int | None = None, loader: Loader | None = None) -> BatchPlan:
        """How `steps` would share out the samples of a step at this world size, for code that must know beforehand."""
        return self._elastic.plan_for(self._reference_batch(global_batch_samples), loader)

    @property
    def reference_world_size(self) -> int:
        """World size that global batch and learning rate are meant for."""
        return self._elastic.reference_world_size

    def drop_step(self) -> None:
        """The step in hand is not going to be done, and no other follows: the loop was left in the middle of it."""
        self._in_body = False

    def _reference_batch(self, given: int | None) -> int:
        batch = given or self.config.data.global_batch_samples
        if batch is None:
            raise InvalidInputError("global_batch_samples", None, "a number, here or as data.global_batch_samples")
        return batch

    def _enter_streams(self) -> None:
        """Undo what was drawn since the restore (by loaders, trainers, checks): once, before the first step."""
        if self._looped:
            return
        self._looped = True
        self._seed_where_not_restored()
        self._rng.load_again()

    def _seed_where_not_restored(self) -> None:
        """A rank whose random state no checkpoint has (all at the start, more ranks than before) gets its own."""
        if self.restored is None or RNG in self.restored.missing:
            seed_everything(self.config.seed, stream=self.rank + 1, step=self.step)

    def observe(self, *, loss: torch.Tensor | float) -> None:
        """Remember the loss for telemetry: read once per window, so that no step waits for the device."""
        self._timer.loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        self._restore_check.observe(self.step, self._timer.loss)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._finish()
            except Exception as failure:  # noqa: BLE001  as in from_env
                self._end(failure)
        elif isinstance(error, SystemExit):
            self._close(orderly=False)
        else:
            self._end(error)

    def _finish(self) -> None:
        """The last step is done: make it durable, say so, and end together with all other ranks."""
        attempt = self._attempt
        if self._in_body:  # the script left the loop by `break`
            self._step_done()
        self._boundary.finish()
        # Decided by what all ranks know alike; `save` itself passes over a step that is in flight or durable already.
        restored_here = self.restored is not None and self.restored.step == self.step
        if self._began and self._position.batch is not None and not restored_here:
            attempt.checkpointer.save(self._state(), self._position.progress(), reason="final")
            attempt.checkpointer.wait()
        self._emit_window()
        attempt.ranks.gather(None)  # nobody says "finished" before everybody is
        if attempt.leads_node:
            attempt.telemetry.emit("finished", step=self.step, loss=self._timer.loss_value())
            attempt.write_status("finished", step=self.step)
            attempt.flush_telemetry(30.0)
        if self.rank == 0:
            _log.info("finished at step %d", self.step)
        self._close(orderly=True)

    def _end(self, error: BaseException) -> NoReturn:
        """End the process because of `error`, as the exit contract says."""
        self._emit_window()
        try:
            end_with_error(error, self._attempt, self._board, step=self.step)
        finally:
            self._close(orderly=False)

    def _close(self, *, orderly: bool) -> None:
        for listener in reversed(self._listeners):
            listener.close()
        self._listeners.clear()
        self._elastic.close()
        if self._ledger is not None:
            self._ledger.close()
        self._boundary.close(orderly=orderly)
        self._attempt.close(orderly=orderly)

    def _state(self) -> dict[str, Any]:
        # The random state comes last: what loading the others draws must not count.
        return {**self._components, RNG: self._rng}

    def _step_done(self) -> None:
        self._in_body = False
        assert self._step is not None
        self._elastic.step_done(self._step)
        if self._ledger is not None:
            self._ledger.record(self._step.number, self._step.indices)
        self._restore_check.step_done(self.step)
        self._timer.step_done()
        self._position.advance()
        self._attempt.telemetry.at_step(self.step)

    def _emit_window(self) -> None:
        window = self._timer.take_window()
        if window is None or not self._attempt.leads_node:
            return
        self._attempt.telemetry.emit(
            "window",
            step=self.step,
            steps=window.steps,
            samples=window.steps * (self._position.batch or 0),
            seconds=window.seconds,
            stall_seconds=window.stall_seconds,
            loss=window.loss,
        )
