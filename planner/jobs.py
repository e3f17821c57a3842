"""Several jobs at once: the best place of each, and what they cost together.

A file of jobs is a list of scenarios, each with a name of its own beside its sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import InvalidInputError
from harness.validation import read_yaml
from planner.compare import Comparison
from simulator.statistics import Proportion, Summary, summarize, wilson_interval

_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job of the file and the places compared for it."""

    name: str
    found: Comparison

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before spending money on the recommended place."""
        return self.found.warnings


@dataclass(frozen=True, slots=True)
class Total:
    """All jobs at their recommended places, in USD."""

    cost_usd: Summary
    within_budget: Proportion | None
    """None without a budget."""
    on_demand_usd: float | None
    """None where the on-demand price of a place is not known."""


def read_jobs(path: Path) -> tuple[tuple[str, dict[str, object]], ...]:
    """(name, scenario document) of each job in a file; what the documents say is checked where they are used.

    Raises InvalidInputError for a file that is no list, and for jobs without a name or with one that is taken.
    """
    document = read_yaml(path)
    if not isinstance(document, list) or not document:
        raise InvalidInputError(str(path), document, "a list of jobs, each with a name and the sections of a scenario")
    jobs: dict[str, dict[str, object]] = {}
    for number, entry in enumerate(document, start=1):
        where = f"{path}: job {number}"
        if not isinstance(entry, dict):
            raise InvalidInputError(where, entry, "a mapping with a name and the sections of a scenario")
        rest = {key: value for key, value in entry.items() if key != "name"}
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidInputError(f"{where}: name", "nothing" if name is None else name, "a name for this job")
        if name in jobs:
            raise InvalidInputError(f"{where}: name", name, "a name that no other job of the file has")
        jobs[name] = rest
    return tuple(jobs.items())


def total_of(plans: Sequence[JobPlan], *, budget_usd: float | None, seed: int) -> Total:
    """What the jobs cost together when each meets its own fate.

    The simulated runs of two jobs share their random numbers; the sum takes runs of each at random instead, so that
    one job's bad luck is not the other's.
    """
    generator = np.random.default_rng(seed)
    costs = np.zeros(_DRAWS)
    for plan in plans:
        costs += generator.choice(plan.found.best.costs, size=_DRAWS)
    within = None if budget_usd is None else wilson_interval(int(np.count_nonzero(costs <= budget_usd)), costs.size)
    alternatives = [plan.found.best.on_demand.cost_usd for plan in plans]
    known = [usd for usd in alternatives if usd is not None]
    return Total(summarize(costs), within, sum(known) if len(known) == len(alternatives) else None)
