"""How often the provider takes a node back: every source of an interruption rate behind one interface, best first.

    own-logs                     the user's own log of node lifetimes (a file)
    profile                      interruptions that the harness counted on a real run
    fit:…                        fits to public traces of this instance type
    measured                     published measurements of this instance type
    article                      the article's hourly table
    spot-advisor                 the provider's monthly band, converted (see `band_rates_per_hour`)
    spot-advisor-other-regions   the same, from the type's other regions, where this one says nothing
    same-accelerator             an estimate from other sizes with the same accelerator
    spot-advisor-no-data         a band that looks like a default value: never read as low risk, always last

The sources differ by orders of magnitude, and each says how sure it is: from events and exposure where they are known,
as a stated range where not.  A type without any source has none here: the plan must then be given a rate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from harness.telemetry.schema import Profile
from planner import tables
from planner.assumptions import Assumptions, load_assumptions
from planner.bands import SHARES, Band, load_bands
from planner.catalogue import Instance
from planner.data_files import Row, read_table
from planner.profile import profile_as_of, profile_source
from simulator.lifetimes import Exponential, Lifetime, Weibull

ESTIMATE = "estimate"
OTHER_REGION = "other-regions"
NO_DATA_DEFAULT = "looks-like-no-data"
OPEN_BAND = "open-ended-band"
UNKNOWN_INSTANCE = "profile-of-unknown-instance"
LITTLE_EXPOSURE = "little-exposure"

FLAGS = {
    ESTIMATE: "estimated from other instance types",
    OTHER_REGION: "from other regions of the same type",
    NO_DATA_DEFAULT: "under 5 % at 90 % savings: looks like a default where the type is hardly offered",
    OPEN_BAND: "the top band (>20 %) has no upper end",
    UNKNOWN_INSTANCE: "the profile does not say on which instance type it was measured: only used when asked for",
    LITTLE_EXPOSURE: "no reclaim seen, and too few node-hours to say much",
}

# Without a single reclaim, fewer node-hours than a day cannot outrank what others measured.
_LITTLE_EXPOSURE_HOURS = 24.0
_NOT_BY_DEFAULT = frozenset({NO_DATA_DEFAULT, UNKNOWN_INSTANCE})
_LAST = (LITTLE_EXPOSURE, UNKNOWN_INSTANCE, NO_DATA_DEFAULT)


@dataclass(frozen=True, slots=True)
class HazardSource:
    """One source's answer for one instance type and region.

    `name` is what ``--hazard`` picks.  `rate_per_hour` is 1 ÷ mean lifetime, reclaims per node-hour in the long run;
    `rate_low_per_hour` and `rate_high_per_hour` bound it (None above: nothing bounds it).  With `events` and
    `exposure_hours` the range is a 95 % interval and the simulator carries the uncertainty; without them the range is
    what the source states or a stated assumption.  `flags` are keys of `FLAGS`.
    """

    name: str
    lifetime: Lifetime
    rate_per_hour: float
    events: float | None
    exposure_hours: float | None
    source: str
    as_of: str
    note: str
    rate_low_per_hour: float
    rate_high_per_hour: float | None
    flags: tuple[str, ...] = ()

    def lifetime_at(self, rate_per_hour: float) -> Lifetime:
        """This lifetime with another long-run rate; a Weibull keeps its shape.  InvalidInputError for a rate <= 0."""
        if isinstance(self.lifetime, Weibull):
            if not (math.isfinite(rate_per_hour) and rate_per_hour > 0.0):
                raise InvalidInputError("rate_per_hour", rate_per_hour, "a finite rate > 0")
            return Weibull(self.lifetime.shape, self.lifetime.scale_hours * self.rate_per_hour / rate_per_hour)
        return Exponential(rate_per_hour)


def hazard_sources(
    instance: Instance,
    region: str | None,
    *,
    profile: Profile | None = None,
    bands: Sequence[Band] | None = None,
    assumptions: Assumptions | None = None,
    directory: Path | None = None,
) -> tuple[HazardSource, ...]:
    """Every source that says something about `instance` in `region` (None: any), best first; empty when none does.

    `profile` is a measured one of this job; `bands` are newer ones than the bundled (`planner.prices`); `directory` is
    another folder of tables.
    """
    stated = assumptions or load_assumptions(directory)
    sources: list[HazardSource] = []
    if profile is not None and profile.exposure_hours > 0.0 and profile.instance in (None, instance.name):
        sources.append(_profile_source(profile))
    published = _published(directory)
    own = [row for row in published if _is_about(row, instance) and row.optional_text("region") in (None, region)]
    sources += [_published_source(row, stated) for row in sorted(own, key=lambda row: row.text("method") != "measured")]
    sources += _advisor_sources(instance, region, load_bands(directory) if bands is None else bands, stated)
    estimate = _same_accelerator(instance, published, stated, directory)
    if estimate is not None:
        sources.append(estimate)
    return tuple(sorted(sources, key=_rank))


def _rank(source: HazardSource) -> int:
    """0 for sources that stay where they are; those with a flag of `_LAST` go to the end, in its order."""
    return max((_LAST.index(flag) + 1 for flag in source.flags if flag in _LAST), default=0)


def choose_hazard(sources: Sequence[HazardSource], name: str | None, instance: Instance) -> HazardSource:
    """The source called `name`, or the best one (None).

    Raises InvalidInputError when there is no such source, or none at all that may be planned with: a rate must then
    be given, since none is guessed.
    """
    if name is not None:
        for source in sources:
            if source.name == name:
                return source
        known = [source.name for source in sources]
        expected = f"one of {', '.join(known)}" if known else f"a rate: no source knows {instance.name}"
        raise InvalidInputError("hazard", name, expected, did_you_mean(name, known))
    usable = [source for source in sources if not _NOT_BY_DEFAULT.intersection(source.flags)]
    if not usable:
        raise InvalidInputError(
            "hazard",
            instance.name,
            "an instance type with a known interruption rate",
            "give --rate-per-hour or --probability-per-hour; none is guessed",
        )
    return usable[0]


def counted_source(name: str, events: float, exposure_hours: float, source: str, as_of: str) -> HazardSource:
    """An exponential lifetime from `events` reclaims in `exposure_hours` node-hours (> 0).

    The point value is (events + ½) ÷ exposure, the mean of the Gamma(events + ½) posterior under Jeffreys' prior; the
    range is its central 95 % interval.
    """
    if not (math.isfinite(exposure_hours) and exposure_hours > 0.0):
        raise InvalidInputError("exposure_hours", exposure_hours, "a finite number of hours > 0")
    if not (math.isfinite(events) and events >= 0.0):
        raise InvalidInputError("events", events, "a finite number >= 0")
    rate = (events + 0.5) / exposure_hours
    low, high = rate_interval_per_hour(events, exposure_hours)
    note = f"{events:g} reclaims in {exposure_hours:g} node-hours"
    return HazardSource(name, Exponential(rate), rate, events, exposure_hours, source, as_of, note, low, high)


def _profile_source(profile: Profile) -> HazardSource:
    counted = counted_source(
        "profile", profile.interruptions, profile.exposure_hours, profile_source(profile), profile_as_of(profile)
    )
    flags = (UNKNOWN_INSTANCE,) if profile.instance is None else ()
    if profile.interruptions == 0 and profile.exposure_hours < _LITTLE_EXPOSURE_HOURS:
        flags = (*flags, LITTLE_EXPOSURE)
    return replace(counted, flags=flags)


def rate_interval_per_hour(events: float, exposure_hours: float, coverage: float = 0.95) -> tuple[float, float]:
    """The central interval of the Gamma(events + ½) ÷ exposure posterior of a rate (Jeffreys' prior)."""
    from scipy.special import gammaincinv  # half a second of import that only counted events need

    tail = 0.5 * (1.0 - coverage)
    low, high = (float(gammaincinv(events + 0.5, p)) / exposure_hours for p in (tail, 1.0 - tail))
    return low, high


def band_rates_per_hour(band_index: int, assumptions: Assumptions) -> tuple[float, float, float | None]:
    """(low, point, high) reclaims per hour behind a monthly band; high is None for the open top band.

    A band is the share f of capacity reclaimed in the trailing month.  The rate that makes an instance go with
    probability f in an exposure of T hours is −ln(1 − f)/T.  T is not published: the point takes the band's middle and
    T = `band_exposure_hours` (a whole month up), low its lower end at the same T, high its upper end at
    T = `band_session_hours`.  The open band's middle is `open_band_share`.
    """
    lower, upper = SHARES[band_index]
    month = assumptions.value("band_exposure_hours")
    session = assumptions.value("band_session_hours")
    middle = assumptions.value("open_band_share") if upper is None else 0.5 * (lower + upper)
    high = None if upper is None else _rate(upper, session)
    return _rate(lower, month), _rate(middle, month), high


def _rate(share: float, hours: float) -> float:
    return -math.log1p(-share) / hours


@cache
def _published(directory: Path | None) -> tuple[Row, ...]:
    return read_table(tables.INTERRUPTION_RATES, directory)


def _is_about(row: Row, instance: Instance) -> bool:
    return row.text("provider") == instance.provider and row.text("instance") == instance.name


def _published_source(row: Row, assumptions: Assumptions) -> HazardSource:
    low, high = _published_range(row)
    mean_hours = row.optional_number("mean_hours")
    shape = row.optional_number("weibull_shape")
    rate = 1.0 / mean_hours if mean_hours else _middle(row, low, high)
    lifetime: Lifetime = Exponential(rate)
    if row.text("distribution") == "weibull" and shape:
        lifetime = Weibull(shape, 1.0 / rate / math.gamma(1.0 + 1.0 / shape))
    note = row.text("note")
    if row.text("method") == "article":
        factor = max(1.0, assumptions.value("unsampled_rate_factor"))
        low, high = low / factor, high * factor
        note += f"; range: {factor:g} times lower to {factor:g} times higher (assumption)"
    return HazardSource(
        name=row.text("method"),
        lifetime=lifetime,
        rate_per_hour=rate,
        events=None,
        exposure_hours=None,
        source=row.text("source"),
        as_of=row.text("as_of"),
        note=note,
        rate_low_per_hour=low,
        rate_high_per_hour=high,
    )


def _published_range(row: Row) -> tuple[float, float]:
    rates = [row.optional_number("rate_per_hour_low"), row.optional_number("rate_per_hour_high")]
    if rates[0] is not None and rates[1] is not None:
        return rates[0], rates[1]
    shares = [row.optional_number("probability_per_hour_low"), row.optional_number("probability_per_hour_high")]
    if shares[0] is None or shares[1] is None:
        where = f"{tables.INTERRUPTION_RATES.name} line {row.line}"
        raise InvalidInputError(where, row.text("instance"), "both ends of a rate or of a probability per hour")
    return _rate(shares[0], 1.0), _rate(shares[1], 1.0)


def _middle(row: Row, low: float, high: float) -> float:
    shares = [row.optional_number("probability_per_hour_low"), row.optional_number("probability_per_hour_high")]
    if shares[0] is not None and shares[1] is not None:
        return _rate(0.5 * (shares[0] + shares[1]), 1.0)
    return math.sqrt(low * high)


def _advisor_sources(
    instance: Instance, region: str | None, bands: Iterable[Band], assumptions: Assumptions
) -> list[HazardSource]:
    mine = [band for band in bands if band.provider == instance.provider and band.instance == instance.name]
    here = next((band for band in mine if band.region == region), None)
    elsewhere = [band for band in mine if band.region != region and not band.looks_like_no_data]
    sources = []
    if here is not None and not here.looks_like_no_data:
        sources.append(_advisor_source("spot-advisor", here, assumptions, ()))
    elif elsewhere:
        sources.append(_other_regions(elsewhere, assumptions))
    if here is not None and here.looks_like_no_data:
        sources.append(_advisor_source("spot-advisor-no-data", here, assumptions, (NO_DATA_DEFAULT,)))
    return sources


def _advisor_source(name: str, band: Band, assumptions: Assumptions, flags: tuple[str, ...]) -> HazardSource:
    low, point, high = band_rates_per_hour(band.index, assumptions)
    if high is None:
        flags = (*flags, OPEN_BAND)
    note = f"{band.label} of capacity reclaimed in a trailing month, {_conversion(assumptions)}"
    return HazardSource(name, Exponential(point), point, None, None, band.source, band.as_of, note, low, high, flags)


def _other_regions(bands: Sequence[Band], assumptions: Assumptions) -> HazardSource:
    rates = [band_rates_per_hour(band.index, assumptions) for band in bands]
    point = statistics.median(rate[1] for rate in rates)
    highs = [rate[2] for rate in rates]
    high = None if None in highs else max(value for value in highs if value is not None)
    flags = (OTHER_REGION, *((OPEN_BAND,) if high is None else ()))
    note = f"median of {len(bands)} other regions' monthly bands, {_conversion(assumptions)}"
    return HazardSource(
        name="spot-advisor-other-regions",
        lifetime=Exponential(point),
        rate_per_hour=point,
        events=None,
        exposure_hours=None,
        source=bands[0].source,
        as_of=bands[0].as_of,
        note=note,
        rate_low_per_hour=min(rate[0] for rate in rates),
        rate_high_per_hour=high,
        flags=flags,
    )


def _conversion(assumptions: Assumptions) -> str:
    hours = assumptions.value("band_exposure_hours")
    return f"read as -ln(1 - share)/{hours:g} h (assumption: instances up for all of it)"


def _same_accelerator(
    instance: Instance, published: Sequence[Row], assumptions: Assumptions, directory: Path | None
) -> HazardSource | None:
    """An estimate from the article's rows for other sizes of the same accelerator at the same provider.

    Sizes of one family are cut from the same hosts, so that a shortage of the accelerator reaches all of them; how far
    their rates differ nobody published, hence the wide range and the flag.
    """
    siblings = _same_accelerator_names(instance, directory)
    rows = [
        row
        for row in published
        if row.text("method") == "article"
        and row.text("provider") == instance.provider
        and row.text("instance") in siblings
    ]
    if not rows or any(_is_about(row, instance) for row in published):
        return None
    sources = [_published_source(row, assumptions) for row in rows]
    rate = math.exp(statistics.fmean(math.log(source.rate_per_hour) for source in sources))
    names = ", ".join(row.text("instance") for row in rows)
    return HazardSource(
        name="same-accelerator",
        lifetime=Exponential(rate),
        rate_per_hour=rate,
        events=None,
        exposure_hours=None,
        source=sources[0].source,
        as_of=sources[0].as_of,
        note=f"estimate: geometric mean of {names}, other sizes with the same accelerator at the same provider",
        rate_low_per_hour=min(source.rate_low_per_hour for source in sources),
        rate_high_per_hour=max(source.rate_high_per_hour or math.inf for source in sources),
        flags=(ESTIMATE,),
    )


@cache
def _instances_by_accelerator(directory: Path | None) -> dict[tuple[str, str], frozenset[str]]:
    names: dict[tuple[str, str], set[str]] = {}
    for row in read_table(tables.INSTANCES, directory):
        names.setdefault((row.text("provider"), row.text("accelerator")), set()).add(row.text("instance"))
    return {key: frozenset(value) for key, value in names.items()}


def _same_accelerator_names(instance: Instance, directory: Path | None) -> frozenset[str]:
    return _instances_by_accelerator(directory).get((instance.provider, instance.accelerator), frozenset())
