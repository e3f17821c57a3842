"""The draws: Random123's known answers, open ends, addresses that do not collide, the plain and the array form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from simulator import draws

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter, key, expected words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    """The block function is Philox4x32-10, bit for bit."""
    c0, c1, c2, c3 = words(counter)
    k0, k1 = words(key)
    assert draws.philox4x32((c0, c1, c2, c3), (k0, k1)) == words(expected)


def test_uniforms_are_built_from_the_words_as_stated() -> None:
    """u = ((a >> 5)·2²⁶ + (b >> 6) + ½)·2⁻⁵³, the address where the contract puts it."""
    seed, run, node, acquisition, other = (7 << 32) | 5, 11, 3, 2, 9
    w0, w1, w2, w3 = draws.philox4x32((acquisition, node, run, (draws.STREAM_BULK << 24) | other), (5, 7))
    expected = tuple(math.ldexp(((a >> 5) << 26) + (b >> 6) + 0.5, -53) for a, b in ((w0, w1), (w2, w3)))
    assert draws.uniforms(seed, run, node, acquisition, draws.STREAM_BULK, other) == expected


def test_a_word_decides_who_is_taken_along() -> None:
    """u = (w + ½)·2⁻³², four nodes to a block: the node m has word m mod 4 of the block m // 4."""
    for taken in (0, 1, 6, 11, 65_535):
        address = (2, 3, 11, (draws.STREAM_BULK << 24) | (taken // 4))
        word = draws.philox4x32(address, (5, 7))[taken % 4]
        assert draws.bulk_uniform((7 << 32) | 5, 11, 3, 2, taken) == math.ldexp(word + 0.5, -32)


def test_uniforms_never_reach_the_ends() -> None:
    """The smallest and the largest block give numbers strictly inside (0, 1), so that −ln u is finite and above 0."""
    assert draws._uniform(0, 0) == 2.0**-54
    assert draws._uniform(0xFFFFFFFF, 0xFFFFFFFF) == 1.0 - 2.0**-53


def test_array_form_equals_the_plain_form() -> None:
    """Same addresses, same numbers, bit for bit."""
    seed = 0xDEADBEEF12345678
    runs, acquisitions = np.arange(40).reshape(-1, 1), np.arange(5)
    first, second = draws.uniforms_array(seed, runs, 3, acquisitions, draws.STREAM_BULK, other=6)
    assert first.shape == second.shape == (40, 5)
    for run, acquisition in itertools.product(range(40), range(5)):
        plain = draws.uniforms(seed, run, 3, acquisition, draws.STREAM_BULK, 6)
        assert (first[run, acquisition], second[run, acquisition]) == plain


def test_every_part_of_the_address_matters() -> None:
    """Changing any one of seed (both words), run, node, acquisition, stream or other changes the number."""
    addresses = [
        (1, 0, 0, 0, 0, 0),
        (2, 0, 0, 0, 0, 0),
        (1 + (1 << 32), 0, 0, 0, 0, 0),
        (1, 1, 0, 0, 0, 0),
        (1, 0, 1, 0, 0, 0),
        (1, 0, 0, 1, 0, 0),
        (1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0, 1),
    ]
    assert len({draws.uniforms(*address) for address in addresses}) == len(addresses)


def test_moments_of_a_million_uniforms() -> None:
    """Mean and mean square of 2·10⁶ numbers within 5 standard errors (false-failure rate below 2·10⁻⁶ in all).

    A bias of 0.002 in the mean would be 10 standard errors.
    """
    first, second = draws.uniforms_array(1, np.arange(1_000_000), 0, 0, draws.STREAM_ACQUISITION)
    u = np.concatenate([first, second])
    n = u.size
    assert abs(u.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs((u**2).mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(n / 2)
