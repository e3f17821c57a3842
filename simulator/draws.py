"""Randomness as a table that is looked up, not a stream that is consumed: Philox4x32-10 keyed by what is asked.

Every uniform of a simulated run has an address: (seed, run, node, n-th acquisition, stream).  Whoever asks for the
same address gets the same number, in any order, on any thread, in either engine, so that two intervals or two
instances in a comparison meet the same fates (common random numbers).

    key      the seed, 64 bits: (low word, high word)
    counter  c0 = acquisition (0, 1, … of that node)   c1 = node   c2 = run   c3 = (stream << 24) | other

One block of four 32-bit words gives two uniforms strictly inside (0, 1) with 53 bits each:
u = ((a >> 5)·2²⁶ + (b >> 6) + ½)·2⁻⁵³ from the words (a, b) = (w0, w1) and (w2, w3).  Whether a reclaim takes
another node along is one word, u = (w + ½)·2⁻³²: a fleet draws one for each pair, and a block serves four nodes.

Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC'11; the
round constants and the known answers in the tests are those of the Random123 library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

STREAM_ACQUISITION = 0
"""(u_lifetime, u_notice) of a node's n-th acquisition."""
STREAM_PROVISION = 1
"""(u_wait, unused) of a node's n-th acquisition."""
STREAM_BULK = 2
"""Does the reclaim of this node's acquisition take the node m with it?  Word m mod 4 of the block `other` = m // 4."""
STREAM_CORRUPTION = 3
"""(u_verdict, unused): c0 counts the verdicts of the run, c1 = 0."""
STREAM_RUN = 4
"""(u_rate, u_trace_offset) of the run, c0 = c1 = 0."""

MAX_SEED = 2**64 - 1
MAX_RUN = 2**32 - 1

LARGEST_UNIFORM = 1.0 - 2.0**-53
"""The one block value in 2⁵³ that would round up to 1 is held below it."""

_WORD = 0xFFFFFFFF
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of Philox4x32-10: four 32-bit words in, four out."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> 32) ^ c1 ^ k0,
            product_1 & _WORD,
            (product_0 >> 32) ^ c3 ^ k1,
            product_0 & _WORD,
        )
        k0 = (k0 + _WEYL_0) & _WORD
        k1 = (k1 + _WEYL_1) & _WORD
    return c0, c1, c2, c3


def uniforms(seed: int, run: int, node: int, acquisition: int, stream: int, other: int = 0) -> tuple[float, float]:
    """The two uniforms in (0, 1) at one address."""
    counter = (acquisition & _WORD, node & _WORD, run & _WORD, ((stream << 24) | other) & _WORD)
    w0, w1, w2, w3 = philox4x32(counter, (seed & _WORD, (seed >> 32) & _WORD))
    return _uniform(w0, w1), _uniform(w2, w3)


def bulk_uniform(seed: int, run: int, node: int, acquisition: int, taken: int) -> float:
    """The uniform that decides whether the reclaim of `node`'s acquisition takes the node `taken` with it."""
    counter = (acquisition & _WORD, node & _WORD, run & _WORD, (STREAM_BULK << 24) | (taken >> 2))
    word = philox4x32(counter, (seed & _WORD, (seed >> 32) & _WORD))[taken & 3]
    return (word + 0.5) * 2.0**-32


def _uniform(a: int, b: int) -> float:
    return min(((a >> 5) * 67_108_864.0 + (b >> 6) + 0.5) * 2.0**-53, LARGEST_UNIFORM)


def uniforms_array(
    seed: int, runs: ArrayLike, node: ArrayLike, acquisition: ArrayLike, stream: int, other: ArrayLike = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`uniforms` for many addresses at once: arguments broadcast, two float64 arrays of their common shape."""
    import numpy as np

    word = np.uint64(_WORD)
    shift = np.uint64(32)
    high_part = np.uint64(stream << 24)
    parts = (np.asarray(part, dtype=np.uint64) for part in (acquisition, node, runs, other))
    c0, c1, c2, c3 = np.broadcast_arrays(*parts)
    c3 = c3 | high_part
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(_ROUNDS):
        product_0 = np.uint64(_MULTIPLIER_0) * c0
        product_1 = np.uint64(_MULTIPLIER_1) * c2
        c0, c1, c2, c3 = (
            (product_1 >> shift) ^ c1 ^ np.uint64(k0),
            product_1 & word,
            (product_0 >> shift) ^ c3 ^ np.uint64(k1),
            product_0 & word,
        )
        k0 = (k0 + _WEYL_0) & _WORD
        k1 = (k1 + _WEYL_1) & _WORD

    def uniform(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.float64]:
        high = (a >> np.uint64(5)).astype(np.float64) * 67_108_864.0
        value = (high + (b >> np.uint64(6)).astype(np.float64) + 0.5) * 2.0**-53
        return np.minimum(value, LARGEST_UNIFORM)

    return uniform(c0, c1), uniform(c2, c3)
