"""Several jobs at once: the best place of each, and what they cost together.

A file of jobs is a list of scenarios, each with a name of its own beside its sections.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError
from harness.validation import read_yaml
from planner.compare import Comparison
from planner.evaluate import Candidate, Effort, evaluate
from planner.knowledge import Knowledge
from planner.layers import Layered
from planner.selection import Selection
from simulator.draws import STREAM_RUN, uniforms_array
from simulator.statistics import Proportion, Summary, mean_and_error, summarize, wilson_interval

Array = NDArray[np.float64]


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
class SharedRate:
    """An uncertain interruption rate of one job's runs; jobs with equal `of` have it from one source."""

    of: Hashable
    uniforms: Array
    """Shape (runs,): the rate rises with it."""


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


def looked_at_closely(found: Comparison, layered: Layered, knowledge: Knowledge, selection: Selection) -> Comparison:
    """The comparison with its best place simulated with all of the scenario's runs: sums are made of these.

    Raises as `planner.evaluate.evaluate` does.
    """
    best = found.best
    places = [place for place in selection.places if (place.offer, place.nodes) == (best.offer, best.nodes)]
    known = knowledge.of_several_types() if selection.several_types else knowledge
    effort = Effort(minimise="time" if found.objective.name == "time" else "cost")
    again = evaluate(layered, known, places, effort=effort).candidates[0]
    return replace(found, best=again, candidates=tuple(again if c is best else c for c in found.candidates))


def total_of(plans: Sequence[JobPlan], *, budget_usd: float | None, seed: int) -> Total:
    """What the jobs cost together when each meets its own fate, under interruption rates that they may share.

    The standard error is that of the mean of the runs as they were simulated, which share their random numbers: the
    luck of one sample is in every job's mean.  The budget's interval counts as many runs as there are of each job over
    the jobs, the least that the same reason leaves of them.
    """
    best = [plan.found.best for plan in plans]
    size = min(row.costs.size for row in best)
    costs = [row.costs[:size] for row in best]
    together = sums_of(costs, [_uncertain_rate(row, size) for row in best], np.random.default_rng(seed))
    _, error = mean_and_error(np.sum(costs, axis=0))
    within = None
    if budget_usd is not None:
        share = float(np.count_nonzero(together <= budget_usd)) / size
        counted = max(1, size // len(plans))
        within = replace(wilson_interval(round(share * counted), counted), mean=share)
    alternatives = [row.on_demand.cost_usd for row in best]
    known = [usd for usd in alternatives if usd is not None]
    on_demand = sum(known) if len(known) == len(alternatives) else None
    return Total(replace(summarize(together), standard_error=error), within, on_demand)


def sums_of(costs: Sequence[Array], rates: Sequence[SharedRate | None], generator: np.random.Generator) -> Array:
    """Sums over jobs, shape (runs,), of their simulated costs, each of shape (runs,) and each run used once.

    Jobs with an equal `SharedRate.of` meet the same rate: their runs are ordered by it, and only runs of one stratum
    (√n neighbours in this order) are added.  Within it, and between rates, they meet at random: one job's bad luck is
    not the other's.
    """
    size = costs[0].size
    stratum = np.arange(size) // max(1, math.isqrt(size))
    slots: dict[Hashable, NDArray[np.int64]] = {}
    total = np.zeros(size)
    for cost, rate in zip(costs, rates, strict=True):
        if rate is None:
            total += generator.permutation(cost)
            continue
        slot = slots.setdefault(rate.of, generator.permutation(size))
        by_rate = np.argsort(rate.uniforms, kind="stable")
        shuffled = np.lexsort((generator.random(size), stratum))
        total[slot] += cost[by_rate[shuffled]]
    return total


def _uncertain_rate(candidate: Candidate, runs: int) -> SharedRate | None:
    """What stands for the rate in each run: it rises with this uniform in every job (`simulator.uncertainty`)."""
    completed, simulated = candidate.completed, candidate.runs
    if completed.rate_events is None:
        return None
    numbers = np.arange(simulated.first_run, simulated.first_run + runs)
    uniforms, _ = uniforms_array(simulated.seed, numbers, 0, 0, STREAM_RUN)
    return SharedRate((completed.lifetime, completed.rate_events, completed.rate_exposure_hours), uniforms)
