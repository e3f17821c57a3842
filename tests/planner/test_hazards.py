"""Interruption rates: the order of sources, what each means in numbers, and what a type without any gets."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import gamma

from harness.errors import InvalidInputError
from harness.telemetry.schema import Profile
from planner import hazard_source as flags
from planner.assumptions import load_assumptions
from planner.bands import Band
from planner.catalogue import load_catalogue
from planner.hazard_source import counted_source, rate_interval_per_hour
from planner.hazard_tables import band_rates_per_hour
from planner.hazards import HazardSource, choose_hazard, hazard_sources, own_log_source
from simulator.lifetimes import Bathtub, Empirical, Exponential, Weibull
from tests.planner.tables_helper import copy_tables, replace_once

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
    """Weibull of shape 0.62 whose mean is 2.13 h; the range is what was measured."""
    found = sources("p3.2xlarge")
    measured = found["measured"]
    assert isinstance(measured.lifetime, Weibull)
    assert measured.lifetime.shape == 0.62
    assert measured.lifetime.mean_hours == pytest.approx(2.13)
    assert (measured.rate_low_per_hour, measured.rate_high_per_hour) == (0.31, 0.74)
    assert measured.lifetime.hazard(0.25) > 3 * measured.lifetime.hazard(8.0)


def test_sources_of_p3_come_in_order_of_what_they_saw() -> None:
    """Running nodes of the region, published measurement, article, launch probes, provider's band."""
    names = [
        "fit:aws-v100-4node-2023-08-us-east-1f",
        "measured",
        "article",
        "fit:aws-v100-2023-02-nine-zones",
        "spot-advisor",
    ]
    found = sources("p3.2xlarge", "us-east-1")
    assert list(found) == names
    assert found[names[3]].flags == (flags.LAUNCH_PROBES,)
    elsewhere = list(sources("p3.2xlarge", "eu-west-1"))
    assert elsewhere[0] == "fit:aws-v100-4node-2023-08-three-zones"


def test_fit_of_one_place_is_as_sure_as_its_standard_error() -> None:
    """0.46429 +- 0.0445 an hour: nodes lost together count as 109 losses, not 195; the range is Gamma's."""
    source = sources("p3.2xlarge", "us-east-1")["fit:aws-v100-4node-2023-08-us-east-1f"]
    assert source.events == pytest.approx((0.46429 / 0.0445) ** 2)
    assert source.exposure_hours == pytest.approx(source.events / 0.46429)
    low, high = gamma.ppf([0.025, 0.975], source.events + 0.5) / source.exposure_hours
    assert (source.rate_low_per_hour, source.rate_high_per_hour) == pytest.approx((low, high))
    assert source.rate_high_per_hour - source.rate_low_per_hour == pytest.approx(2 * 1.96 * 0.0445, rel=0.02)


def test_pooled_fit_ranges_over_its_places_and_claims_no_sample() -> None:
    """Three zones of 0.06 to 0.46 losses an hour: which zone it is, is what is unsure."""
    source = sources("p3.2xlarge", "eu-west-1")["fit:aws-v100-4node-2023-08-three-zones"]
    assert (source.events, source.exposure_hours) == (None, None)
    assert (source.rate_low_per_hour, source.rate_high_per_hour) == pytest.approx((0.059996, 0.46429))
    assert source.rate_per_hour == pytest.approx(0.1957)


def test_h100s_of_google_rest_on_launch_probes_of_their_smallest_size() -> None:
    """a3-highgpu-1g has probes of its own; the 8-GPU size an estimate from them: both say so."""
    own = sources("a3-highgpu-1g", "us-central1")
    assert [source.flags for source in own.values()] == [(flags.LAUNCH_PROBES,)]
    big = sources("a3-highgpu-8g", "us-central1")
    assert list(big) == ["fit:gcp-h100-2025-10-thirteen-zones"]
    assert big["fit:gcp-h100-2025-10-thirteen-zones"].flags == (flags.ESTIMATE, flags.LAUNCH_PROBES)


def test_family_without_a_size_is_an_estimate_for_each_size() -> None:
    """Google's n1 machines of 2019 carry a 24 h cap into n1+1xV100, flagged."""
    source = sources("n1+1xV100", None)["fit:gcp-n1-2019"]
    assert source.flags == (flags.ESTIMATE,)
    assert isinstance(source.lifetime, Bathtub)
    assert source.lifetime.cap_hours == 24.0


