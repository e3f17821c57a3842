"""The numbers behind each chart: one DataFrame per chart, which is the chart's CSV too.

Columns carry their units; rows are what is drawn, nothing is left to the chart but how it looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planner.bill import Extras
from planner.evaluate import Candidate
from planner.hazards import HazardSource
from planner.places import Rejected
from planner.ranking import is_starred, pareto_set
from planner.views.plan import Plan
from simulator.runs import PARTS
from simulator.statistics import Summary
from simulator.sweep import Sweep

MINUTES = 60.0
HAZARD_HOURS = 48.0
"""Ages that hazard curves are drawn to: beyond the longest life that any bundled trace shows."""
_Z = 1.96
"""Two-sided 95 %."""

RULE_NAMES = {
    "young": "Young",
    "daly": "Daly",
    "exact_exponential": "exact (exponential)",
    "fifteen_minutes": "every 15 min",
}
WORK = "Work"
THIS_PLAN = "this plan"
PART_NAMES = {
    "lost_work_hours": "Lost work",
    "checkpoint_hours": "Checkpoints",
    "startup_hours": "Startup",
    "waiting_hours": "Waiting for capacity",
    "notice_idle_hours": "Idle rest of notices",
    "slowdown_hours": "Slowed by uploads",
    "reduced_fleet_hours": "Fewer nodes",
    "outage_hours": "Outages",
}
STORAGE = "Checkpoint storage"
PREMIUM = "On-demand premium"
BESIDE = "Disks, hosts, transfer"
UNBILLED = "Refunds, missing nodes"


def interval_curve(curve: Sweep) -> pd.DataFrame:
    """Cost against interval: mean with its 95 % Monte Carlo interval, and the range of outcomes (P5 to P95)."""
    rows = [
        {
            "interval_minutes": point.interval_hours * MINUTES,
            "cost_mean_usd": point.cost.mean,
            "cost_low_usd": point.cost.mean - _Z * point.cost.standard_error,
            "cost_high_usd": point.cost.mean + _Z * point.cost.standard_error,
            "cost_p5_usd": point.cost.p5,
            "cost_p95_usd": point.cost.p95,
            "makespan_mean_hours": point.makespan.mean,
        }
        for point in curve.points
    ]
    return pd.DataFrame(rows)


def interval_marks(curve: Sweep, chosen_hours: float) -> pd.DataFrame:
    """Where the rules and the plan stand on the curve, with what each rule costs over the best."""
    least, most = curve.points[0].interval_hours, curve.points[-1].interval_hours
    rows = [
        {
            "rule": RULE_NAMES[name],
            "interval_minutes": hours * MINUTES,
            "cost_mean_usd": _cost_at(curve, hours),
            "regret_percent": None if name not in curve.regret else 100.0 * curve.regret[name],
        }
        for name, hours in curve.rules_hours.items()
        if hours is not None and least <= hours <= most
    ]
    best = curve.optimum.cost.mean
    mine = _cost_at(curve, chosen_hours)
    regret = 100.0 * max(0.0, mine / best - 1.0) if best > 0.0 else 0.0
    rows.append(
        {
            "rule": THIS_PLAN,
            "interval_minutes": chosen_hours * MINUTES,
            "cost_mean_usd": mine,
            "regret_percent": regret,
        }
    )
    return pd.DataFrame(rows).sort_values("interval_minutes", ignore_index=True)


def plateau(curve: Sweep) -> pd.DataFrame:
    """The one row of intervals that cannot be told from the best."""
    ends = {"low_minutes": curve.optimum.low_hours * MINUTES, "high_minutes": curve.optimum.high_hours * MINUTES}
    return pd.DataFrame([ends])


def _cost_at(curve: Sweep, hours: float) -> float:
    """Mean cost at an interval, linear in its logarithm between the points of the curve."""
    at = [math.log(point.interval_hours) for point in curve.points]
    return float(np.interp(math.log(hours), at, [point.cost.mean for point in curve.points]))


def distribution(values: NDArray[np.float64], *, bins: int = 60) -> pd.DataFrame:
    """The share of runs in equal bins, and the share at or below each bin's upper end."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    share = counts / max(1, values.size)
    return pd.DataFrame(
        {"from": edges[:-1], "to": edges[1:], "share_of_runs": share, "share_at_or_below": np.cumsum(share)}
    )


def quantiles(summary: Summary) -> pd.DataFrame:
    """Median and P95, to be marked on a distribution."""
    return pd.DataFrame([{"quantile": "P50", "value": summary.p50}, {"quantile": "P95", "value": summary.p95}])


def time_parts(candidate: Candidate) -> pd.DataFrame:
    """Mean hours of each part of the makespan: they add up to it."""
    runs = candidate.runs
    parts = {WORK: runs.spec.work_hours}
    parts |= {PART_NAMES[name]: float(getattr(runs, name).mean()) for name in PARTS}
    return _laid_out(parts)


