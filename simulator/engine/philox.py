"""Counter-based random numbers, compiled: Philox4x32-10, one block per (seed, run, node, acquisition, stream).

The compiled twin of `simulator.draws`; tests hold both to Random123's known answers and to each other.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11 (the Philox round, its two
multipliers and the Weyl constants of the key).

Everything is `uint64` holding 32-bit words: numba turns a mix of int64 and uint64 into float64, so no bare literal
may meet a word.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import numpy as np

from simulator.engine.compiled import helper, inlined

_U = np.uint64
_MASK = _U(0xFFFFFFFF)
_M0, _M1 = _U(0xD2511F53), _U(0xCD9E8D57)
_W0, _W1 = _U(0x9E3779B9), _U(0xBB67AE85)
_S5, _S6, _S26, _S32 = _U(5), _U(6), _U(26), _U(32)
_SCALE = 2.0**-53
_LARGEST = 1.0 - 2.0**-53  # the one value that would round up to 1 is held below it

ACQUISITION, PROVISION, BULK, CORRUPTION, RUN = (_U(stream << 24) for stream in range(5))
"""Fourth counter word of each stream; BULK adds the other node's index."""


@inlined
def _round(c0, c1, c2, c3, k0, k1):
    product0 = c0 * _M0
    product1 = c2 * _M1
    return (product1 >> _S32) ^ c1 ^ k0, product1 & _MASK, (product0 >> _S32) ^ c3 ^ k1, product0 & _MASK


@inlined
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds on four counter words under two key words (all uint64 < 2³²); four words."""
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return _round(c0, c1, c2, c3, k0, k1)


@inlined
def unit(a, b):
    """A uniform strictly inside (0, 1) from two words: 27 + 26 bits, in the middle of its cell of 2⁻⁵³."""
    bits = ((a >> _S5) << _S26) | (b >> _S6)
    # int64 first: one instruction converts a signed 64-bit integer, an unsigned one needs several.
    return min((np.float64(np.int64(bits)) + 0.5) * _SCALE, _LARGEST)


@inlined
def two_units(c0, c1, c2, c3, k0, k1):
    """The two uniforms of one block."""
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    return unit(w0, w1), unit(w2, w3)


@inlined
def one_unit(c0, c1, c2, c3, k0, k1):
    """The first uniform of one block."""
    w0, w1, _w2, _w3 = philox(c0, c1, c2, c3, k0, k1)
    return unit(w0, w1)


def key_words(seed: int) -> tuple[np.uint64, np.uint64]:
    """The two 32-bit key words of a 64-bit seed, low word first."""
    return _U(seed & 0xFFFFFFFF), _U((seed >> 32) & 0xFFFFFFFF)


_EXPONENT_ONE = np.int64(0x3FF)
_FRACTION = np.int64(0x000FFFFFFFFFFFFF)
_ROOT_HALF = np.int64(0x3FE6A09E667F3BCD)
_TO_ROOT_HALF = np.int64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_S52 = np.int64(52)


@inlined
def unit_exponential(u):
    """−ln u for u in (0, 1), within 1 ulp, without a branch or a call: a loop over it becomes vector instructions.

    Source: the argument reduction and the polynomial of fdlibm's e_log.c (Sun Microsystems, 1993).
    """
    bits = np.float64(u).view(np.int64) + _TO_ROOT_HALF
    exponent = np.float64((bits >> _S52) - _EXPONENT_ONE)
    mantissa = np.int64((bits & _FRACTION) + _ROOT_HALF).view(np.float64)
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332))
    odd = z * (
        0.6666666666666735130 + w * (0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591))
    )
    half_square = 0.5 * f * f
    tail = half_square - (s * (half_square + even + odd) + exponent * 1.90821492927058770002e-10)
    return (tail - f) - exponent * 6.93147180369123816490e-01


@helper
def fill_acquisitions(first, size, node, run, scale, key0, key1, hazards, notices):
    """Cumulative hazards at reclaim (unit exponentials × scale) and notice uniforms of `size` acquisitions in a row."""
    for j in range(size):
        u, v = two_units(first + _U(j), node, run, ACQUISITION, key0, key1)
        hazards[j] = unit_exponential(u) * scale
        notices[j] = v


@helper
def fill_units(first, size, node, run, stream, key0, key1, units):
    """The first uniforms of `size` blocks in a row of one stream."""
    for j in range(size):
        units[j] = one_unit(first + _U(j), node, run, stream, key0, key1)
