"""Which candidate to recommend, and which cannot be told from it.

A price that looks wrong (far below its sibling zones) never decides the headline: the recommendation is the best of the
others, and the cheaper odd one is shown beside it, to be checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from planner.catalogue import FAR_BELOW_SIBLINGS
from planner.evaluate import Candidate

_Z = 1.96
"""Two-sided 95 %."""


def is_starred(candidate: Candidate) -> bool:
    """Whether the price looks wrong."""
    return FAR_BELOW_SIBLINGS in candidate.offer.flags


def ranked(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """By expected cost; where prices are equal, in the order of the tables."""
    return tuple(sorted(candidates, key=lambda candidate: candidate.cost_usd.mean))


def best_of(candidates: Iterable[Candidate]) -> Candidate | None:
    """The cheapest candidate whose price is not starred; a starred one only where there is no other."""
    order = ranked(candidates)
    return next((candidate for candidate in order if not is_starred(candidate)), order[0] if order else None)


def if_real(candidates: Iterable[Candidate], best: Candidate) -> Candidate | None:
    """The cheapest starred candidate that would beat the recommendation if its price is real."""
    cheaper = [c for c in ranked(candidates) if is_starred(c) and c.cost_usd.mean < best.cost_usd.mean]
    return cheaper[0] if cheaper else None


def ties(candidates: Sequence[Candidate], best: Candidate) -> tuple[Candidate, ...]:
    """Candidates whose expected cost cannot be told from the best one's: paired differences, 95 %."""
    return tuple(c for c in candidates if c is not best and cannot_be_told(c, best))


def cannot_be_told(a: Candidate, b: Candidate) -> bool:
    """Whether the paired difference of costs is within its Monte Carlo error."""
    if a.costs.shape != b.costs.shape:
        return False
    difference = a.costs - b.costs
    error = float(np.std(difference, ddof=1)) / math.sqrt(difference.size) if difference.size > 1 else 0.0
    return abs(float(difference.mean())) <= _Z * error