def money_parts(candidate: Candidate) -> pd.DataFrame:
    """Mean dollars of each part of the bill: they add up to the mean cost.

    Each billed part is its node-hours on the whole fleet at the spot price; what on-demand hours cost above that is a
    row of its own, and so is what is counted too much or too little by it (refunded first hours, nodes that are missing
    while others wait): negative where it saves.
    """
    runs, nodes = candidate.runs, candidate.nodes
    price = candidate.spot_usd_per_hour
    total = float(candidate.costs.mean())
    premium = (candidate.on_demand_usd_per_hour or 0.0) - price
    parts = {WORK: runs.spec.work_hours * nodes * price}
    parts |= {
        PART_NAMES[name]: float(getattr(runs, name).mean()) * nodes * price for name in PARTS if name != "waiting_hours"
    }
    parts[STORAGE] = float(runs.storage_usd.mean())
    parts[PREMIUM] = float(runs.on_demand_hours.mean()) * premium
    parts[BESIDE] = float(Extras.of(candidate.completed).spot_usd(runs).mean())
    parts[UNBILLED] = total - sum(parts.values())
    return _laid_out(parts)


def beyond_work(parts: pd.DataFrame) -> pd.DataFrame:
    """The parts other than work, laid end to end from 0."""
    rest = parts[parts["part"] != WORK]
    return _laid_out(dict(zip(rest["part"], rest["mean"], strict=True)))


def _laid_out(parts: dict[str, float]) -> pd.DataFrame:
    """The parts that are not nothing, and where each begins and ends when they are laid end to end."""
    table = pd.DataFrame({"part": list(parts), "mean": list(parts.values())})
    total = float(table["mean"].sum())
    table = table[table["mean"].abs() > 1e-6 * max(abs(total), 1e-12)].reset_index(drop=True)
    table["share"] = table["mean"] / total if total else 0.0
    positive = table["mean"].clip(lower=0.0)
    table["from"] = positive.cumsum() - positive
    table["to"] = table["from"] + positive
    negative = table["mean"] < 0.0
    table.loc[negative, "from"] = table.loc[negative, "mean"]
    table.loc[negative, "to"] = 0.0
    return table


def candidates(plan: Plan) -> pd.DataFrame:
    """Every place that was compared, cheapest first."""
    return candidate_rows(plan.candidates, plan.best, plan.ties)


def candidate_rows(
    ordered: Sequence[Candidate], best: Candidate | None, ties: Sequence[Candidate] = ()
) -> pd.DataFrame:
    """Candidates as rows: cost and time with uncertainty, interval, price, savings, and what needs a second look."""
    tied = {id(candidate) for candidate in ties}
    front = {id(candidate) for candidate in pareto_set(ordered)}
    rows = [
        {
            "standing": THIS_PLAN if c is best else ("tied with it" if id(c) in tied else ""),
            "provider": c.offer.provider,
            "instance": c.offer.instance,
            "region": c.offer.region,
            "zone": c.offer.zone or "",
            "nodes": c.nodes,
            "cost_p50_usd": c.cost_usd.p50,
            "cost_mean_usd": c.cost_usd.mean,
            "cost_p5_usd": c.cost_usd.p5,
            "cost_p95_usd": c.cost_usd.p95,
            "makespan_p50_hours": c.makespan_hours.p50,
            "makespan_p5_hours": c.makespan_hours.p5,
            "makespan_p95_hours": c.makespan_hours.p95,
            "interval_minutes": c.interval.hours * MINUTES,
            "spot_usd_per_hour": c.spot_usd_per_hour,
            "on_demand_usd_per_hour": c.on_demand_usd_per_hour,
            "saved_percent": None if c.savings_fraction is None else 100.0 * c.savings_fraction,
            "interruptions": c.interruptions.mean,
            "rate_per_hour": c.completed["market.rate_per_hour"],
            "pareto": id(c) in front,
            "doubtful_price": is_starred(c),
            "price_as_of": c.offer.as_of,
            "flags": ", ".join(c.flags),
        }
        for c in ordered
    ]
    return pd.DataFrame(rows)


def rejected_rows(rejected: Sequence[Rejected]) -> pd.DataFrame:
    """What does not come into question, and why."""
    rows = [
        {"instance": row.instance, "region": row.region or "", "zone": row.zone or "", "reason": row.reason}
        for row in rejected
    ]
    return pd.DataFrame(rows, columns=["instance", "region", "zone", "reason"])


def hazard_curves(sources: Sequence[HazardSource], *, until_hours: float, points: int = 160) -> pd.DataFrame:
    """Hazard and survival against a node's age for each source; the range's ends where the source states them."""
    ages = np.concatenate([[0.0], np.geomspace(until_hours / 1000.0, until_hours, points - 1)])
    rows: list[dict[str, object]] = []
    for source in sources:
        low, high = source.rate_low_per_hour, source.rate_high_per_hour
        slow = source.lifetime_at(low) if low and low > 0.0 else None
        fast = source.lifetime_at(high) if high and high > 0.0 else None
        for age in ages:
            at = float(age)
            rows.append(
                {
                    "source": source.name,
                    "age_hours": at,
                    "hazard_per_hour": _finite(source.lifetime.hazard(at)),
                    "survival": source.lifetime.survival(at),
                    "survival_low": None if fast is None else fast.survival(at),
                    "survival_high": None if slow is None else slow.survival(at),
                }
            )
    return pd.DataFrame(rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def hazard_rates(sources: Sequence[HazardSource], used: str | None) -> pd.DataFrame:
    """What each source says about the rate, on one scale: a thousandfold difference must be seen at a glance."""
    rows = [
        {
            "source": source.name,
            "rate_per_hour": source.rate_per_hour,
            "rate_low_per_hour": source.rate_low_per_hour or None,
            "rate_high_per_hour": source.rate_high_per_hour,
            "used": source.name == used,
            "where_from": source.source,
            "as_of": source.as_of,
            "note": source.note,
        }
        for source in sources
    ]
    return pd.DataFrame(rows)
