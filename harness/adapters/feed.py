"""A run's steps as a stream of micro-batches, for a trainer that owns the loop.

A trainer asks for the next batch when it is done with the one before: with its optimizer step, its schedule, its
validation and its callbacks.  That is when the run counts a step as done, saves when it is due, and leaves when it is
told to.  No hook of the trainer decides on any of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from harness.errors import InvalidInputError
from harness.loading import SampleLoader
from harness.run import Run
from harness.steps import MicroBatch, Step

NO_END = 1 << 62
"""Steps of a run whose trainer does not know how many there will be."""


class Feed:
    """This rank's micro-batches, `accumulation_steps` per step; `len` is that of a whole epoch.

    Epochs are the trainer's: `steps_per_epoch` steps each, the dataset's size in reference batches, rounded up.  The
    data goes on across their ends (a sample is never padded in or dropped), so where the batch does not divide the
    dataset, epoch k of the trainer begins up to k batches after the k-th pass over the data.
    """

    def __init__(self, run: Run, loader: DataLoader[Any]) -> None:
        if isinstance(loader.dataset, IterableDataset):
            raise InvalidInputError("train dataloader", "an iterable dataset", "a map-style dataset, with a length")
        self._run, self._given = run, loader
        self.dataset = loader.dataset
        self._steps: Iterator[Step] = iter(())
        self._micro_batches: Iterator[MicroBatch] = iter(())
        self._begun_steps = 0
        self.step: Step | None = None
        """The one in hand."""
        self.number = 0
        """Of the micro-batch in hand, in its step."""

    @property
    def batch_size(self) -> int:
        """Of the loader that was given."""
        return self._given.batch_size or 1

    def arrange(self, global_batch_samples: int | None, *, micro_batch_samples: int, accumulation_steps: int) -> None:
        """Decide on the batch: the given one, else the config's, else what the trainer's settings mean at full size."""
        run = self._run
        self._loader = SampleLoader.like(self._given, micro_batch_samples=micro_batch_samples)
        configured = global_batch_samples or run.config.data.global_batch_samples
        self._global_batch_samples = configured or micro_batch_samples * accumulation_steps * run.reference_world_size
        self.plan = run.plan(self._global_batch_samples, self._loader)
        if not self._loader.samples:
            raise InvalidInputError("train dataloader", "an empty dataset", "at least one sample")
        self.steps_per_epoch = -(-self._loader.samples // self.plan.reference_batch_samples)

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches per step."""
        return self.plan.accumulation_steps

    def begin(self, total_steps: int) -> None:
        """After the restore: the steps that are left of `total_steps`."""
        self._steps = self._run.steps(total_steps, loader=self._loader, global_batch_samples=self._global_batch_samples)
        self._begun_steps = self._run.step

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation_steps

    def __iter__(self) -> Iterator[Any]:
        """What is left of the epoch that the run is in."""
        steps_left = self.steps_per_epoch - self._begun_steps % self.steps_per_epoch
        for _ in range(steps_left * self.accumulation_steps):
            micro = self._next()
            if micro is None:
                return
            yield micro.data

    def _next(self) -> MicroBatch | None:
        micro = next(self._micro_batches, None)
        if micro is not None:
            self.number += 1
            return micro
        self.step = next(self._steps, None)
        if self.step is None:
            return None
        self._begun_steps += 1
        self.number, self._micro_batches = 0, self.step.micro_batches
        return next(self._micro_batches)

    @property
    def loss_factor(self) -> float:
        """By which to multiply the micro-batch's mean loss where the trainer divides it by `accumulation_steps`.

        1 wherever the micro-batches of all ranks are of one size.
        """
        return self.plan.parts[self.number].weight * self.accumulation_steps

    def end(self) -> None:
        """Training is over: a step that is not complete (the trainer was stopped inside of it) was not done."""
        if self.step is not None and next(self._micro_batches, None) is not None:
            self._run.drop_step()
