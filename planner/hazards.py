"""How often the provider takes a node back: every source of an interruption rate behind one interface, best first.

    own-logs                     the user's own log of node lifetimes (`own_log_source`)
    profile                      interruptions that the harness counted on a real run
    fit:NAME                     a fit to public traces of running nodes of this type (`data/lifetimes.csv`)
    measured                     published measurements of this instance type
    article                      the article's hourly table
    fit:NAME                     launch probes of this type; then traces of its family, probes of its accelerator
    spot-advisor                 the provider's monthly band, converted (`planner.hazard_tables.band_rates_per_hour`)
    spot-advisor-other-regions   the same, from the type's other regions, where this one says nothing
    same-accelerator             an estimate from the article's other sizes with the same accelerator
    spot-advisor-no-data         a band that looks like a default value: never read as low risk, always last

The sources differ by orders of magnitude, and each says how sure it is: from events and exposure where they are known,
as a stated range where not.  A type without any source has none here: the plan must then be given a rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from harness.telemetry.schema import Profile
from planner.assumptions import Assumptions, load_assumptions
from planner.bands import Band
from planner.catalogue import Instance
from planner.hazard_source import (
    FLAGS,
    LITTLE_EXPOSURE,
    NO_DATA_DEFAULT,
    OTHER_REGION,
    UNKNOWN_INSTANCE,
    HazardSource,
    counted_source,
    rate_interval_per_hour,
)
from planner.hazard_tables import table_sources
from planner.profile import describes, profile_as_of, profile_source

__all__ = ["FLAGS", "HazardSource", "choose_hazard", "hazard_sources", "own_log_source"]

# Without a single reclaim, fewer node-hours than a day cannot outrank what others measured.
_LITTLE_EXPOSURE_HOURS = 24.0
# A shape needs lives to be fitted to; below, the rate is all that a log can say.
_EVENTS_FOR_A_SHAPE = 20
_NOT_BY_DEFAULT = frozenset({NO_DATA_DEFAULT, UNKNOWN_INSTANCE})
_LAST = (LITTLE_EXPOSURE, UNKNOWN_INSTANCE, NO_DATA_DEFAULT)


def hazard_sources(
    instance: Instance,
    region: str | None,
    *,
    own: HazardSource | None = None,
    profile: Profile | None = None,
    bands: Sequence[Band] | None = None,
    assumptions: Assumptions | None = None,
    directory: Path | None = None,
) -> tuple[HazardSource, ...]:
    """Every source that says something about `instance` in `region` (None: any), best first; empty when none does.

    `own` is made from the user's log (`own_log_source`); `profile` is a measured one of this job; `bands` are newer
    ones than the bundled (`planner.prices`); `directory` is another folder of tables.
    """
    sources = [own] if own is not None else []
    if profile is not None and profile.exposure_hours > 0.0 and describes(profile, instance):
        sources.append(_profile_source(profile, region))
    stated = assumptions or load_assumptions(directory)
    sources += table_sources(instance, region, stated, bands=bands, directory=directory)
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


def own_log_source(path: Path) -> HazardSource:
    """The user's own log of node lifetimes (any format of `planner.traces`), as the best source there is.

    With enough reclaims the distribution with the lowest AIC, else an exponential; uncertain by what was counted.
    Raises InvalidInputError for a file that holds no lifetimes.
    """
    from planner.lifetime_fit import fit_files  # numpy and scipy, which only a log needs

    report = fit_files([path])
    events, exposure_hours = report.observations.events, report.observations.exposure_hours
    as_of = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC).date().isoformat()
    counted = counted_source("own-logs", events, exposure_hours, f"your log {path.name}", as_of)
    if events < _EVENTS_FOR_A_SHAPE:
        return counted
    fit = report.comparison.preferred
    rate = 1.0 / fit.lifetime.mean_hours
    low, high = (rate * end * exposure_hours / events for end in rate_interval_per_hour(events, exposure_hours))
    return replace(
        counted,
        lifetime=fit.lifetime,
        rate_per_hour=rate,
        note=f"{counted.note}; {fit.distribution} by AIC",
        rate_low_per_hour=low,
        rate_high_per_hour=high,
    )


def _profile_source(profile: Profile, region: str | None) -> HazardSource:
    source = profile_source(profile, profile.interruptions, f"reclaims in {profile.exposure_hours:.4g} node-hours")
    counted = counted_source("profile", profile.interruptions, profile.exposure_hours, source, profile_as_of(profile))
    flags = (UNKNOWN_INSTANCE,) if profile.instance is None else ()
    if profile.interruptions == 0 and profile.exposure_hours < _LITTLE_EXPOSURE_HOURS:
        flags = (*flags, LITTLE_EXPOSURE)
    if region is not None and profile.region not in (None, region):
        flags = (*flags, OTHER_REGION)
    return replace(counted, flags=flags)
