"""What the bundled tables say about reclaims: fits to public traces, published rates, the provider's monthly bands."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError
from planner import tables
from planner.assumptions import Assumptions
from planner.bands import SHARES, Band, load_bands
from planner.catalogue import Instance
from planner.data_files import Row, read_table
from planner.hazard_source import (
    ESTIMATE,
    LAUNCH_PROBES,
    NO_DATA_DEFAULT,
    OPEN_BAND,
    OTHER_REGION,
    HazardSource,
    rate_interval_per_hour,
)
from planner.lifetime_table import FittedLifetime, load_fitted_lifetimes
from simulator.lifetimes import Exponential, Lifetime, Weibull


def table_sources(
    instance: Instance,
    region: str | None,
    assumptions: Assumptions,
    *,
    bands: Sequence[Band] | None = None,
    directory: Path | None = None,
) -> list[HazardSource]:
    """Every source in the tables that says something about `instance` in `region`, best first."""
    published = _published(directory)
    own = [row for row in published if _is_about(row, instance) and row.optional_text("region") in (None, region)]
    siblings = same_accelerator_names(instance, directory)
    fits = _fits(directory)
    running = _running_fits(fits, instance, region)
    probes = _probe_fits(fits, [instance.name], instance, ())
    sources = list(running)
    sources += [_published_source(row, assumptions) for row in own if row.text("method") == "measured"]
    sources += [_published_source(row, assumptions) for row in own if row.text("method") == "article"]
    sources += probes
    if not running and not probes:
        sources += _family_fits(fits, instance) or _probe_fits(fits, siblings, instance, (ESTIMATE,))
    sources += _advisor_sources(instance, region, load_bands(directory) if bands is None else bands, assumptions)
    estimate = _same_accelerator(instance, siblings, published, assumptions)
    if estimate is not None:
        sources.append(estimate)
    return sources


@cache
def _fits(directory: Path | None) -> tuple[FittedLifetime, ...]:
    return load_fitted_lifetimes(directory)


def _running_fits(fits: Iterable[FittedLifetime], instance: Instance, region: str | None) -> list[HazardSource]:
    """Fits to losses of running nodes of this type: those of the region, else the pooled ones."""
    mine = [
        fit
        for fit in fits
        if (fit.provider, fit.instance, fit.observed) == (instance.provider, instance.name, "reclaims")
    ]
    here = [fit for fit in mine if fit.region is not None and fit.region == region]
    return [_fit_source(fit, mine, ()) for fit in here or [fit for fit in mine if fit.region is None]]


def _probe_fits(
    fits: Iterable[FittedLifetime], names: Iterable[str], instance: Instance, flags: tuple[str, ...]
) -> list[HazardSource]:
    """Pooled fits to launch probes of the types called `names`."""
    wanted = set(names)
    mine = [
        fit
        for fit in fits
        if fit.provider == instance.provider and fit.observed == "launch-probes" and fit.instance in wanted
    ]
    return [_fit_source(fit, mine, (*flags, LAUNCH_PROBES)) for fit in mine if fit.region is None]


def _family_fits(fits: Iterable[FittedLifetime], instance: Instance) -> list[HazardSource]:
    """Fits to traces that name a family (p3, n1) and no size: an estimate for each of its sizes."""
    mine = [
        fit
        for fit in fits
        if fit.provider == instance.provider and instance.name.startswith((f"{fit.instance}.", f"{fit.instance}+"))
    ]
    return [_fit_source(fit, mine, (ESTIMATE,)) for fit in mine]


def _fit_source(fit: FittedLifetime, family: Sequence[FittedLifetime], flags: tuple[str, ...]) -> HazardSource:
    """A fit as a source.

    A fit to one place carries its events, as many as give its standard error (nodes lost together count as fewer).  A
    fit pooled over places that differ carries their extremes instead: the place, not the sample, is what is unsure.
    """
    rate = 1.0 / fit.lifetime.mean_hours
    places = [1.0 / other.lifetime.mean_hours for other in family if other.region is not None]
    events: float | None = None
    exposure: float | None = None
    if fit.region is None and places:
        low, high = min(places), max(places)
    else:
        events, exposure = float(fit.events), fit.exposure_hours
        error = fit.standard_errors.get("rate_per_hour")
        if error:
            events = min(events, (rate / error) ** 2)
            exposure = events / rate
        around = rate_interval_per_hour(events, exposure)
        low, high = (rate * end / (events / exposure) for end in around)
    return HazardSource(
        name=f"fit:{fit.name}",
        lifetime=fit.lifetime,
        rate_per_hour=rate,
        events=events,
        exposure_hours=exposure,
        source=fit.source,
        as_of=fit.as_of,
        note=fit.note,
        rate_low_per_hour=min(low, rate),
        rate_high_per_hour=max(high, rate),
        flags=flags,
    )


def band_rates_per_hour(band_index: int, assumptions: Assumptions) -> tuple[float, float, float | None]:
    """(low, point, high) reclaims per hour behind a monthly band; high is None for the open top band.

    A band is the share f of capacity reclaimed in the trailing month.  The rate that makes an instance go with
    probability f in an exposure of T hours is −ln(1 − f)/T.  T is not published: the point takes the band's middle and
    T = `band_exposure_hours` (a whole month up), low its lower end at the same T, high its upper end at
    T = `band_session_hours`.  The open band's middle is `open_band_share`.
    """
    lower, upper = SHARES[band_index]
    month, session = (_positive(assumptions, name) for name in ("band_exposure_hours", "band_session_hours"))
    middle = _open_share(assumptions, lower) if upper is None else 0.5 * (lower + upper)
    high = None if upper is None else _rate(upper, session)
    return _rate(lower, month), _rate(middle, month), high


def _positive(assumptions: Assumptions, name: str) -> float:
    value = assumptions.value(name)
    if value <= 0.0:
        raise InvalidInputError(name, value, "a number of hours > 0")
    return value


def _open_share(assumptions: Assumptions, lower: float) -> float:
    share = assumptions.value("open_band_share")
    if not lower <= share < 1.0:
        raise InvalidInputError("open_band_share", share, f"a fraction from {lower:g} to below 1")
    return share


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
    instance: Instance, siblings: frozenset[str], published: Sequence[Row], assumptions: Assumptions
) -> HazardSource | None:
    """An estimate from the article's rows for other sizes of the same accelerator at the same provider.

    Sizes of one family are cut from the same hosts, so that a shortage of the accelerator reaches all of them; how far
    their rates differ nobody published, hence the wide range and the flag.
    """
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


def same_accelerator_names(instance: Instance, directory: Path | None) -> frozenset[str]:
    """The provider's types with this accelerator, `instance` included."""
    return _instances_by_accelerator(directory).get((instance.provider, instance.accelerator), frozenset())
