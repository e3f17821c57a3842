"""One statement about how often a node is reclaimed: a lifetime, how sure it is, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InvalidInputError
from simulator.lifetimes import Bathtub, Empirical, Exponential, Lifetime, Weibull

ESTIMATE = "estimate"
OTHER_REGION = "other-regions"
NO_DATA_DEFAULT = "looks-like-no-data"
OPEN_BAND = "open-ended-band"
LAUNCH_PROBES = "launch-probes"
UNKNOWN_INSTANCE = "profile-of-unknown-instance"
LITTLE_EXPOSURE = "little-exposure"
LOG_OF_UNNAMED_TYPE = "log-of-unnamed-type"

OWN_COUNTS = frozenset({"own-logs", "profile"})
"""Sources that are the user's own: no table has them."""

FLAGS: Mapping[str, str] = {
    ESTIMATE: "estimated from other instance types",
    OTHER_REGION: "from other regions of the same type",
    NO_DATA_DEFAULT: "under 5 % at 90 % savings: looks like a default where the type is hardly offered",
    OPEN_BAND: "the top band (>20 %) has no upper end",
    LAUNCH_PROBES: "how long launches kept succeeding, not how long one node lived",
    UNKNOWN_INSTANCE: "the profile does not say on which instance type it was measured: only used when asked for",
    LITTLE_EXPOSURE: "no reclaim seen, and too few node-hours to say much",
    LOG_OF_UNNAMED_TYPE: "your log does not say of which type it is and speaks for every type compared: name one",
}


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
        """This lifetime with another long-run rate and the same shape; InvalidInputError for a rate <= 0."""
        if not (math.isfinite(rate_per_hour) and rate_per_hour > 0.0):
            raise InvalidInputError("rate_per_hour", rate_per_hour, "a finite rate > 0")
        if isinstance(self.lifetime, Exponential):
            return Exponential(rate_per_hour)
        return _stretched(self.lifetime, self.rate_per_hour / rate_per_hour)


def _stretched(lifetime: Lifetime, factor: float) -> Lifetime:
    """The same distribution on a time axis stretched by `factor` (> 0): the mean grows by it, the shape stays."""
    match lifetime:
        case Weibull(shape, scale):
            return Weibull(shape, scale * factor)
        case Bathtub():
            cap = None if lifetime.cap_hours is None else lifetime.cap_hours * factor
            times = (lifetime.tau1_hours * factor, lifetime.b_hours * factor, lifetime.tau2_hours * factor)
            return Bathtub(lifetime.a, *times, cap)
        case Empirical():
            ages = tuple(age * factor for age in lifetime.ages_hours)
            tail = (lifetime.tail_start_hours * factor, lifetime.tail_rate_per_hour / factor)
            return Empirical(ages, lifetime.survivals, *tail)
    raise InvalidInputError("lifetime", type(lifetime).__name__, "a distribution that can be stretched")


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


def rate_interval_per_hour(events: float, exposure_hours: float, coverage: float = 0.95) -> tuple[float, float]:
    """The central interval of the Gamma(events + ½) ÷ exposure posterior of a rate (Jeffreys' prior)."""
    from scipy.special import gammaincinv  # half a second of import that only counted events need

    tail = 0.5 * (1.0 - coverage)
    low, high = (float(gammaincinv(events + 0.5, p)) / exposure_hours for p in (tail, 1.0 - tail))
    return low, high
