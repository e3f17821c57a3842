"""The JSON documents that others script against; `planner/schemas` holds their published schemas.

Every document carries `schema_version` and `complete` (false: interrupted, what is done so far).  Adding a key keeps
the version; renaming or re-defining one raises it.  A number that does not exist is null, never NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from planner.assumptions import Assumption
from planner.bill import Extras
from planner.compare import Comparison
from planner.completion import SECONDS_PER_HOUR, Completed
from planner.evaluate import Candidate
from planner.jobs import JobPlan, Total
from planner.prices.records import LiveAnswer
from planner.recommend import Recommendation
from planner.sensitivity import OtherHazard
from simulator.runs import Runs
from simulator.statistics import Proportion, summarize
from simulator.sweep import Sweep

SCHEMA_VERSION = 1

SIMULATED = (
    "makespan_hours",
    "cost_usd",
    "interruptions",
    "lost_work_hours",
    "checkpoint_hours",
    "startup_hours",
    "waiting_hours",
    "notice_idle_hours",
    "slowdown_hours",
    "reduced_fleet_hours",
    "outage_hours",
    "reclaimed_nodes",
    "storage_usd",
    "goodput",
)
"""What `simulate` summarises, in the contract's order."""


def schema_path(name: str) -> Path:
    """Where the published schema of a document (``simulate``, ``sweep``, ``recommend``) is."""
    return Path(__file__).parent / "schemas" / f"{name}.json"


def to_json(document: Mapping[str, Any]) -> str:
    """One JSON document, without NaN or infinities (they become null)."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def simulate_document(completed: Completed, runs: Runs) -> dict[str, Any]:
    """`planner simulate --json`; the cost holds what the scenario's `bill` adds."""
    extras = Extras.of(completed)
    costs = runs.cost_usd + extras.spot_usd(runs)
    summaries = {name: runs.summary(name).as_dict() for name in SIMULATED} | {"cost_usd": summarize(costs).as_dict()}
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": runs.complete,
        **summaries,
        "deadline_probability": probability(runs.deadline_probability),
        "budget_probability": probability(extras.within_budget(costs)),
        "interval_seconds": runs.spec.interval_hours * SECONDS_PER_HOUR,
        "runs": len(runs),
        "seed": runs.seed,
        "assumptions": assumption_rows(completed.assumptions),
    }


