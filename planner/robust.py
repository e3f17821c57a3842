"""One interval that is good whichever statement about interruptions is true: minimax regret."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.distributions import at_rate
from planner.evaluate import Candidate, costs_of, with_lifetime
from planner.sensitivity import RUNS, OtherHazard
from simulator.simulate import simulate


@dataclass(frozen=True, slots=True)
class RobustInterval:
    """The interval whose worst regret over all sources is least, at the recommended place."""

    interval_hours: float
    worst_regret_fraction: float
    plan_worst_regret_fraction: float
    """The same for the plan's own interval."""


def robust_interval(best: Candidate, rows: Sequence[OtherHazard]) -> RobustInterval | None:
    """Minimax regret over the sources in `rows` and the one that is used; None where there is nothing to weigh.

    The intervals tried are each source's best, the geometric means between neighbours, and the plan's own.  Costs are
    of the recommended place under each source's rate, on the same fates.
    """
    base = float(best.completed["market.rate_per_hour"])
    rates = sorted({base, *(row.rate_per_hour for row in rows if row.knows_plan)})
    if len(rates) < 2 or base <= 0.0 or not best.completed.wants_optimum:
        return None
    lifetimes = [at_rate(best.spec.lifetime, base, rate) for rate in rates if rate > 0.0]
    own = sorted({best.interval.hours, *(row.interval_hours for row in rows if row.knows_plan)})
    between = [math.sqrt(a * b) for a, b in itertools.pairwise(own)]
    intervals = sorted({*own, *between})
    regrets = dict.fromkeys(intervals, 0.0)
    for lifetime in lifetimes:
        if lifetime is None:
            return None
        costs: dict[float, float] = {}
        for interval in intervals:
            spec = with_lifetime(best.spec, lifetime, interval_hours=interval)
            try:
                runs = simulate(spec, runs=RUNS // 4, seed=best.completed.seed)
            except InvalidInputError:  # an interval that this rate never lets through
                costs[interval] = math.inf
                continue
            costs[interval] = float(costs_of(best.completed, runs).mean())
        least = min(costs.values())
        for interval in intervals:
            regrets[interval] = max(regrets[interval], costs[interval] / least - 1.0)
    chosen = min(intervals, key=lambda interval: (regrets[interval], interval))
    return RobustInterval(chosen, regrets[chosen], regrets[best.interval.hours])
