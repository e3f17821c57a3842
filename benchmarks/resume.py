"""Time to go on in the middle of an epoch, by size of the dataset: the run's order, and replaying a sampler.

    python -m benchmarks.resume

Median of five: making the order and the first batch of 256 indices at half of the seventh epoch; beside it, what
skipping that far through a shuffled list costs (drawn once, up to 10⁷ samples).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from harness.data import RankBatches, SampleOrder

SIZES = (10**3, 10**5, 10**7, 10**9)
BATCH = 256


def resume(samples: int) -> None:
    """The run's way."""
    RankBatches(SampleOrder(samples, 1), BATCH, 0, 1).at(6 * samples + samples // 2)


def replay(samples: int) -> None:
    """A sampler's way: the epoch's permutation, and a walk to its middle."""
    generator = torch.Generator().manual_seed(1)
    positions = iter(torch.randperm(samples, generator=generator).tolist())
    for _ in range(samples // 2):
        next(positions)


def timed(work: Callable[[], None], repeats: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main(arguments: list[str]) -> None:
    """Print the table; there are no arguments."""
    del arguments
    resume(1000)
    print(f"{'samples':>13}  {'this order':>12}  {'replay':>12}")
    for samples in SIZES:
        own = timed(lambda n=samples: resume(n), 5)  # type: ignore[misc]
        other = f"{timed(lambda n=samples: replay(n), 1):10.4f} s" if samples <= 10**7 else "(not run)"  # type: ignore[misc]
        print(f"{samples:13,}  {own * 1e3:9.3f} ms  {other:>12}")


if __name__ == "__main__":
    main([])
