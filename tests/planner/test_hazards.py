"""Interruption rates: the order of sources, what each means in numbers, and what a type without any gets."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from scipy.stats import gamma

from harness.errors import InvalidInputError
from harness.telemetry.schema import Profile
from planner import hazards
from planner.assumptions import load_assumptions
from planner.catalogue import load_catalogue
from planner.hazards import (
    HazardSource,
    band_rates_per_hour,
    choose_hazard,
    counted_source,
    hazard_sources,
    rate_interval_per_hour,
)
from simulator.lifetimes import Exponential, Weibull

CATALOGUE = load_catalogue()


def sources(instance: str, region: str | None = "us-east-1", profile: Profile | None = None) -> dict[str, HazardSource]:
    """Sources by name, in their order."""
    return {s.name: s for s in hazard_sources(CATALOGUE.instance(instance), region, profile=profile)}


def profile(**fields: object) -> Profile:
    """A measured profile of p4d.24xlarge unless `fields` say otherwise."""
    known = {"run_ids": ("r1",), "created_wall_time": 1_790_000_000.0, "instance": "p4d.24xlarge", "nodes": 1}
    return Profile.model_validate({**known, **fields})


def test_article_says_15_percent_an_hour_for_p4d() -> None:
    """15 % an hour is a rate of -ln(0.85) = 0.16252/h; the band beside it is about a thousand times lower."""
    found = sources("p4d.24xlarge")
    assert list(found) == ["article", "spot-advisor"]
    article = found["article"]
    assert isinstance(article.lifetime, Exponential)
    assert article.rate_per_hour == article.lifetime.rate_per_hour == pytest.approx(0.162518929, abs=1e-9)
    assert article.lifetime.cdf(1.0) == pytest.approx(0.15)
    assert (article.rate_low_per_hour, article.rate_high_per_hour) == pytest.approx((0.0162518929, 1.62518929))
    assert article.rate_per_hour / found["spot-advisor"].rate_per_hour > 800


@pytest.mark.parametrize(
    ("instance", "probability"), [("p3.16xlarge", 0.05), ("p3.2xlarge", 0.035), ("g4dn.12xlarge", 0.08)]
)
def test_articles_other_rows(instance: str, probability: float) -> None:
    """5 %, 3-4 % (its middle) and 8 % an hour."""
    assert sources(instance)["article"].lifetime.cdf(1.0) == pytest.approx(probability)


def test_measured_p3_falls_with_age() -> None:
    """Weibull of shape 0.62 whose mean is 2.13 h; the range is what was measured; it comes before the article."""
    found = sources("p3.2xlarge")
    assert list(found)[:2] == ["measured", "article"]
    measured = found["measured"]
    assert isinstance(measured.lifetime, Weibull)
    assert measured.lifetime.shape == 0.62
    assert measured.lifetime.mean_hours == pytest.approx(2.13)
    assert (measured.rate_low_per_hour, measured.rate_high_per_hour) == (0.31, 0.74)
    assert measured.lifetime.hazard(0.25) > 3 * measured.lifetime.hazard(8.0)


def test_band_conversion_by_hand() -> None:
    """10-15 % of a month: low -ln(0.9)/730, point -ln(0.875)/730, high -ln(0.85)/24."""
    low, point, high = band_rates_per_hour(2, load_assumptions())
    assert (low, point) == pytest.approx((-math.log(0.9) / 730, -math.log(0.875) / 730))
    assert high == pytest.approx(-math.log(0.85) / 24)


def test_top_band_is_open() -> None:
    """Nothing bounds >20 % from above: no upper rate, a flag, and the stated middle for the point."""
    stated = load_assumptions()
    low, point, high = band_rates_per_hour(4, stated)
    assert high is None
    assert (low, point) == pytest.approx((-math.log(0.8) / 730, -math.log(0.4) / 730))
    assert band_rates_per_hour(4, stated.with_overrides({"open_band_share": 0.9}))[1] > point
    p3 = sources("p3.16xlarge")["spot-advisor"]
    assert (p3.rate_high_per_hour, p3.flags) == (None, (hazards.OPEN_BAND,))


def test_higher_bands_never_mean_lower_rates() -> None:
    """Metamorphic: low and point rise from band to band."""
    rates = [band_rates_per_hour(index, load_assumptions()) for index in range(5)]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(rates))
    assert all(low <= point and (high is None or point < high) for low, point, high in rates)


def test_no_data_default_is_never_read_as_low_risk() -> None:
    """p4de in il-central-1 is "<5 %, 90 % savings": last, flagged, never chosen; other regions stand in for it."""
    found = hazard_sources(CATALOGUE.instance("p4de.24xlarge"), "il-central-1")
    assert [s.name for s in found] == ["spot-advisor-other-regions", "spot-advisor-no-data"]
    assert found[-1].flags == (hazards.NO_DATA_DEFAULT,)
    chosen = choose_hazard(found, None, CATALOGUE.instance("p4de.24xlarge"))
    assert chosen.name == "spot-advisor-other-regions"
    with pytest.raises(InvalidInputError, match="none is guessed"):
        choose_hazard(found[-1:], None, CATALOGUE.instance("p4de.24xlarge"))
    assert choose_hazard(found, "spot-advisor-no-data", CATALOGUE.instance("p4de.24xlarge")) is found[-1]


def test_other_sizes_of_the_accelerator_are_a_flagged_estimate() -> None:
    """p3.8xlarge is in no table of hourly rates: its siblings' geometric mean, after its own band."""
    found = sources("p3.8xlarge")
    assert list(found) == ["spot-advisor", "same-accelerator"]
    estimate = found["same-accelerator"]
    assert estimate.flags == (hazards.ESTIMATE,)
    assert estimate.rate_per_hour == pytest.approx(math.sqrt(math.log(0.965) * math.log(0.95)))


