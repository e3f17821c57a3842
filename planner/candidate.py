"""One place with its interval and what is predicted for it, and the arithmetic that makes it from simulated runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.policy import interval_steps
from planner.bill import Extras
from planner.catalogue import Offer
from planner.completed import SECONDS_PER_HOUR, Completed
from simulator.lifetimes import Lifetime
from simulator.runs import Runs
from simulator.spec import Spec
from simulator.statistics import Proportion, Summary, summarize, wilson_interval
from simulator.sweep import Sweep

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """How often to save: the best, and the range that cannot be told from it (hours)."""

    hours: float
    low_hours: float
    high_hours: float
    search: Sweep | None = dataclasses.field(default=None, repr=False, compare=False)
    """The curve that it was read from; None for the scenario's own interval."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The same job without interruptions: no wait, one startup, only the final checkpoint (rule 9)."""

    makespan_hours: float
    cost_usd: float | None
    """None where no on-demand price is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place with its best interval and what is predicted for it."""

    completed: Completed
    offer: Offer
    nodes: int
    interval: Interval
    interval_steps: int | None
    """Where the length of a step is known."""
    keep_to_steps: bool
    """The user said how long a step takes: the run then keeps to so many steps.  A measured step is only for show."""
    makespan_hours: Summary
    cost_usd: Summary
    goodput: Summary
    interruptions: Summary
    lost_work_hours: Summary
    deadline_probability: Proportion | None
    on_demand: OnDemand
    dearer_than_on_demand: Proportion | None
    """Probability that the job costs more than on demand in the same region."""
    within_budget: Proportion | None
    speed_flags: tuple[str, ...]
    costs: Array = dataclasses.field(repr=False)
    """Cost of each run: shape (runs,); run i met the same fates in every candidate."""
    runs: Runs = dataclasses.field(repr=False)

    @property
    def spot_usd_per_hour(self) -> float:
        """Spot price of one node."""
        return float(self.completed["market.spot_usd_per_hour"])

    @property
    def on_demand_usd_per_hour(self) -> float | None:
        """On-demand price of one node in the same region."""
        price = self.completed["market.on_demand_usd_per_hour"]
        return None if price is None else float(price)

    @property
    def savings_fraction(self) -> float | None:
        """1 - expected cost over on-demand cost in the same region."""
        if not self.on_demand.cost_usd:
            return None
        return 1.0 - self.cost_usd.mean / self.on_demand.cost_usd

    @property
    def spec(self) -> Spec:
        """What was simulated, at this place's price."""
        return self.completed.to_spec(interval_hours=self.interval.hours)

    @property
    def emergency_fits(self) -> bool:
        """Whether an emergency save fits into the notice."""
        return bool(self.completed["checkpoint.emergency_seconds"] <= self.completed["notice.seconds"])

    @property
    def flags(self) -> tuple[str, ...]:
        """What needs a second look: of the price, of the interruption rate, of the type's bandwidths."""
        hazard = self.completed.hazard.flags if self.completed.hazard else ()
        derived = self.completed.derived.flags if self.completed.derived else ()
        fits = () if self.emergency_fits else ("emergency-does-not-fit",)
        return tuple(dict.fromkeys((*self.offer.flags, *hazard, *derived, *self.speed_flags, *fits)))


def shared_summaries(runs: Runs) -> dict[str, Summary]:
    names = ("makespan_hours", "goodput", "interruptions", "lost_work_hours")
    return {name: summarize(getattr(runs, name)) for name in names}


def make_candidate(
    completed: Completed,
    interval: Interval,
    runs: Runs,
    shared: dict[str, Summary],
    step_seconds: float | None,
    *,
    offer: Offer,
    flags: tuple[str, ...] = (),
    measured_step_seconds: float | None = None,
) -> Candidate:
    extras = Extras.of(completed)
    costs = costs_of(completed, runs)
    alternative = on_demand(completed)
    length = measured_step_seconds if step_seconds is None else step_seconds
    steps = None if length is None else interval_steps(interval.hours * SECONDS_PER_HOUR, length)
    return Candidate(
        completed=completed,
        offer=offer,
        nodes=completed["fleet.nodes"],
        interval=interval,
        interval_steps=steps,
        keep_to_steps=step_seconds is not None,
        cost_usd=summarize(costs),
        deadline_probability=runs.deadline_probability,
        on_demand=alternative,
        dearer_than_on_demand=None if alternative.cost_usd is None else _share(costs > alternative.cost_usd),
        within_budget=extras.within_budget(costs),
        speed_flags=flags,
        costs=costs,
        runs=runs,
        **shared,
    )


def _share(hit: NDArray[np.bool_]) -> Proportion:
    """Share of runs with its Wilson interval."""
    return wilson_interval(int(np.count_nonzero(hit)), hit.size)


def priced(runs: Runs, spot_usd_per_hour: float, on_demand_usd_per_hour: float | None) -> Array:
    """Cost of each run in USD at these prices per node-hour: shape (runs,).  Rule 7 with constant prices."""
    on_demand_hours = runs.on_demand_hours
    spot_cost: Array = (runs.billed_hours - on_demand_hours) * spot_usd_per_hour + runs.storage_usd
    return spot_cost + on_demand_hours * (on_demand_usd_per_hour or 0.0)


def costs_of(completed: Completed, runs: Runs) -> Array:
    """The whole bill of each run in USD: shape (runs,)."""
    nodes = priced(runs, completed["market.spot_usd_per_hour"], completed["market.on_demand_usd_per_hour"])
    total: Array = nodes + Extras.of(completed).spot_usd(runs)
    return total


def on_demand(completed: Completed) -> OnDemand:
    """The job on on-demand nodes (rule 9 of MODEL.md): arithmetic, nothing is left to chance."""
    seconds = completed["restart.startup_seconds"] + completed["checkpoint.stall_seconds"]
    makespan = completed["job.work_hours"] + (seconds + completed["checkpoint.persist_seconds"]) / SECONDS_PER_HOUR
    price = completed["market.on_demand_usd_per_hour"]
    if price is None:
        return OnDemand(makespan, None)
    requests = completed["storage.shards"] * completed["storage.usd_per_1000_puts"] / 1000.0
    nodes = Extras.of(completed).on_demand_usd(price, completed["fleet.nodes"], makespan)
    return OnDemand(makespan, nodes + requests)


def with_lifetime(spec: Spec, lifetime: Lifetime, **changes: Any) -> Spec:
    """`spec` with another, exactly known lifetime."""
    return dataclasses.replace(spec, lifetime=lifetime, rate_events=None, rate_exposure_hours=None, **changes)
