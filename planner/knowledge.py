"""What may be used to fill a scenario's gaps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.telemetry.schema import Profile
from planner.assumptions import Assumptions
from planner.bands import Band
from planner.catalogue import Catalogue, Instance
from planner.hazard_source import LOG_OF_UNNAMED_TYPE
from planner.hazards import HazardSource, hazard_sources
from planner.prices.records import LiveAnswer, PlacementScore
from planner.provision_waits import ProvisionSource, provision_sources

_Where = tuple[str, str, str | None]


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
    own_waits: ProvisionSource | None = None
    """Made from the same log, where its format tells how long one waited."""
    scores: tuple[PlacementScore, ...] = ()
    """AWS's, of single types; empty: nobody was asked."""
    _hazards: dict[_Where, tuple[HazardSource, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _waits: dict[tuple[_Where, int | None], tuple[ProvisionSource, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def of_several_types(self) -> Knowledge:
        """The same where several types are compared: the user's log, which names none, is flagged."""
        if self.own is None:
            return self
        return replace(self, own=replace(self.own, flags=(*self.own.flags, LOG_OF_UNNAMED_TYPE)))

    def hazard_sources(self, instance: Instance, region: str | None) -> tuple[HazardSource, ...]:
        """Every source of an interruption rate for this type there, best first; looked up once."""
        where = (instance.provider, instance.name, region)
        if where not in self._hazards:
            self._hazards[where] = hazard_sources(
                instance,
                region,
                own=self.own,
                profile=self.profile,
                bands=self.bands,
                assumptions=self.assumptions,
                directory=self.directory,
            )
        return self._hazards[where]

    def provision_sources(
        self, instance: Instance, region: str | None, zone: str | None
    ) -> tuple[ProvisionSource, ...]:
        """Every source of the wait for capacity of this type there, best first; looked up once."""
        score = self.placement_score(instance, region, zone)
        key = (instance.provider, instance.name, region), score
        if key not in self._waits:
            self._waits[key] = provision_sources(
                instance,
                region,
                own=self.own_waits,
                profile=self.profile,
                score=score,
                score_as_of=next((row.as_of for row in self.scores), ""),
                assumptions=self.assumptions,
                directory=self.directory,
            )
        return self._waits[key]

    def placement_score(self, instance: Instance, region: str | None, zone: str | None) -> int | None:
        """AWS's score of this type in this zone; None where it was not asked for."""
        if instance.provider != "aws" or zone is None:
            return None
        mine = (row for row in self.scores if row.instance == instance.name and row.region == region)
        return next((row.score for row in mine if row.zone_id == zone), None)