def log_file(path: Path, lives: list[tuple[float, int]]) -> Path:
    """A log in the plain form: hours lived, and whether it ended in a reclaim."""
    lines = "".join(f"{hours},{'preempted' if reclaimed else 'running'}\n" for hours, reclaimed in lives)
    path.write_text(f"lifetime_hours,end_event\n{lines}", encoding="utf-8")
    return path


def test_own_log_comes_first(tmp_path: Path) -> None:
    """Three reclaims and a node still running: an exponential with (3 + 1/2)/20 h, ahead of every table."""
    own = own_log_source(log_file(tmp_path / "nodes.csv", [(2.0, 1), (3.0, 1), (5.0, 1), (10.0, 0)]))
    assert own.lifetime == Exponential(3.5 / 20.0)
    assert (own.events, own.exposure_hours, own.source) == (3, 20.0, "your log nodes.csv")
    found = hazard_sources(CATALOGUE.instance("p4d.24xlarge"), "us-east-1", own=own)
    assert [source.name for source in found][:2] == ["own-logs", "article"]
    assert choose_hazard(found, None, CATALOGUE.instance("p4d.24xlarge")) is own


def test_long_own_log_gives_a_shape(tmp_path: Path) -> None:
    """400 Weibull lives of shape 0.5 (seeded): a Weibull is fitted, its mean within 4 standard errors, ~1e-4 to fail.

    The standard error of the log mean of a fitted Weibull of this shape is about sqrt(5/400) = 0.11.
    """
    lives = Weibull(0.5, 1.0)
    uniform = random.Random(7)
    hours = [lives.inverse_cumulative_hazard(-math.log(uniform.random())) for _ in range(400)]
    own = own_log_source(log_file(tmp_path / "nodes.csv", [(max(age, 1e-6), 1) for age in hours]))
    assert isinstance(own.lifetime, Weibull)
    assert abs(math.log(own.rate_per_hour * lives.mean_hours)) < 4 * 0.11
    assert own.rate_low_per_hour < own.rate_per_hour < (own.rate_high_per_hour or 0.0)


def test_file_that_is_no_log_is_bad_input(tmp_path: Path) -> None:
    """Text that holds no lifetimes, and no file at all."""
    (tmp_path / "x.csv").write_text("hello\n", encoding="utf-8")
    for name in ("x.csv", "none.csv"):
        with pytest.raises(InvalidInputError, match=name):
            own_log_source(tmp_path / name)


def test_newer_bands_replace_the_bundled_ones() -> None:
    """The fetched Spot Advisor file says >20 % for p4d in us-east-1: that is what spot-advisor means then."""
    band = Band("aws", "p4d.24xlarge", "us-east-1", 4, 60.0, "AWS Spot Instance Advisor", "2026-11-24")
    found = hazard_sources(CATALOGUE.instance("p4d.24xlarge"), "us-east-1", bands=[band])
    advisor = {source.name: source for source in found}["spot-advisor"]
    assert (advisor.as_of, advisor.flags) == ("2026-11-24", (flags.OPEN_BAND,))


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
    assert (p3.rate_high_per_hour, p3.flags) == (None, (flags.OPEN_BAND,))


@pytest.mark.parametrize(
    ("name", "value"),
    [("open_band_share", 1.0), ("open_band_share", 0.1), ("band_exposure_hours", 0.0), ("band_session_hours", 0.0)],
)
def test_conversion_that_makes_no_sense_is_bad_input(name: str, value: float) -> None:
    """A share that is certain or below its own band, an exposure of nothing: the error names the assumption."""
    with pytest.raises(InvalidInputError) as caught:
        band_rates_per_hour(4, load_assumptions().with_overrides({name: value}))
    assert caught.value.field == name


def test_higher_bands_never_mean_lower_rates() -> None:
    """Metamorphic: low and point rise from band to band."""
    rates = [band_rates_per_hour(index, load_assumptions()) for index in range(5)]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(rates))
    assert all(low <= point and (high is None or point < high) for low, point, high in rates)


