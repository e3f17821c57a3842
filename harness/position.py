"""Where the run stands: steps done, samples consumed, and what a checkpoint remembers of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from harness.checkpoint.outcomes import RestoredState
from harness.checkpoint.progress import Progress
from harness.config import RunConfig
from harness.errors import InvalidInputError
from harness.learning_rate import LearningRateScale
from harness.tuning import RunHistory

_DATASET_SAMPLES = "dataset_samples"
SKIPPED = "skipped"


@dataclass
class Position:
    """Moved by whole global batches; the same on every rank."""

    config: RunConfig
    world_size: int
    nodes: int = 1
    step: int = 0
    samples_seen: int = 0
    samples: int | None = None
    """Size of the dataset; None before `steps` was called, and for a stream."""
    batch: int | None = None
    """Samples of a step, once `steps` was called."""
    total_steps: int | None = None
    skipped: dict[int, int] = field(default_factory=dict)
    """Samples that were passed over on request, by the step before which they were."""
    step_seconds: float = 0.0
    """As the ranks agreed on it; 0 before."""
    learning_rate: LearningRateScale = field(init=False)
    history: RunHistory = field(init=False)

    def __post_init__(self) -> None:
        self.history = RunHistory(self.nodes)
        self.learning_rate = LearningRateScale(self.config.elastic.warm_up_steps)

    def advance(self) -> None:
        """One optimizer step is done."""
        assert self.batch is not None, "steps() sets the batch"
        self.step += 1
        self.samples_seen += self.batch

    @property
    def work_seconds(self) -> float:
        """Useful training time so far, by the agreed step time."""
        return self.step * self.step_seconds

    def progress(self) -> Progress:
        """What a checkpoint of this moment says."""
        epoch, within = divmod(self.samples_seen, self.samples) if self.samples is not None else (0, 0)
        return Progress(
            step=self.step,
            epoch=epoch,
            samples_seen=self.samples_seen,
            epoch_samples_seen=within,
            world_size=self.world_size,
            global_batch_samples=self.batch,
            learning_rate_rule=self.config.elastic.learning_rate,
            learning_rate_scale=self.learning_rate.value,
            work_seconds=self.work_seconds,
            seed=self.config.seed,
            user={
                _DATASET_SAMPLES: self.samples,
                **({SKIPPED: json.dumps(self.skipped)} if self.skipped else {}),
                **self.learning_rate.remembered(),
                **self.history.remembered(self.step, self.step_seconds),
            },
        )

    def adopt(self, restored: RestoredState, *, generation: int) -> None:
        """Go on where `restored` stopped, as attempt `generation`.

        InvalidInputError when the config's seed is not the run's.
        """
        progress = restored.progress
        if progress.seed is not None and progress.seed != self.config.seed:
            raise InvalidInputError(
                "seed",
                self.config.seed,
                f"{progress.seed}, with which run {self.config.run_id} was begun",
                "the data order follows from it: restore the seed, or choose a new run_id",
            )
        self.step, self.samples_seen = progress.step, progress.samples_seen
        self.learning_rate.adopt(progress.user)
        self.history.adopt(
            progress.user,
            step=self.step,
            attempts=generation - restored.generation,
            grown=self.world_size > progress.world_size,
        )

    def use_dataset(self, samples: int | None, batch: int, total_steps: int, restored: RestoredState | None) -> None:
        """Take what `steps` was told; InvalidInputError when the restored run had another dataset."""
        saved = None if restored is None else restored.progress.user.get(_DATASET_SAMPLES)
        if saved is not None and saved != samples:
            raise InvalidInputError(
                "samples",
                samples,
                f"{saved}, the size of the dataset that run {self.config.run_id} was begun with",
                "another size is another order: use the same dataset, or choose a new run_id",
            )
        self.samples, self.batch, self.total_steps = samples, batch, total_steps


def parse_skipped(remembered: object) -> dict[int, int]:
    """`Position.skipped` from what a checkpoint's progress says of it."""
    found = json.loads(remembered) if isinstance(remembered, str) else {}
    return {int(step): int(samples) for step, samples in found.items()}