def sweep_document(completed: Completed, sweep: Sweep) -> dict[str, Any]:
    """`planner sweep --json`; `sweep` with what the scenario's `bill` adds (`Extras`)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": sweep.complete,
        "points": [
            {
                "interval_seconds": point.interval_hours * SECONDS_PER_HOUR,
                "cost_usd": point.cost.as_dict(),
                "makespan_hours": point.makespan.as_dict(),
            }
            for point in sweep.points
        ],
        "optimum": {
            "interval_seconds": sweep.optimum.interval_hours * SECONDS_PER_HOUR,
            "low_seconds": sweep.optimum.low_hours * SECONDS_PER_HOUR,
            "high_seconds": sweep.optimum.high_hours * SECONDS_PER_HOUR,
            "cost_usd": sweep.optimum.cost.as_dict(),
        },
        "rules": {
            ("fifteen_minutes" if name == "fifteen_minutes" else f"{name}_seconds"): (
                None if hours is None else round(hours * SECONDS_PER_HOUR, 6)
            )
            for name, hours in sweep.rules_hours.items()
        },
        "regret": {name: sweep.regret.get(name) for name in sweep.rules_hours},
        "runs": sweep.runs,
        "seed": completed.seed,
        "assumptions": assumption_rows(completed.assumptions),
    }


def recommend_document(recommendation: Recommendation) -> dict[str, Any]:
    """`planner recommend --json`."""
    best = recommendation.best
    undominated = {id(candidate) for candidate in recommendation.pareto}
    tied = {id(candidate) for candidate in (best, *recommendation.ties)}
    rows = [
        candidate_document(
            candidate, rate, tied=len(tied) > 1 and id(candidate) in tied, pareto=id(candidate) in undominated
        )
        for candidate, rate in zip(recommendation.candidates, recommendation.break_even_rates, strict=True)
    ]
    odd = recommendation.if_real
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": recommendation.complete,
        "objective": recommendation.objective.name,
        "recommendation": rows[recommendation.candidates.index(best)],
        "if_price_is_real": None if odd is None else rows[recommendation.candidates.index(odd)],
        "break_even_rate_without_refund_per_hour": recommendation.break_even_without_refund,
        "candidates": rows,
        "rejected": [asdict(row) for row in recommendation.rejected],
        "assumptions": assumption_rows(recommendation.assumptions),
        "influences": [asdict(row) for row in recommendation.influences],
        "sensitivity": [_other_hazard(row) for row in recommendation.sensitivity],
        "robust_interval": _robust(recommendation),
        "warnings": list(recommendation.warnings),
        "live": _live(recommendation.live),
        "runs": len(best.runs),
        "seed": best.completed.seed,
    }


def candidate_document(
    candidate: Candidate, break_even_rate: float | None, *, tied: bool = False, pareto: bool = False
) -> dict[str, Any]:
    """One candidate as the contract has it."""
    hazard = candidate.completed.hazard
    interval = candidate.interval
    return {
        "provider": candidate.offer.provider,
        "instance": candidate.offer.instance,
        "region": candidate.offer.region,
        "zone": candidate.offer.zone,
        "nodes": candidate.nodes,
        "min_nodes": candidate.completed["fleet.min_nodes"] or candidate.nodes,
        "work_hours": candidate.completed["job.work_hours"],
        "spot_usd_per_hour": candidate.spot_usd_per_hour,
        "on_demand_usd_per_hour": candidate.on_demand_usd_per_hour,
        "price_as_of": candidate.offer.as_of or None,
        "interval_seconds": interval.hours * SECONDS_PER_HOUR,
        "interval_steps": candidate.interval_steps,
        "interval_low_seconds": interval.low_hours * SECONDS_PER_HOUR,
        "interval_high_seconds": interval.high_hours * SECONDS_PER_HOUR,
        "makespan_hours": candidate.makespan_hours.as_dict(),
        "cost_usd": candidate.cost_usd.as_dict(),
        "goodput": candidate.goodput.as_dict(),
        "interruptions": candidate.interruptions.as_dict(),
        "deadline_probability": probability(candidate.deadline_probability),
        "budget_probability": probability(candidate.within_budget),
        "dearer_than_on_demand_probability": probability(candidate.dearer_than_on_demand),
        "on_demand_cost_usd": candidate.on_demand.cost_usd,
        "on_demand_makespan_hours": candidate.on_demand.makespan_hours,
        "savings_fraction": candidate.savings_fraction,
        "break_even_rate_per_hour": break_even_rate,
        "hazard": hazard.name if hazard else "given",
        "rate_per_hour": candidate.completed["market.rate_per_hour"],
        "emergency_fits": candidate.emergency_fits,
        "tied_with_best": tied,
        "pareto": pareto,
        "runs": len(candidate.runs),
        "flags": list(candidate.flags),
    }


def _robust(recommendation: Recommendation) -> dict[str, float] | None:
    found = recommendation.robust
    if found is None:
        return None
    return {
        "interval_seconds": found.interval_hours * SECONDS_PER_HOUR,
        "worst_regret_fraction": found.worst_regret_fraction,
        "worst_regret_of_plan_fraction": found.plan_worst_regret_fraction,
    }


def compare_document(comparison: Comparison) -> dict[str, Any]:
    """`planner compare --json`."""
    tied = {id(candidate) for candidate in comparison.ties}
    undominated = {id(candidate) for candidate in comparison.pareto}
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": comparison.complete,
        "objective": comparison.objective.name,
        "reference": comparison.reference,
        "candidates": [
            candidate_document(candidate, None, tied=id(candidate) in tied, pareto=id(candidate) in undominated)
            for candidate in comparison.candidates
        ],
        "rejected": [asdict(row) for row in comparison.rejected],
        "assumptions": assumption_rows(comparison.assumptions),
        "warnings": list(comparison.warnings),
        "live": _live(comparison.live),
        "seed": comparison.seed,
    }


def _live(answer: LiveAnswer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"prices": answer.prices, "oldest_seconds": answer.oldest_seconds, "missing": list(answer.missing)}


def jobs_document(plans: Sequence[JobPlan], total: Total, *, complete: bool, left_out: Sequence[str]) -> dict[str, Any]:
    """`planner recommend --jobs --json`; `left_out` names the jobs that were not looked at."""
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": complete,
        "jobs": [
            {
                "name": plan.name,
                "recommendation": candidate_document(plan.found.best, None),
                "assumptions": assumption_rows(plan.found.best.completed.assumptions),
                "warnings": list(plan.warnings),
            }
            for plan in plans
        ],
        "total": {
            "cost_usd": total.cost_usd.as_dict(),
            "on_demand_cost_usd": total.on_demand_usd,
            "budget_probability": probability(total.within_budget),
        },
        "left_out": list(left_out),
    }


def _other_hazard(row: OtherHazard) -> dict[str, Any]:
    return {
        "hazard": row.name,
        "rate_per_hour": row.rate_per_hour,
        "source": row.source,
        "as_of": row.as_of,
        "note": row.note,
        "flags": list(row.flags),
        "instance": row.instance,
        "region": row.region,
        "zone": row.zone,
        "nodes": row.nodes,
        "interval_seconds": row.interval_hours * SECONDS_PER_HOUR,
        "cost_usd": row.best_cost_usd,
        "makespan_hours": row.best_makespan_hours,
        "plan_cost_usd": row.plan_cost_usd,
        "plan_makespan_hours": row.plan_makespan_hours,
        "regret_fraction": row.regret_fraction,
        "knows_plan": row.knows_plan,
    }


def assumption_rows(assumptions: Iterable[Assumption]) -> list[dict[str, Any]]:
    """Assumptions as the contract has them."""
    return [{**asdict(row), "as_of": row.as_of or None} for row in assumptions]


def probability(value: Proportion | None) -> dict[str, float] | None:
    """A probability with its interval; None stays null."""
    return None if value is None else {"mean": value.mean, "low": value.low, "high": value.high}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