def test_no_data_default_is_never_read_as_low_risk() -> None:
    """p4de in il-central-1 is "<5 %, 90 % savings": last, flagged, never chosen; other regions stand in for it."""
    found = hazard_sources(CATALOGUE.instance("p4de.24xlarge"), "il-central-1")
    assert [s.name for s in found] == ["spot-advisor-other-regions", "spot-advisor-no-data"]
    assert found[-1].flags == (flags.NO_DATA_DEFAULT,)
    chosen = choose_hazard(found, None, CATALOGUE.instance("p4de.24xlarge"))
    assert chosen.name == "spot-advisor-other-regions"
    with pytest.raises(InvalidInputError, match="none is guessed"):
        choose_hazard(found[-1:], None, CATALOGUE.instance("p4de.24xlarge"))
    assert choose_hazard(found, "spot-advisor-no-data", CATALOGUE.instance("p4de.24xlarge")) is found[-1]


def test_other_sizes_of_the_accelerator_are_a_flagged_estimate() -> None:
    """p3.8xlarge is in no table of hourly rates: its siblings' geometric mean, after its family and its own band."""
    found = sources("p3.8xlarge")
    assert list(found) == ["fit:aws-p3-bamboo", "spot-advisor", "same-accelerator"]
    estimate = found["same-accelerator"]
    assert estimate.flags == (flags.ESTIMATE,)
    assert estimate.rate_per_hour == pytest.approx(math.sqrt(math.log(0.965) * math.log(0.95)))


@pytest.mark.parametrize("instance", ["a2-highgpu-8g", "Standard_ND96asr_v4", "p6-b300.48xlarge"])
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
    assert found["profile"].flags == ()


def test_profile_of_another_region_is_flagged() -> None:
    """Rates differ between regions; in no region in particular there is nothing to differ from."""
    here = profile(region="us-east-1", interruptions=4, exposure_hours=200.0)
    assert sources("p4d.24xlarge", "us-east-1", here)["profile"].flags == ()
    assert sources("p4d.24xlarge", "us-west-2", here)["profile"].flags == (flags.OTHER_REGION,)
    assert sources("p4d.24xlarge", None, here)["profile"].flags == ()


def test_profile_that_says_little_does_not_come_first() -> None:
    """No reclaim in half an hour bounds nothing; of an unknown type: only when asked for; of another: never."""
    little = sources("p4d.24xlarge", profile=profile(interruptions=0, exposure_hours=0.5))
    assert next(iter(little)) == "article"
    assert little["profile"].flags == (flags.LITTLE_EXPOSURE,)
    unknown = hazard_sources(
        CATALOGUE.instance("a2-highgpu-8g"), None, profile=profile(instance=None, interruptions=9, exposure_hours=0.1)
    )
    assert [s.flags for s in unknown] == [(flags.UNKNOWN_INSTANCE,)]
    with pytest.raises(InvalidInputError, match="--rate-per-hour"):
        choose_hazard(unknown, None, CATALOGUE.instance("a2-highgpu-8g"))
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


def test_every_shape_stretches_to_the_wanted_mean() -> None:
    """Bathtub and measured lifetimes too: mean 1/rate, and the survival at the same share of the mean unchanged."""
    base = sources("p4d.24xlarge")["article"]
    for lifetime in (
        Bathtub(0.45, 1.0, 24.0, 0.8, 24.0),
        Bathtub(0.45, 1.0, 24.0, 0.8),
        Empirical((1.0, 2.0, 5.0), (0.8, 0.5, 0.2), 6.0, 0.1),
    ):
        source = replace(base, lifetime=lifetime, rate_per_hour=1.0 / lifetime.mean_hours)
        moved = source.lifetime_at(0.02)
        assert moved.mean_hours == pytest.approx(50.0)
        for share in (0.1, 0.6, 1.3):
            there = lifetime.survival(share * lifetime.mean_hours)
            assert moved.survival(share * 50.0) == pytest.approx(there, abs=1e-9)


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
                assert set(source.flags) <= set(flags.FLAGS)
    assert seen > 100


def test_corrupt_rates_are_bad_input(tmp_path: Path) -> None:
    """A rate without both ends names its line."""
    line = replace_once(copy_tables(tmp_path) / "interruption_rates.csv", "exponential,0.15,0.15", "exponential,0.15,")
    with pytest.raises(InvalidInputError, match=f"interruption_rates.csv line {line}"):
        hazard_sources(CATALOGUE.instance("p4d.24xlarge"), None, directory=tmp_path)
