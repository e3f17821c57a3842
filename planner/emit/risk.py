"""The plan's lifetime as a table for the harness: what a save of precaution has to fear at each age of a node."""

from __future__ import annotations

import itertools
import math

from planner.completion import Completed
from simulator.lifetimes import Lifetime

AGES_HOURS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 22.0, 23.0, 24.0, 36.0, 48.0, 72.0, 168.0, 336.0)
"""Where steps may begin: fine where public traces show that the hazard changes, and up to a cap at 24 h."""

_SAME = 0.1
"""Neighbouring steps whose rates differ by less are one: the sources are not that sure."""
_JUST_BELOW = 1.0 - 1e-6


def hazard_steps(lifetime: Lifetime, share: float = 1.0) -> tuple[tuple[float, float], ...]:
    """(from this age in hours on, reclaims per hour times `share`), the mean hazard of each step.

    Exact in the mean: (H(b) - H(a)) / (b - a) over a step from a to b, so a hazard that is infinite at birth (Weibull
    with a shape below 1) has a finite rate.  Ends before an age that nobody outlives; empty where nobody is ever lost.
    """
    end = lifetime.inverse_cumulative_hazard(700.0)
    steps: list[tuple[float, float]] = []
    for start, following in itertools.pairwise(AGES_HOURS):
        if start >= end:
            break
        stop = min(following, end * _JUST_BELOW)
        lost = lifetime.cumulative_hazard(stop) - lifetime.cumulative_hazard(start)
        rate = share * lost / (stop - start)
        if not math.isfinite(rate):
            break
        if not steps or abs(rate - steps[-1][1]) > _SAME * steps[-1][1]:
            steps.append((start, rate))
    return tuple(steps) if any(rate > 0.0 for _, rate in steps) else ()


def unannounced_share(completed: Completed) -> float:
    """The share of reclaims that a save has to fear: one whose notice is acted on in time loses nothing."""
    fits = completed["checkpoint.emergency_seconds"] <= completed["notice.seconds"]
    return float(1.0 - completed["notice.success"] if fits else 1.0)


def own_share(completed: Completed) -> float:
    """Where one event takes several nodes, each causes fewer of them (rule 8 of MODEL.md): the harness adds all up."""
    return float(1.0 / (1.0 + (completed["fleet.nodes"] - 1) * completed["fleet.bulk"]))
