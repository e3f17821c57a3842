"""The provider's monthly interruption bands: AWS's Spot Instance Advisor, from the bundled table or fetched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner import tables
from planner.data_files import read_table

LABELS = ("<5%", "5-10%", "10-15%", "15-20%", ">20%")
SHARES: tuple[tuple[float, float | None], ...] = ((0.0, 0.05), (0.05, 0.10), (0.10, 0.15), (0.15, 0.20), (0.20, None))
"""Share of capacity reclaimed in a trailing month, by band; the top one is open."""

_NO_DATA_SAVINGS_PERCENT = 90.0


@dataclass(frozen=True, slots=True)
class Band:
    """One entry: `index` into `LABELS`; `savings_percent` against on-demand over 30 days (may be negative)."""

    provider: str
    instance: str
    region: str
    index: int
    savings_percent: float
    source: str
    as_of: str

    @property
    def label(self) -> str:
        """The band as the provider writes it."""
        return LABELS[self.index]

    @property
    def looks_like_no_data(self) -> bool:
        """Under 5 % at 90 % savings: what the Advisor shows where a type is hardly offered, not a low risk."""
        return self.index == 0 and self.savings_percent >= _NO_DATA_SAVINGS_PERCENT


@cache
def load_bands(directory: Path | None = None) -> tuple[Band, ...]:
    """The bundled bands (or those of another folder of tables)."""
    return tuple(
        Band(
            provider=row.text("provider"),
            instance=row.text("instance"),
            region=row.text("region"),
            index=LABELS.index(row.text("band_label")),
            savings_percent=row.number("savings_percent"),
            source=row.text("source"),
            as_of=row.text("as_of"),
        )
        for row in read_table(tables.SPOT_ADVISOR, directory)
    )
