"""Statistics of recorded interruptions, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator.traces import (
    CapacitySeries,
    MembershipEvent,
    Observations,
    empirical_lifetime,
    hazard_by_age,
    kaplan_meier,
    last_hazard_per_hour,
    pair_membership,
)


def test_kaplan_meier_by_hand() -> None:
    """Six lives, two censored: the product-limit steps and Greenwood's error."""
    estimate = kaplan_meier(Observations.of([1, 2, 2, 3, 4, 5], [True, True, False, True, False, True]))
    assert estimate.ages_hours.tolist() == [1, 2, 3, 5]
    assert estimate.at_risk.tolist() == [6, 5, 3, 1]
    assert estimate.survival == pytest.approx([5 / 6, 4 / 6, 4 / 9, 0.0])
    assert estimate.standard_error[1] == pytest.approx(4 / 6 * math.sqrt(1 / 30 + 1 / 20))
    assert estimate.survival_at(2.5) == pytest.approx(4 / 6)
    assert estimate.survival_at(0.5) == 1.0


def test_delayed_entry_counts_only_while_under_observation() -> None:
    """Left truncation: a node that entered at 2 h says nothing about the reclaim at 1 h, nor about the one at 2 h."""
    estimate = kaplan_meier(Observations.of([1, 2, 3, 4], True, [0, 0, 2, 0]))
    assert estimate.at_risk.tolist() == [3, 2, 2, 1]
    assert estimate.survival == pytest.approx([2 / 3, 1 / 3, 1 / 6, 0.0])


def test_a_risk_set_that_runs_empty_early_does_not_end_all_life() -> None:
    """Under truncation the first reclaim can take the only node at risk; later lives still count."""
    estimate = kaplan_meier(Observations.of([1, 5, 6], True, [0, 2, 2]))
    assert estimate.survival == pytest.approx([0.5, 0.0])


def test_truncation_and_censoring_recover_the_true_survival() -> None:
    """20,000 Weibull lives, half truncated, a third censored: S within 5 standard errors everywhere it is tested.

    False-failure rate below 3e-6 for five ages; from 1 to 6 h either one ignored is off by over 10 errors.
    """
    rng = np.random.default_rng(7)
    n = 20_000
    life = 3.0 * rng.weibull(0.7, n)
    entry = np.where(rng.random(n) < 0.5, rng.uniform(0, 4, n), 0.0)
    keep = life > entry
    life, entry = life[keep], entry[keep]
    end = entry + rng.exponential(8.0, life.size)
    observations = Observations.of(np.minimum(life, end), life <= end, entry)
    estimate = kaplan_meier(observations)
    without_truncation = kaplan_meier(Observations.of(observations.exit_hours, observations.observed))
    without_censoring = kaplan_meier(Observations.of(observations.exit_hours, True, observations.entry_hours))
    for age in (0.3, 1.0, 3.0, 6.0, 12.0):
        index = int(np.searchsorted(estimate.ages_hours, age, side="right")) - 1
        true = math.exp(-((age / 3.0) ** 0.7))
        error = float(estimate.standard_error[index])
        assert abs(estimate.survival_at(age) - true) < 5 * error
        if 1.0 <= age < 12.0:
            assert without_truncation.survival_at(age) - true > 10 * error
            assert true - without_censoring.survival_at(age) > 10 * error


def test_the_empirical_lifetime_is_kaplan_meier_with_the_last_hazard_as_tail() -> None:
    """The tail starts at the censored last life, at reclaims over node-hours at risk among the last ten reclaims."""
    lifetime = empirical_lifetime(Observations.of([1, 2, 3, 4], [True, True, True, False]))
    assert lifetime.survivals == pytest.approx((0.75, 0.5, 0.25))
    assert lifetime.tail_start_hours == 4.0
    assert lifetime.tail_rate_per_hour == pytest.approx(3 / 10)
    assert lifetime.tail_share == 0.25
    ended = empirical_lifetime(Observations.of([1, 2, 3], True))
    assert ended.end_hours == 3.0
    assert ended.mean_hours == pytest.approx(2.0)


def test_last_hazard_uses_the_last_reclaims_only() -> None:
    """A falling hazard: the tail must not be the overall mean."""
    exits = np.concatenate([np.full(50, 0.1), 10.0 + np.arange(10), [30.0]])
    observations = Observations.of(exits, np.append(np.ones(60, dtype=bool), False))
    expected = 10 / float((exits[50:] - 0.1).sum())
    assert last_hazard_per_hour(observations) == pytest.approx(expected)
    assert last_hazard_per_hour(Observations.of([5.0], False)) == 0.0


def test_hazard_by_age_is_occurrence_over_exposure() -> None:
    """Counts and node-hours per bin; no reclaim still has an upper bound (3.69 / exposure)."""
    first, second = hazard_by_age(Observations.of([0.5, 1.5, 2.0], [True, False, False]), [0.0, 1.0, 2.0])
    assert (first.events, first.exposure_hours) == (1, 2.5)
    assert first.rate_per_hour == pytest.approx(0.4)
    assert (second.events, second.exposure_hours) == (0, 1.5)
    assert second.low_per_hour == 0.0
    assert second.high_per_hour == pytest.approx(-math.log(0.025) / 1.5)


def test_a_cap_censors_whoever_gets_there() -> None:
    """At and beyond the cap there is no reclaim by the market."""
    seen = Observations.of([1.0, 24.0, 24.5, 30.0], True, [0.0, 0.0, 0.0, 24.2]).capped(24.0)
    assert seen.exit_hours.tolist() == [1.0, 24.0, 24.0]
    assert seen.observed.tolist() == [True, False, False]