@pytest.mark.parametrize("instance", ["a3-highgpu-8g", "Standard_ND96asr_v4", "p6-b300.48xlarge"])
def test_type_without_any_source_asks_for_a_rate(instance: str) -> None:
    """Nobody publishes rates for these: no source, and the error says which flags to give."""
    row = CATALOGUE.instance(instance)
    assert hazard_sources(row, None) == ()
    with pytest.raises(InvalidInputError, match="--rate-per-hour"):
        choose_hazard((), None, row)


def test_unknown_source_names_the_nearest() -> None:
    """--hazard artcle."""
    row = CATALOGUE.instance("p4d.24xlarge")
    with pytest.raises(InvalidInputError, match="did you mean 'article'"):
        choose_hazard(hazard_sources(row, "us-east-1"), "artcle", row)


def test_counted_interruptions_carry_their_uncertainty() -> None:
    """3 reclaims in 100 node-hours: the range is the central 95 % of Gamma(3.5)/100, checked against SciPy."""
    source = counted_source("profile", 3, 100.0, "x", "2026-11-24")
    assert (source.events, source.exposure_hours, source.rate_per_hour) == (3, 100.0, 0.035)
    expected = gamma.ppf([0.025, 0.975], 3.5) / 100.0
    assert (source.rate_low_per_hour, source.rate_high_per_hour) == pytest.approx(tuple(expected))
    assert rate_interval_per_hour(300, 10_000.0)[1] < rate_interval_per_hour(3, 100.0)[1]
    for events, hours in ((-1, 1.0), (1, 0.0), (math.nan, 1.0), (1, math.inf)):
        with pytest.raises(InvalidInputError):
            counted_source("profile", events, hours, "x", "2026-11-24")


def test_measured_profile_comes_first() -> None:
    """What the harness counted on this type beats every table."""
    found = sources("p4d.24xlarge", profile=profile(interruptions=4, exposure_hours=200.0))
    assert next(iter(found)) == "profile"
    assert found["profile"].rate_per_hour == pytest.approx(4.5 / 200)
    assert "r1" in found["profile"].source


def test_profile_that_says_little_does_not_come_first() -> None:
    """No reclaim in half an hour bounds nothing; of an unknown type: only when asked for; of another: never."""
    little = sources("p4d.24xlarge", profile=profile(interruptions=0, exposure_hours=0.5))
    assert next(iter(little)) == "article"
    assert little["profile"].flags == (hazards.LITTLE_EXPOSURE,)
    unknown = hazard_sources(
        CATALOGUE.instance("a3-highgpu-8g"), None, profile=profile(instance=None, interruptions=9, exposure_hours=0.1)
    )
    assert [s.flags for s in unknown] == [(hazards.UNKNOWN_INSTANCE,)]
    with pytest.raises(InvalidInputError, match="--rate-per-hour"):
        choose_hazard(unknown, None, CATALOGUE.instance("a3-highgpu-8g"))
    assert "profile" not in sources("p3.16xlarge", profile=profile(interruptions=4, exposure_hours=200.0))


def test_lifetime_at_another_rate_keeps_its_shape() -> None:
    """Sensitivity analyses move the mean and nothing else."""
    measured = sources("p3.2xlarge")["measured"]
    moved = measured.lifetime_at(0.1)
    assert isinstance(moved, Weibull)
    assert (moved.shape, moved.mean_hours) == (0.62, pytest.approx(10.0))
    assert sources("p4d.24xlarge")["article"].lifetime_at(0.1) == Exponential(0.1)
    with pytest.raises(InvalidInputError):
        measured.lifetime_at(0.0)


def test_every_source_of_every_type_is_sound() -> None:
    """All types, all regions of the bands: ordered range, source, date, a lifetime with that mean, known flags."""
    seen = 0
    for instance in CATALOGUE.instances:
        for region in (None, "us-east-1", "ap-south-1", "eu-west-1", "sa-east-1"):
            for source in hazard_sources(instance, region):
                seen += 1
                assert source.rate_low_per_hour <= source.rate_per_hour
                assert source.rate_high_per_hour is None or source.rate_per_hour <= source.rate_high_per_hour
                assert source.source
                assert source.as_of
                assert source.lifetime.mean_hours == pytest.approx(1.0 / source.rate_per_hour)
                assert set(source.flags) <= set(hazards.FLAGS)
    assert seen > 100


def test_corrupt_rates_are_bad_input(tmp_path: Path) -> None:
    """A rate without both ends names its line."""
    from tests.planner.tables_helper import copy_tables, replace_once

    line = replace_once(copy_tables(tmp_path) / "interruption_rates.csv", "exponential,0.15,0.15", "exponential,0.15,")
    with pytest.raises(InvalidInputError, match=f"interruption_rates.csv line {line}"):
        hazard_sources(CATALOGUE.instance("p4d.24xlarge"), None, directory=tmp_path)
