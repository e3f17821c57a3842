"""Which candidate to recommend, and which cannot be told from it.

A price that looks wrong (far below its sibling zones) never decides the headline: the recommendation is the best of the
others, and the cheaper odd one is shown beside it, to be checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.catalogue import FAR_BELOW_SIBLINGS
from planner.evaluate import Candidate

Array = NDArray[np.float64]

_Z = 1.96
"""Two-sided 95 %."""


OBJECTIVES = ("cost", "time", "deadline")


@dataclass(frozen=True, slots=True)
class Objective:
    """What is wanted: the least cost, the least time, or the least cost that meets the deadline often enough."""

    name: str = "cost"
    probability: float = 0.95
    """Of meeting the deadline, for ``deadline``."""

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        """Sorts candidates, best first."""
        cost, time = candidate.cost_usd.mean, candidate.makespan_hours.mean
        if self.name == "time":
            return time, cost
        if self.name == "deadline":
            chance = candidate.deadline_probability
            met = chance.mean if chance is not None else 0.0
            return (0.0, cost) if met >= self.probability else (1.0, -met, cost)
        return cost, time

    def values(self, candidate: Candidate) -> Array:
        """What two candidates are compared by, run by run: shape (runs,)."""
        return candidate.runs.makespan_hours if self.name == "time" else candidate.costs


COST = Objective()


def is_starred(candidate: Candidate) -> bool:
    """Whether the price looks wrong."""
    return FAR_BELOW_SIBLINGS in candidate.offer.flags


def ranked(candidates: Iterable[Candidate], objective: Objective = COST) -> tuple[Candidate, ...]:
    """Best first; where nothing differs, in the order of the tables."""
    return tuple(sorted(candidates, key=objective.key))


def best_of(candidates: Iterable[Candidate], objective: Objective = COST) -> Candidate | None:
    """The best candidate whose price is not starred; a starred one only where there is no other."""
    order = ranked(candidates, objective)
    return next((candidate for candidate in order if not is_starred(candidate)), order[0] if order else None)


def if_real(candidates: Iterable[Candidate], best: Candidate, objective: Objective = COST) -> Candidate | None:
    """The best starred candidate that would beat the recommendation if its price is real."""
    better = [c for c in ranked(candidates, objective) if is_starred(c) and objective.key(c) < objective.key(best)]
    return better[0] if better else None


def ties(candidates: Sequence[Candidate], best: Candidate, objective: Objective = COST) -> tuple[Candidate, ...]:
    """Candidates that cannot be told from the best one: paired differences, 95 %."""
    return tuple(c for c in candidates if c is not best and cannot_be_told(c, best, objective))


def pareto_set(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates that no other beats in expected cost and expected makespan at once, cheapest first.

    Starred prices do not count: one odd price would hide everything else.
    """
    chosen: list[Candidate] = []
    fastest = math.inf
    sound = (candidate for candidate in candidates if not is_starred(candidate))
    for candidate in sorted(sound, key=lambda c: (c.cost_usd.mean, c.makespan_hours.mean)):
        if candidate.makespan_hours.mean < fastest:
            chosen.append(candidate)
            fastest = candidate.makespan_hours.mean
    return tuple(chosen)


def cannot_be_told(a: Candidate, b: Candidate, objective: Objective = COST) -> bool:
    """Whether the paired difference (over the runs that both have) is within its Monte Carlo error."""
    ours, theirs = objective.values(a), objective.values(b)
    both = min(ours.size, theirs.size)
    difference = ours[:both] - theirs[:both]
    error = float(np.std(difference, ddof=1)) / math.sqrt(difference.size) if difference.size > 1 else 0.0
    return abs(float(difference.mean())) <= _Z * error