SERIES = CapacitySeries.regular([2, 2, 0, 1, 3, 3, 1, 0, 0, 2, 2], 0.5)


def test_intervals_waits_and_gang_lifetimes_of_a_series() -> None:
    """Run lengths: the first stretch is left out (unknown age), the last is censored."""
    assert SERIES.intervals(1) == ((0.0, 1.0), (1.5, 3.5), (4.5, 5.5))
    assert SERIES.intervals(3) == ((2.0, 3.0),)
    assert SERIES.waits_hours(1) == (0.5, 1.0)
    lives = SERIES.lifetimes(1)
    assert lives.exit_hours.tolist() == [2.0, 1.0]
    assert lives.observed.tolist() == [True, False]
    assert SERIES.lifetimes(2).exit_hours.tolist() == [1.0, 1.0]
    assert SERIES.availability(1) == pytest.approx(8 / 11)


def test_losses_that_come_together() -> None:
    """Drops 2→0, 3→1, 1→0: two of three take more than one; 2 of 3 others that were there went along."""
    losses = SERIES.losses()
    assert (losses.events, losses.multi_node_events, losses.nodes_lost) == (3, 2, 5)
    assert losses.multi_node_share == pytest.approx(2 / 3)
    assert losses.bulk == pytest.approx(2 / 3)
    assert losses.marginal_rate_per_hour == pytest.approx(5 / 8.0)


def test_bulk_is_recovered_from_simulated_losses() -> None:
    """Binomial draws with probability 0.2 for each of three others: the estimate is within 5 standard errors."""
    rng = np.random.default_rng(1)
    counts: list[int] = []
    for extra in rng.binomial(3, 0.2, size=4000):
        counts += [4, 4, 3 - int(extra)]
    losses = CapacitySeries.regular([*counts, 4], 0.1).losses()
    assert losses.events == 4000
    assert abs(losses.bulk - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 12_000)
    assert losses.multi_node_share == pytest.approx(1 - 0.8**3, abs=5 * 0.008)


def test_a_series_can_be_replayed() -> None:
    """The replay of a gang of two has its intervals, joined over the seam."""
    replay = SERIES.replay(2)
    assert replay.lifetime_hours(4.6) == pytest.approx(0.9 + 1.0)
    with pytest.raises(InvalidInputError, match="never 4"):
        SERIES.replay(4)


def test_irregular_samples_hold_until_the_next() -> None:
    """Times count, not the number of samples."""
    series = CapacitySeries.irregular([10.0, 11.0, 15.0], [1, 0, 1])
    assert series.intervals() == ((0.0, 1.0), (5.0, 7.5))
    with pytest.raises(InvalidInputError, match="increase strictly"):
        CapacitySeries.irregular([0.0, 0.0], [1, 1])


def test_membership_pairs_names_and_censors_who_stays() -> None:
    """Two reclaims at one moment are one event; a swap at one moment is a loss; the last node is censored."""
    events = [
        MembershipEvent(0.0, "a", True),
        MembershipEvent(0.0, "b", True),
        MembershipEvent(1.0, "a", False),
        MembershipEvent(1.0, "b", False),
        MembershipEvent(1.0, "c", True),
        MembershipEvent(2.0, "d", True),
        MembershipEvent(3.0, "d", False),
    ]
    log = pair_membership(events)
    assert sorted(zip(log.lifetimes.exit_hours.tolist(), log.lifetimes.observed.tolist(), strict=True)) == [
        (1.0, True),
        (1.0, True),
        (1.0, True),
        (2.0, False),
    ]
    assert (log.together.events, log.together.multi_node_events, log.together.nodes_lost) == (2, 1, 3)
    assert log.together.bulk == pytest.approx(1 / 2)
    assert log.together.node_hours == pytest.approx(5.0)
    assert log.capacity.counts.tolist() == [2, 1, 2]
    assert log.capacity.end_hours == 3.0


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "no events"),
        ([MembershipEvent(-1.0, "a", True)], "time >= 0"),
        ([MembershipEvent(2.0, "a", True), MembershipEvent(1.0, "b", True)], "trace event 2"),
        ([MembershipEvent(0.0, "a", True), MembershipEvent(1.0, "a", True)], "not there yet"),
        ([MembershipEvent(0.0, "a", False)], "added before"),
        ([MembershipEvent(0.0, "a", True)], "covers some time"),
    ],
)
def test_membership_that_contradicts_itself_is_refused(events: list[MembershipEvent], message: str) -> None:
    """Each contradiction names its event."""
    with pytest.raises(InvalidInputError, match=message):
        pair_membership(events)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Observations.of([], []), "no observations"),
        (lambda: Observations.of([-1.0], True), "row 1"),
        (lambda: Observations.of([1.0, math.nan], True), "row 2"),
        (lambda: Observations.of([1.0], True, [1.0]), "age at entry"),
        (lambda: Observations.concatenate([]), "no logs"),
        (lambda: CapacitySeries.regular([], 0.1), "no samples"),
        (lambda: CapacitySeries.regular([1, -1], 0.1), "sample 2"),
        (lambda: CapacitySeries.regular([1, 0.5], 0.1), "sample 2"),
        (lambda: CapacitySeries.regular([1], 0.0), "gap_seconds"),
        (lambda: CapacitySeries.regular([1, 1], 0.1).lifetimes(), "no start"),
    ],
)
def test_records_that_mean_nothing_are_refused(make: object, message: str) -> None:
    """Empty, negative, NaN, fractional."""
    with pytest.raises(InvalidInputError, match=message):
        make()  # type: ignore[operator]
