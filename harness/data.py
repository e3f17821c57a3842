"""Data order as a pure function of (seed, epoch, position): every sample exactly once per epoch, resumed in O(1).

The order of an epoch is a keyed permutation that is computed, not stored: a Feistel network over Z_a × Z_b with
a·b just above the number of samples (Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002, method 3
with cycle walking).  Any position of any epoch is therefore found without replaying what came before, whatever the
world size was then.  A position counts samples since the start of the run: epoch = position // n, and global batch k
covers positions k·B … (k+1)·B − 1, across the end of an epoch too, so nothing is dropped and nothing padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.errors import InvalidInputError

Indices = npt.NDArray[np.int64]

_ROUNDS = 16
# splitmix64 (Steele, Lea and Flood, OOPSLA 2014): increment and the two multipliers of its finalizer.
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _mix(z: int) -> int:
    z = (z + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def mix_array(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64 of every element."""
    z = z + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class SampleOrder:
    """Which of `samples` samples stands at which position of the run."""

    samples: int
    seed: int
    shuffle: bool = True
    _radices: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 1 << 62:
            raise InvalidInputError("samples", self.samples, "at least one sample (at most 2**62)")
        first = math.isqrt(self.samples - 1) + 1  # ⌈√n⌉
        object.__setattr__(self, "_radices", (first, -(-self.samples // first)))

    def at(self, positions: npt.ArrayLike) -> Indices:
        """Sample indices at `positions` (samples since the start of the run, any shape, int64), O(1) each."""
        flat = np.atleast_1d(np.asarray(positions, dtype=np.int64))
        epochs, within = np.divmod(flat, self.samples)
        if not self.shuffle or self.samples == 1:
            return within
        return self._permute(within.astype(np.uint64), epochs)

    def _permute(self, values: npt.NDArray[np.uint64], epochs: Indices) -> Indices:
        distinct, which = np.unique(epochs, return_inverse=True)
        keys = mix_array(distinct.astype(np.uint64) ^ np.uint64(_mix(self.seed & _MASK)))
        out = self._feistel(values, keys, which)
        # The domain a·b exceeds n by less than ⌈√n⌉: walk the few values that fell outside along their cycle, which
        # re-enters because it began inside.
        outside = np.nonzero(out >= self.samples)[0]
        while outside.size:
            out[outside] = self._feistel(out[outside], keys, which[outside])
            outside = outside[out[outside] >= self.samples]
        return out.astype(np.int64)

    def _feistel(
        self, values: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], which: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.uint64]:
        """`values` permuted, each under `keys[which]`, its epoch's key."""
        a, b = (np.uint64(radix) for radix in self._radices)
        left, right = values // b, values % b
        for number in range(0, _ROUNDS, 2):
            first, second = mix_array(keys ^ np.uint64(number)), mix_array(keys ^ np.uint64(number + 1))
            left = (left + mix_array(right ^ first[which]) % a) % a
            right = (right + mix_array(left ^ second[which]) % b) % b
        return left * b + right


def rank_share(batch_samples: int, rank: int, world_size: int) -> tuple[int, int]:
    """The part [start, stop) of a global batch that `rank` computes: contiguous, sizes differ by at most one."""
    return batch_samples * rank // world_size, batch_samples * (rank + 1) // world_size


@dataclass
class RankBatches:
    """This rank's share of every global batch, from any batch on."""

    order: SampleOrder
    global_batch_samples: int
    rank: int = 0
    world_size: int = 1
    _block: tuple[int, Indices] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.global_batch_samples < 1:
            raise InvalidInputError("global_batch_samples", self.global_batch_samples, "at least 1")

    def at(self, samples_seen: int) -> Indices:
        """This rank's sample indices in the batch that begins at position `samples_seen`, int64, 1-D."""
        start, stop = rank_share(self.global_batch_samples, self.rank, self.world_size)
        # Permuting is a fixed cost of some array operations per call: do it for a block of batches at once.
        size = self.global_batch_samples
        batches = max(1, 4096 // size)
        if self._block is None or not 0 <= (offset := samples_seen - self._block[0]) < batches * size or offset % size:
            positions = samples_seen + np.arange(batches * size, dtype=np.int64).reshape(batches, size)[:, start:stop]
            self._block = (samples_seen, self.order.at(positions.ravel()).reshape(batches, stop - start))
            offset = 0
        row: Indices = self._block[1][offset // size]
        return row

    def batches(self, samples_seen: int = 0) -> Iterator[list[int]]:
        """Endless index lists from position `samples_seen` on: a `batch_sampler` for torch's DataLoader."""
        while True:
            yield [int(index) for index in self.at(samples_seen)]
            samples_seen += self.global_batch_samples
