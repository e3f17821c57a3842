"""A run at a world size that may be another one than last time: batch, learning rate, buckets, random streams, data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.optim import Optimizer

from harness.batches import BatchPlan, plan_batches
from harness.checkpoint.outcomes import RestoredState
from harness.config import RunConfig
from harness.data import RankBatches, SampleOrder
from harness.environment import maximum_nodes
from harness.errors import InvalidInputError
from harness.learning_rate import LearningRateScale
from harness.loading import Loader, StatefulStream
from harness.position import Position
from harness.replicas import data_parallel, pin_buckets
from harness.steps import Step
from harness.streams import enter_samples, leave_samples, number_streams

_log = logging.getLogger("harness")

_NO_INDICES: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


class Elastic:
    """One rank's part in it.  `adapt_components` comes before the restore, `begin` after it, then `step` for each."""

    def __init__(self, config: RunConfig, rank: int, world_size: int, position: Position) -> None:
        self._config, self._rank, self._world_size = config, rank, world_size
        self._position = position
        self._scale: LearningRateScale = position.learning_rate
        self._components: Sequence[Any] = ()
        self._plan: BatchPlan | None = None
        self._batches: RankBatches | None = None
        self._loader: Loader | None = None
        self._load: Callable[[], Any] | None = None

    @property
    def plan(self) -> BatchPlan:
        """Known once `begin` was called."""
        assert self._plan is not None, "begin() comes first"
        return self._plan

    def adapt_components(self, components: Sequence[Any]) -> None:
        """`components` as the script registered them, wrappers included.  Collective where one of them is a DDP."""
        self._components = components
        number_streams(components)
        if self._config.elastic.pin_buckets:
            for model in filter(None, map(data_parallel, components)):
                pin_buckets(model)

    @property
    def reference_world_size(self) -> int:
        """The config's, else the full fleet."""
        full = maximum_nodes(self._config) * self._config.torchrun.nproc_per_node
        return self._config.elastic.reference_world_size or max(full, self._world_size)

    def plan_for(self, reference_batch: int, loader: Loader | None) -> BatchPlan:
        """How the samples of a step are shared out at this world size; InvalidInputError when they cannot be."""
        config = self._config
        plan = plan_batches(
            config.elastic,
            reference_batch,
            rank=self._rank,
            world_size=self._world_size,
            reference_world_size=self.reference_world_size,
        )
        limit = None if loader is None else loader.micro_batch_samples
        # A stream's batches are what they are; of a dataset the config decides where it says something.
        if limit is not None and (isinstance(loader, StatefulStream) or config.elastic.micro_batch_samples is None):
            plan = replace(plan, micro_batch_samples=limit)
        return plan

    def begin(
        self, plan: BatchPlan, order: SampleOrder | None, loader: Loader | None, restored: RestoredState | None
    ) -> None:
        """Everything is restored: from here on batch, learning rate and data follow the world of this attempt.

        After the optimizer's state was loaded: nothing that is set here can be overwritten by it.  Again for each
        further loop of the same process: a stream goes on where it is, any other loader starts at the position.
        """
        elastic, position = self._config.elastic, self._position
        goes_on = isinstance(loader, StatefulStream) and loader is self._loader
        if self._loader is not None and not goes_on:
            self._loader.close()
            self._load = None
        self._plan, self._loader = plan, loader
        self._batches = (
            None if order is None else RankBatches(order, plan.global_batch_samples, self._rank, self._world_size)
        )
        changed = self._scale.begin(plan.learning_rate_factors[elastic.learning_rate], position.step)
        self._scale.apply_to(c for c in self._components if isinstance(c, Optimizer))
        if isinstance(loader, StatefulStream) and restored is not None:
            loader.check_world(restored.world_size, self._world_size)
        if loader is not None and not goes_on:
            self._load = loader.start(plan, order, position.samples_seen, seed=self._config.seed)
        if self._rank == 0 and (changed or plan.accumulation_steps > 1):
            _log.info(
                "%d samples per step on %d ranks in %d micro-batches each; learning rate × %.4g%s",
                plan.global_batch_samples,
                self._world_size,
                plan.accumulation_steps,
                plan.learning_rate_factors[elastic.learning_rate],
                f" after {elastic.warm_up_steps} steps" if changed and elastic.warm_up_steps else "",
            )

    def moved(self, order: SampleOrder | None) -> None:
        """The position was moved: what the loader has prefetched is not what comes next."""
        if self._loader is not None:
            self._loader.close()
            self._load = self._loader.start(self.plan, order, self._position.samples_seen, seed=self._config.seed)

    def step(self) -> Step:
        """The step that the position stands at."""
        position, plan = self._position, self.plan
        before, reference = position.samples_seen, plan.reference_batch_samples
        by_samples = self._config.elastic.schedule == "samples"
        scheduler_steps = (before + plan.global_batch_samples) // reference - before // reference if by_samples else 1
        self._begin_samples(*plan.share)
        return Step.make(
            position.step,
            _NO_INDICES if self._batches is None else self._batches.at(before),
            plan=plan,
            components=self._components,
            begin_samples=self._begin_samples,
            load=self._load,
            scheduler_steps=scheduler_steps,
            learning_rate_scale=self._scale.at(position.step),
        )

    def step_done(self, step: Step) -> None:
        """The loop's body has run for `step`; InvalidInputError when its gradient cannot have been the mean."""
        leave_samples()
        if not self.plan.even and not step.weighted:
            raise InvalidInputError(
                "global_batch_samples",
                self.plan.global_batch_samples,
                f"a multiple of the world size {self._world_size}, in a loop that does not use weights",
                "multiply the loss by step.weight, or iterate over step.micro_batches",
            )
        if self._load is not None and not step.complete:
            raise InvalidInputError(
                "step.micro_batches", f"{step.loaded} used", f"all {self.plan.accumulation_steps} of a step"
            )

    def close(self) -> None:
        """End the loader's workers."""
        leave_samples()
        if self._loader is not None:
            self._loader.close()

    def _begin_samples(self, start: int, stop: int) -> None:
        """Positions [start, stop) of this step's global batch are computed next."""
        if self._config.data.randomness == "per-sample":
            begin = self._position.samples_seen
            enter_samples(self._config.seed, np.arange(begin + start, begin + stop, dtype=np.int64))
