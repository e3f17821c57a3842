"""How the samples of one optimizer step are shared out: over ranks, and on each rank over micro-batches.

The gradient of a step is the mean over its global batch.  Rank r of W computes a contiguous share of it, in K
micro-batches; K is the same on every rank (FSDP gathers parameters in each of them), sizes differ by at most one.  DDP
and FSDP average over ranks, so a micro-batch of n samples, whose own loss is a mean, counts with the weight n·W/B:

    1/W · Σ_ranks Σ_micro (n·W/B) · mean_micro  =  1/B · Σ_samples        (exactly, for any B ≥ W)
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import ElasticConfig
from harness.data import rank_share
from harness.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Part:
    """A micro-batch: positions [start, stop) of the global batch, and what the mean of its losses counts for."""

    start: int
    stop: int
    weight: float


@dataclass(frozen=True)
class BatchPlan:
    """One world size's sharing; pure arithmetic, the same on every rank but for `rank`.

    Parameters
    ----------
    reference_batch_samples:  the global batch that learning rate and config were chosen for.
    global_batch_samples:     the one in force, at least one sample per rank.
    micro_batch_samples:      at most so many in one forward pass.
    """

    reference_batch_samples: int
    global_batch_samples: int
    micro_batch_samples: int
    rank: int
    world_size: int

    @property
    def share(self) -> tuple[int, int]:
        """This rank's positions [start, stop) in the global batch."""
        return rank_share(self.global_batch_samples, self.rank, self.world_size)

    @property
    def even(self) -> bool:
        """Every rank's mean weighs the same."""
        return self.global_batch_samples % self.world_size == 0

    @property
    def weight(self) -> float:
        """What the mean over this rank's whole share counts for; 1 when all shares are equal."""
        start, stop = self.share
        return (stop - start) * self.world_size / self.global_batch_samples

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches per rank and step."""
        largest = -(-self.global_batch_samples // self.world_size)
        return -(-largest // self.micro_batch_samples)

    @property
    def parts(self) -> tuple[Part, ...]:
        """This rank's micro-batches.

        One that would be empty repeats the share's last sample with weight 0, so that every rank makes as many passes.
        """
        start, stop = self.share
        count = self.accumulation_steps
        found = []
        for index in range(count):
            first, last = rank_share(stop - start, index, count)
            weight = (last - first) * self.world_size / self.global_batch_samples
            if first == last:
                first, last = (first - 1, first) if first else (0, 1)
            found.append(Part(start + first, start + last, weight))
        return tuple(found)

    @property
    def learning_rate_factors(self) -> dict[str, float]:
        """By rule: Goyal et al. 2017 (linear), Krizhevsky 2014 (square root)."""
        ratio = self.global_batch_samples / self.reference_batch_samples
        return {"unchanged": 1.0, "linear": ratio, "sqrt": ratio**0.5}


def plan_batches(
    config: ElasticConfig, reference_batch_samples: int, *, rank: int, world_size: int, reference_world_size: int
) -> BatchPlan:
    """The sharing that `config` asks for; `reference_world_size` is what the reference batch was chosen for."""
    if reference_batch_samples < 1:
        raise InvalidInputError("global_batch_samples", reference_batch_samples, "at least 1")
    batch = reference_batch_samples
    if config.batch == "follow-world":
        batch = max(1, reference_batch_samples * world_size // reference_world_size)
    if batch < world_size:
        raise InvalidInputError(
            "global_batch_samples",
            batch if batch == reference_batch_samples else f"{reference_batch_samples} ({batch} at this world size)",
            f"at least {world_size}, one sample for each rank",
        )
    return BatchPlan(
        reference_batch_samples=reference_batch_samples,
        global_batch_samples=batch,
        micro_batch_samples=config.micro_batch_samples or -(-reference_batch_samples // reference_world_size),
        rank=rank,
        world_size=world_size,
    )
