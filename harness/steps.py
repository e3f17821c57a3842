"""What `Run.steps` yields: one optimizer step, its samples, and its micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.batches import BatchPlan
from harness.replicas import gradients_summed

Indices = npt.NDArray[np.int64]


class MicroBatch(NamedTuple):
    """Samples of one forward and backward pass: ``for indices, weight, data in step.micro_batches``."""

    indices: Indices
    """Into the dataset, 1-D.  Empty for a stream, which has no indices."""
    weight: float
    """Multiply the mean loss of these samples by it before `backward`: then the step's gradient is the mean over the
    global batch, however unevenly it was shared out."""
    data: Any = None
    """What the loader made of them, when `steps` was given one."""


class _Numbered(NamedTuple):
    number: int
    """Of the step, counted from 0."""
    indices: Indices
    """This rank's share of the global batch, 1-D."""


class Step(_Numbered):
    """One optimizer step: ``for step, indices in run.steps(…)``, or with micro-batches:

        for step in run.steps(…):
            for micro in step.micro_batches:
                loss = criterion(model(inputs[micro.indices]), …)
                (loss * micro.weight).backward()
            optimizer.step()

    Forward and backward pass of all but the last micro-batch leave gradients on their rank (`DDP.no_sync` and FSDP2's
    equivalent are entered for registered models): the ranks' gradients are summed once per step.
    """

    _plan: BatchPlan
    _components: Sequence[Any]
    _begin_samples: Callable[[int, int], None]
    _load: Callable[[], Any] | None
    scheduler_steps: int
    """How often to call `scheduler.step()` after this step: 1, or, with ``elastic: {schedule: samples}``, how many more
    reference batches' worth of samples are full after it than before."""
    learning_rate_scale: float
    """By which the learning rate is multiplied inside `optimizer.step()`."""
    weighted = False
    """The loop has asked for weights."""
    loaded = 0
    """Micro-batches that the loop has finished."""

    @classmethod
    def make(
        cls,
        number: int,
        indices: Indices,
        *,
        plan: BatchPlan,
        components: Sequence[Any],
        begin_samples: Callable[[int, int], None],
        load: Callable[[], Any] | None,
        scheduler_steps: int,
        learning_rate_scale: float,
    ) -> Step:
        """`begin_samples(start, stop)` is told which positions of the global batch are computed next."""
        step = cls(number, indices)
        step._plan, step._components = plan, components
        step._begin_samples, step._load = begin_samples, load
        step.scheduler_steps, step.learning_rate_scale = scheduler_steps, learning_rate_scale
        return step

    @property
    def global_batch_samples(self) -> int:
        """Samples of this step over all ranks."""
        return self._plan.global_batch_samples

    @property
    def weight(self) -> float:
        """For loops without micro-batches: what the mean loss over `indices` counts for; 1 when shares are equal."""
        self.weighted = True
        return self._plan.weight

    @property
    def micro_batches(self) -> Iterator[MicroBatch]:
        """This rank's micro-batches, as many on every rank."""
        self.weighted = True
        self.loaded = 0
        return self._iterate()

    def _iterate(self) -> Iterator[MicroBatch]:
        first, _ = self._plan.share
        parts = self._plan.parts
        for number, part in enumerate(parts):
            self._begin_samples(part.start, part.stop)
            data = None if self._load is None else self._load()
            indices = self.indices[part.start - first : part.stop - first]
            with gradients_summed(self._components, now=number == len(parts) - 1):
                yield MicroBatch(indices, part.weight, data)
            self.loaded += 1

    def computes(self, number: int) -> None:
        """Micro-batch `number` is computed next: for loops that fetch all of a step's before they compute one."""
        part = self._plan.parts[number]
        self._begin_samples(part.start, part.stop)

    @property
    def complete(self) -> bool:
        """The loop went through all micro-batches (or through none: it did without them)."""
        return self.loaded == len(self._plan.parts)
