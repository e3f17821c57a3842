"""What may be used to fill a scenario's gaps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.telemetry.schema import Profile
from planner.assumptions import Assumptions
from planner.bands import Band
from planner.catalogue import Catalogue
from planner.hazards import HazardSource
from planner.prices.records import LiveAnswer


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What may be used to fill gaps: tables, stated assumptions, a measured profile, the wanted hazard source."""

    catalogue: Catalogue
    assumptions: Assumptions
    profile: Profile | None = None
    hazard: str | None = None
    own: HazardSource | None = None
    """Made from the user's own log of interruptions."""
    directory: Path | None = None
    """Another folder of tables than the bundled one."""
    bands: tuple[Band, ...] | None = None
    """Newer ones of the Spot Advisor than the bundled."""
    live: LiveAnswer | None = None
    """How asking for live prices went; None: nobody was asked."""
