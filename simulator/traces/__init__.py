"""What recorded interruptions say: lifetimes with censoring, survival and hazard, capacity, losses that come together.

Pure functions of parsed records; `planner.traces` reads the files.
"""

from __future__ import annotations

from simulator.traces.capacity import (
    CapacitySeries,
    LossStatistics,
    Membership,
    MembershipEvent,
    pair_membership,
)
from simulator.traces.observations import Observations
from simulator.traces.survival import (
    HazardBin,
    KaplanMeier,
    empirical_lifetime,
    hazard_by_age,
    kaplan_meier,
    last_hazard_per_hour,
)

__all__ = [
    "CapacitySeries",
    "HazardBin",
    "KaplanMeier",
    "LossStatistics",
    "Membership",
    "MembershipEvent",
    "Observations",
    "empirical_lifetime",
    "hazard_by_age",
    "kaplan_meier",
    "last_hazard_per_hour",
    "pair_membership",
]
