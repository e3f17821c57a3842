"""Places compared with each other, on a screen: which set is looked at, the rows, and picking one as the plan."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from planner.evaluate import Candidate, evaluate
from planner.places import Rejected, find_places
from planner.ranking import best_of, ranked, ties
from planner.views.link import changed, resolve
from planner.views.plan import Plan, Say
from planner.views.tables import candidate_rows

COLUMN_NAMES = {
    "standing": "Standing",
    "instance": "Type",
    "zone": "Zone",
    "region": "Region",
    "nodes": "Nodes",
    "cost_p50_usd": "Cost P50 ($)",
    "cost_p95_usd": "Cost P95 ($)",
    "makespan_p50_hours": "Done P50 (h)",
    "makespan_p95_hours": "Done P95 (h)",
    "interval_minutes": "Save every (min)",
    "spot_usd_per_hour": "Spot ($/h)",
    "on_demand_usd_per_hour": "On-demand ($/h)",
    "saved_percent": "Saved (%)",
    "interruptions": "Interruptions",
    "pareto": "Unbeaten",
    "price_as_of": "Price as of",
    "flags": "Look twice",
}


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


ZONES = Scope("zones", "Zones of this type")


def scopes(plan: Plan) -> tuple[Scope, ...]:
    """What can be compared for a plan."""
    del plan
    return (ZONES,)


def compare(plan: Plan, scope: Scope, say: Say | None = None) -> Comparison:
    """Every place of the scope, whatever place the plan was narrowed to."""
    del scope
    query = changed(plan.link.query, {"region": None, "zone": None})
    link = plan.link if query == plan.link.query else resolve(query, plan.link.knowledge.catalogue)
    if link is plan.link:
        order, rejected, best, tied = plan.candidates, plan.rejected, plan.best, plan.ties
    else:
        assert link.completed.instance is not None
        places, left_out = find_places(
            link.knowledge.catalogue, link.layered, [link.completed.instance], [link.completed["fleet.nodes"]]
        )
        found = evaluate(
            link.layered,
            link.knowledge,
            places,
            progress=None if say is None else lambda done, total: say("comparing places", done, total),
            tick=None if say is None else lambda: say("comparing places", -1, -1),
        )
        order, rejected = ranked(found.candidates), (*left_out, *found.rejected)
        mine = next((c for c in order if (c.offer, c.nodes) == (plan.best.offer, plan.best.nodes)), None)
        best = mine or best_of(order) or plan.best
        tied = ties(order, best)
    return Comparison(ZONES, order, candidate_rows(order, best, tied), tuple(rejected), ())


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
