"""How often to save in one place, and how many runs say what that costs: the effort is the caller's to choose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.bill import Extras
from planner.candidate import Interval, priced
from planner.completed import SECONDS_PER_HOUR, Completed
from simulator.runs import Runs
from simulator.simulate import simulate
from simulator.spec import SHORTEST_INTERVAL_HOURS, PriceSeries, Spec
from simulator.sweep import mean_time_between_interruptions_hours, sweep

SWEEP_RUNS = 4_000
"""Runs per interval while the interval is looked for; the answer itself uses the scenario's runs."""


Say = Callable[[int, int], None]
Tick = Callable[[], None]
"""Called again and again while something is simulated; whoever wants to stop it raises from here."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated.  The default is for a few places; `broad_effort` for hundreds."""

    sweep_runs: int = SWEEP_RUNS
    tolerance: float = 0.02
    """Of the interval, relative."""
    error: float | None = None
    """Stop at this relative standard error of the mean cost; None: all of the scenario's runs."""
    minimise: str = "cost"
    """What the interval is chosen for: cost or time."""
    longest: float | None = None
    """Reject a place where a trial takes more than this many times the work; None: however long it takes."""


def broad_effort(minimise: str = "cost") -> Effort:
    """Enough to rank hundreds of places: standard error of the cost at most 0.4 %."""
    return Effort(sweep_runs=250, tolerance=0.1, error=0.004, minimise=minimise, longest=10.0)


_TRIAL_RUNS = 4
FEWEST_RUNS = 24
ENOUGH_INTERRUPTIONS = 10_000
"""Simulated interruptions per interval that are enough while places are compared broadly."""


def _quietly(tick: Tick | None) -> Say | None:
    """`tick` as a progress callback."""
    return None if tick is None else lambda _done, _total: tick()


def find_interval(
    completed: Completed,
    spec: Spec,
    spot_usd_per_hour: float,
    runs: int,
    tick: Tick | None = None,
    *,
    effort: Effort | None = None,
) -> Interval:
    """The scenario's own interval, or the cheapest (or fastest) one at this price."""
    effort = effort or Effort()
    if not completed.wants_optimum:
        hours = completed["checkpoint.interval_seconds"] / SECONDS_PER_HOUR
        return Interval(hours, hours, hours)
    searched = Extras.of(completed).in_node_hours(spec, spot_usd_per_hour)
    if effort.minimise == "time":
        # Where nothing costs anything, the sweep minimises the makespan.
        searched = dataclasses.replace(
            spec,
            price=PriceSeries.constant(0.0),
            storage_usd_per_gib_month=0.0,
            usd_per_1000_puts=0.0,
            usd_per_1000_gets=0.0,
        )
    found = sweep(
        searched,
        runs=min(runs, effort.sweep_runs),
        seed=completed.seed,
        tolerance=effort.tolerance,
        progress=_quietly(tick),
    )
    if not found.complete:
        raise KeyboardInterrupt
    best = found.optimum
    return Interval(best.interval_hours, best.low_hours, best.high_hours, found)


def trial_interruptions(spec: Spec, seed: int, longest: float) -> float:
    """Mean interruptions of a few runs that save about as often as Young would.

    InvalidInputError where they take more than `longest` times the work: of no use to anybody.

    Without it, one fleet that hardly ever has all its nodes at once takes longer to simulate than everything else.
    """
    mtbf = mean_time_between_interruptions_hours(spec)
    cost = spec.stall_hours + spec.persist_hours
    interval = spec.work_hours if math.isinf(mtbf) else math.sqrt(2.0 * max(cost, 1e-3) * mtbf)
    interval = min(max(interval, spec.persist_hours, SHORTEST_INTERVAL_HOURS), spec.work_hours)
    trial = simulate(spec.with_interval(interval), runs=_TRIAL_RUNS, seed=seed)
    times = float(trial.makespan_hours.mean()) / spec.work_hours
    if times > longest:
        raise InvalidInputError("work_hours", spec.work_hours, f"a job that takes less than {longest:g} times its work")
    return float(trial.interruptions.mean())


def enough_runs(spec: Spec, price: float, runs: int, seed: int, effort: Effort, tick: Tick | None) -> Runs:
    """All `runs`, or as many as the wanted standard error takes: four times as many until it is reached."""
    count = runs if effort.error is None else min(runs, effort.sweep_runs)
    while True:
        simulated = simulate(spec, runs=count, seed=seed, progress=_quietly(tick))
        if not simulated.complete:
            raise KeyboardInterrupt
        if effort.error is None or count >= runs:
            return simulated
        costs = priced(simulated, price, None)
        mean = float(costs.mean())
        if float(costs.std(ddof=1)) <= effort.error * abs(mean) * math.sqrt(count):
            return simulated
        count = min(4 * count, runs)
