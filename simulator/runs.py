"""What comes out: one run as numbers, many runs as one array per number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from simulator.spec import Spec
from simulator.statistics import Proportion, Summary, summarize, wilson_interval


@dataclass(frozen=True, slots=True)
class RunResult:
    """One simulated run.  Hours are wall-clock hours of the job unless said otherwise; dollars are nominal.

    makespan = work_hours of the spec + lost work + checkpoint + startup + waiting + notice idle + slowdown
    + reduced fleet + outage; every part is accumulated on its own.
    """

    makespan_hours: float
    """From the first request to the durable final state."""
    cost_usd: float
    """All nodes' bills plus storage."""
    interruptions: float
    """Reclaim events before the end of the run; one event may take several nodes."""
    lost_work_hours: float
    """Progress that was rolled back."""
    checkpoint_hours: float
    startup_hours: float
    waiting_hours: float
    notice_idle_hours: float
    slowdown_hours: float
    reduced_fleet_hours: float
    outage_hours: float
    reclaimed_nodes: float
    storage_usd: float
    billed_hours: float
    """Node-hours that are paid for (refunded ones are not)."""
    on_demand_hours: float
    """The part of `billed_hours` that was paid at the on-demand price (rule 9)."""


QUANTITIES: tuple[str, ...] = tuple(f.name for f in fields(RunResult))
"""Names of the per-run quantities, in the order of `RunResult` and of `Runs`."""

PARTS: tuple[str, ...] = (
    "lost_work_hours",
    "checkpoint_hours",
    "startup_hours",
    "waiting_hours",
    "notice_idle_hours",
    "slowdown_hours",
    "reduced_fleet_hours",
    "outage_hours",
)
"""What the makespan consists of, beside the work itself."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Runs:
    """Many runs of one spec: a float64 array of shape (runs,) per quantity of `RunResult`."""

    spec: Spec
    seed: int
    first_run: int
    """Index of the first run: run i of this object is run `first_run` + i of the seed."""
    complete: bool
    """False when the user stopped it: the arrays hold what was done until then."""
    makespan_hours: Array = field(repr=False)
    cost_usd: Array = field(repr=False)
    interruptions: Array = field(repr=False)
    lost_work_hours: Array = field(repr=False)
    checkpoint_hours: Array = field(repr=False)
    startup_hours: Array = field(repr=False)
    waiting_hours: Array = field(repr=False)
    notice_idle_hours: Array = field(repr=False)
    slowdown_hours: Array = field(repr=False)
    reduced_fleet_hours: Array = field(repr=False)
    outage_hours: Array = field(repr=False)
    reclaimed_nodes: Array = field(repr=False)
    storage_usd: Array = field(repr=False)
    billed_hours: Array = field(repr=False)
    on_demand_hours: Array = field(repr=False)

    @classmethod
    def from_table(cls, spec: Spec, seed: int, table: Array, *, first_run: int = 0, complete: bool = True) -> Runs:
        """Runs from an array of shape (runs, len(QUANTITIES)), columns in the order of `QUANTITIES`."""
        columns = {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(QUANTITIES)}
        return cls(spec=spec, seed=seed, first_run=first_run, complete=complete, **columns)

    @classmethod
    def from_results(
        cls, spec: Spec, seed: int, results: Iterable[RunResult], *, first_run: int = 0, complete: bool = True
    ) -> Runs:
        """Runs from single results, in the order of their run numbers."""
        rows = [[getattr(result, name) for name in QUANTITIES] for result in results]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(QUANTITIES))
        return cls.from_table(spec, seed, table, first_run=first_run, complete=complete)

    def __len__(self) -> int:
        return int(self.makespan_hours.size)

    @property
    def goodput(self) -> Array:
        """Work over makespan, run by run; its mean is the mean of the runs."""
        return self.spec.work_hours / self.makespan_hours

    def summary(self, quantity: str) -> Summary:
        """Mean, error and quantiles of one quantity ("goodput" included)."""
        return summarize(getattr(self, quantity))

    @property
    def deadline_probability(self) -> Proportion | None:
        """Share of runs with makespan <= deadline, with its 95 % Wilson interval; None without a deadline (rule 9)."""
        deadline = self.spec.deadline_hours
        if deadline is None:
            return None
        # An hour-long chain of additions may overshoot a deadline that it meets exactly by a rounding error.
        met = int(np.count_nonzero(self.makespan_hours <= deadline * (1.0 + 1e-12)))
        return wilson_interval(met, len(self))

    def parts_sum(self) -> Array:
        """Work plus all parts, run by run: equal to the makespan up to rounding (docs/model.md, "Parts")."""
        total = np.full(len(self), self.spec.work_hours)
        for name in PARTS:
            total = total + getattr(self, name)
        return total
