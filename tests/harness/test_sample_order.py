"""Data order: a permutation per epoch, a pure function of (seed, epoch, position), independent of the world size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import RankBatches, SampleOrder, rank_share
from harness.errors import InvalidInputError


@settings(max_examples=80, deadline=None)
@given(samples=st.integers(1, 700), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**31))
def test_every_sample_exactly_once_per_epoch(samples: int, seed: int, epoch: int) -> None:
    """Each epoch of any dataset is a permutation of it."""
    order = SampleOrder(samples, seed).at(epoch * samples + np.arange(samples))
    assert sorted(order.tolist()) == list(range(samples))


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 60),
    batch=st.sampled_from([12, 24]),
    worlds=st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_any_sequence_of_world_sizes_sees_the_same_samples(
    samples: int, batch: int, worlds: list[int], seed: int
) -> None:
    """Whatever the world sizes were, step k uses the same global batch, each sample at one rank."""
    order = SampleOrder(samples, seed)
    seen: list[int] = []
    for step, world in enumerate(worlds):
        for rank in range(world):
            seen += RankBatches(order, batch, rank, world).at(step * batch).tolist()
    assert seen == order.at(np.arange(len(worlds) * batch)).tolist()
    whole_epochs = len(seen) // samples
    counts = np.bincount(seen[: whole_epochs * samples], minlength=samples)
    assert (counts == whole_epochs).all()


def test_resume_at_any_position_continues_the_same_order() -> None:
    """A fresh object asked for a far position gives what one that walked there gives (no state, no replay)."""
    order = SampleOrder(1009, 3)
    walking = RankBatches(order, 48, 1, 3)
    walked = [walking.at(step * 48).tolist() for step in range(200)]
    for step in (0, 1, 85, 86, 199):
        assert RankBatches(order, 48, 1, 3).at(step * 48).tolist() == walked[step]
    assert list(itertools.islice(RankBatches(order, 48, 1, 3).batches(86 * 48), 3)) == walked[86:89]


def test_a_billion_samples_need_no_memory() -> None:
    """10⁹ samples, far into the run: distinct, in range, from a handful of array operations."""
    order = SampleOrder(10**9, 1)
    found = order.at(7 * 10**9 + np.arange(4096))
    assert found.min() >= 0
    assert found.max() < 10**9
    assert len(np.unique(found)) == 4096


def test_seed_and_epoch_give_other_orders() -> None:
    """Another seed or epoch is another order; no shuffling is the identity in every epoch."""
    positions = np.arange(1000)
    first = SampleOrder(1000, 1).at(positions)
    for other in (SampleOrder(1000, 2).at(positions), SampleOrder(1000, 1).at(1000 + positions)):
        # Two independent random orders agree in one place on average (Poisson): 12 or more has probability 8e-10.
        assert np.sum(first == other) < 12
    assert SampleOrder(1000, 1, shuffle=False).at(3000 + positions).tolist() == positions.tolist()


@pytest.mark.parametrize("samples", [7, 100, 4096])
@pytest.mark.parametrize("seed", [0, 1])
def test_orders_are_uniform(samples: int, seed: int) -> None:
    """Over many epochs, the sample at a fixed position is uniform, and so is its distance to the one that follows.

    Pearson's χ² with k bins and 20,000 epochs; the limit is the 1 − 10⁻⁶ quantile by the Wilson–Hilferty approximation,
    so the false-failure rate is 1.2·10⁻⁵ over the 12 tests (the seeds are fixed: they pass or fail for good).  A bin
    that is off by a fraction f adds 20,000·f²/k to χ²: for k = 10 an error of 15 % (adds 45, limit 44) is found.
    """
    epochs, bins = 20_000, min(samples - 1, 10)
    positions = np.arange(epochs)[:, None] * samples + [samples // 2, samples // 2 + 1]
    pairs = SampleOrder(samples, seed).at(positions.ravel()).reshape(epochs, 2)
    distance = (pairs[:, 1] - pairs[:, 0]) % samples
    assert distance.min() > 0
    for values, range_ in ((pairs[:, 0], samples), (distance - 1, samples - 1)):
        counts = np.bincount(values * bins // range_, minlength=bins)
        expected = epochs * np.bincount(np.arange(range_) * bins // range_, minlength=bins) / range_
        degrees = bins - 1
        limit = degrees * (1 - 2 / (9 * degrees) + 4.7534 * np.sqrt(2 / (9 * degrees))) ** 3
        assert np.sum((counts - expected) ** 2 / expected) < limit


def test_shares_cover_the_batch() -> None:
    """Contiguous shares, sizes within one of each other."""
    for batch, world in ((7, 3), (8, 2), (5, 5), (2, 4)):
        shares = [rank_share(batch, rank, world) for rank in range(world)]
        assert shares[0][0] == 0
        assert shares[-1][1] == batch
        assert all(a[1] == b[0] for a, b in itertools.pairwise(shares))
        assert max(b - a for a, b in shares) - min(b - a for a, b in shares) <= 1


def test_an_empty_dataset_or_batch_is_refused() -> None:
    """The error says what is missing."""
    with pytest.raises(InvalidInputError, match="at least one sample"):
        SampleOrder(0, 0)
    with pytest.raises(InvalidInputError, match="global_batch_samples"):
        RankBatches(SampleOrder(10, 0), 0)
