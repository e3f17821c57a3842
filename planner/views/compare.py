"""Places compared with each other, on a screen: which set is looked at, the rows, and picking one as the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from planner.compare import compare as compare_places
from planner.evaluate import Candidate
from planner.layers import Layered
from planner.places import Rejected
from planner.selection import Wanted, select
from planner.views.link import COMPARED
from planner.views.plan import Plan, Say
from planner.views.tables import candidate_rows

COLUMN_NAMES = {
    "standing": ("Standing", None),
    "instance": ("Type", None),
    "zone": ("Zone", None),
    "region": ("Region", None),
    "nodes": ("Nodes", "%d"),
    "cost_p50_usd": ("Cost P50 ($)", "%.2f"),
    "cost_p95_usd": ("Cost P95 ($)", "%.2f"),
    "makespan_p50_hours": ("Done P50 (h)", "%.1f"),
    "makespan_p95_hours": ("Done P95 (h)", "%.1f"),
    "interval_minutes": ("Save every (min)", "%.1f"),
    "spot_usd_per_hour": ("Spot ($/h)", "%.3f"),
    "on_demand_usd_per_hour": ("On-demand ($/h)", "%.3f"),
    "saved_percent": ("Saved (%)", "%.0f"),
    "interruptions": ("Interruptions", "%.1f"),
    "pareto": ("Unbeaten", None),
    "price_as_of": ("Price as of", None),
    "flags": ("Look twice", None),
}
"""Column → its heading, and how its numbers are written."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of places to compare."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidates cheapest first, as objects and as rows, and what was left out."""

    scope: Scope
    candidates: tuple[Candidate, ...]
    rows: pd.DataFrame
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]

    def label(self, index: int) -> str:
        """One candidate in a list."""
        row = self.candidates[index]
        fleet = row.offer.instance if row.nodes == 1 else f"{row.nodes} × {row.offer.instance}"
        return f"{fleet} in {row.offer.place}: ${row.cost_usd.p50:,.0f}, {row.makespan_hours.p50:,.0f} h"

    def index_of(self, plan: Plan) -> int:
        """Where the plan stands in it; 0 when it is not in it."""
        best = plan.best
        for index, row in enumerate(self.candidates):
            if (row.offer, row.nodes) == (best.offer, best.nodes):
                return index
        return 0


_LABELS = ("Zones of this type", "1 to 8 nodes of this type", "Types with this accelerator", "Every type and zone")
SCOPES = tuple(Scope(name, label) for name, label in zip(COMPARED, _LABELS, strict=True))
ZONES, SIZES, ACCELERATOR, EVERYTHING = SCOPES

_SIZES = (1, 2, 4, 8)


def compare(plan: Plan, scope: Scope, say: Say | None = None) -> Comparison:
    """Every place of the scope, whatever place the plan was narrowed to, ranked by the link's objective.

    Raises InvalidInputError where nothing of the scope can be used.
    """
    link, instance = plan.link, plan.best.completed.instance
    assert instance is not None
    if scope == ZONES and link.get("region") is None and link.get("zone") is None:
        order, best, tied = plan.candidates, plan.best, plan.ties
        return Comparison(scope, order, candidate_rows(order, best, tied), plan.rejected, ())
    wanted = Wanted(
        accelerator=instance.accelerator if scope == ACCELERATOR else None,
        reference=None if scope == ZONES else f"{instance.name}:{plan.best.nodes}",
        node_counts=tuple(sorted({*_SIZES, plan.best.nodes})) if scope == SIZES else (),
    )
    layered = _anywhere(link.layered, any_type=scope in (ACCELERATOR, EVERYTHING))
    found = compare_places(
        layered,
        link.knowledge,
        select(layered, link.knowledge, wanted),
        objective=link.objective,
        progress=None if say is None else lambda done, total: say("comparing places", done, total),
    )
    mine = next((c for c in found.candidates if (c.offer, c.nodes) == (plan.best.offer, plan.best.nodes)), None)
    rows = candidate_rows(found.candidates, mine, [c for c in found.ties if c is not mine])
    return Comparison(scope, found.candidates, rows, found.rejected, found.warnings)


def _anywhere(layered: Layered, *, any_type: bool) -> Layered:
    """The scenario without its place, and without its type and what belongs to that."""
    scenario = layered.scenario
    fleet: dict[str, None] = {"region": None, "zone": None}
    market: dict[str, None] = {}
    if any_type:
        fleet |= {"provider": None, "instance": None}
        market = {"spot_usd_per_hour": None, "on_demand_usd_per_hour": None}
    changed = scenario.model_copy(
        update={
            "fleet": scenario.fleet.model_copy(update=fleet),
            "market": scenario.market.model_copy(update=market),
        }
    )
    return replace(layered, scenario=changed)


def pick(found: Comparison, index: int) -> dict[str, str | None]:
    """The changes of a query that make candidate `index` the plan."""
    row = found.candidates[index]
    return {
        "provider": None,
        "instance": row.offer.instance,
        "region": row.offer.region,
        "zone": row.offer.zone,
        "nodes": None if row.nodes == 1 else str(row.nodes),
    }
