"""Cost against checkpoint interval: the curve, its best interval, and what the rules of thumb lose.

Every interval meets the same fates (common random numbers), so that differences between intervals are far more certain
than the costs themselves; what is said about "better" and "worse" rests on paired differences.  Means are sharpened
by control variates where they exist (`simulator.controls`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError
from harness.policy import (
    FIFTEEN_MINUTES_SECONDS,
    daly_interval_seconds,
    exact_exponential_interval_seconds,
    young_interval_seconds,
)
from simulator.controls import Controls, Estimate, control_spec, controls_for
from simulator.lifetimes import Exponential
from simulator.runs import Runs
from simulator.simulate import simulate
from simulator.spec import SHORTEST_INTERVAL_HOURS, Spec
from simulator.statistics import Summary, summarize

Engine = Literal["auto", "reference", "fast"]
Floats = NDArray[np.float64]

TOLERANCE = 0.02
"""Default relative tolerance of an interval: the optimum and the plateau's ends are located this closely."""

MATERIAL = 0.001
"""Differences below this fraction of the cost are none: without it, a million runs would call the saw-tooth of whole
segments (a last checkpoint more or less) a difference, and no plateau would ever be reported."""

_Z = 1.96
"""An interval is worse than the best when the 95 % interval of its paired difference lies above MATERIAL."""

_COARSE_FACTORS = tuple(2.0**power for power in range(-4, 5))
_MOST_POINTS = 80
_PILOT_RUNS = (32, 1000)
_FAR = 0.2
"""A pilot that is worse by this fraction, and by six standard errors, settles it."""
_EXACT_FIT_SEGMENTS = 40
"""Jobs of fewer segments than this have a saw-toothed cost; the intervals that divide the work are tried too."""


@dataclass(frozen=True, eq=False)
class SweepPoint:
    """What one interval costs.  Means and errors use control variates; quantiles are those of the runs.

    A search looks at dozens of intervals and most callers at one of them: summaries are computed when asked for, and
    the runs' costs and makespans are kept until then.
    """

    interval_hours: float
    estimate: Estimate = field(repr=False)
    """Of the objective."""
    costs_usd: Floats = field(repr=False)
    """Run by run: shape (runs,)."""
    makespans_hours: Floats = field(repr=False)
    controls: Controls = field(repr=False)

    @functools.cached_property
    def cost(self) -> Summary:
        """USD."""
        return summarize(self.costs_usd, self.controls.estimate(self.costs_usd))

    @functools.cached_property
    def makespan(self) -> Summary:
        """Hours."""
        return summarize(self.makespans_hours, self.controls.estimate(self.makespans_hours))

    @property
    def variance_ratio(self) -> float:
        """How many times fewer runs give the objective's standard error than a plain mean would need."""
        return self.estimate.variance_ratio


@dataclass(frozen=True, slots=True)
class Optimum:
    """The cheapest interval, and the range of intervals that these runs cannot tell from it (by 0.1 % of the cost)."""

    interval_hours: float
    low_hours: float
    high_hours: float
    cost: Summary
    makespan: Summary


@dataclass(frozen=True, slots=True)
class Sweep:
    """The answer of `sweep`."""

    spec: Spec
    seed: int
    runs: int
    points: tuple[SweepPoint, ...]
    """By interval.  Those that were asked for, or all that the search evaluated."""
    optimum: Optimum
    rules_hours: dict[str, float | None]
    """Intervals of young, daly, exact_exponential (None unless lifetimes are exponential) and fifteen_minutes."""
    regret: dict[str, float]
    """Extra cost of each rule's interval over the optimum's, as a fraction of the optimum's cost (paired)."""
    regret_standard_error: dict[str, float]
    objective: str
    """"cost_usd", or "makespan_hours" where no price is given and every cost is 0."""
    tolerance: float
    complete: bool
    """False after Ctrl-C: the search ended with what was known by then."""


def mean_time_between_interruptions_hours(spec: Spec) -> float:
    """Of the whole fleet, from new nodes: a node's mean lifetime × (1 + (nodes − 1)·bulk) / nodes; may be inf."""
    return spec.lifetime.mean_hours * spec.marginal_hazard_divisor / spec.nodes


def rule_intervals_hours(spec: Spec) -> dict[str, float | None]:
    """What each rule says, with the stall as checkpoint cost and the fleet's mean time between interruptions."""
    stall = spec.stall_hours * 3600.0
    mtbf = mean_time_between_interruptions_hours(spec) * 3600.0
    exact: float | None = None
    if isinstance(spec.lifetime, Exponential):
        exact = exact_exponential_interval_seconds(stall, mtbf) / 3600.0 if math.isfinite(mtbf) else math.inf
    unbounded = math.isinf(mtbf)
    return {
        "young": math.inf if unbounded else young_interval_seconds(stall, mtbf) / 3600.0,
        "daly": math.inf if unbounded else daly_interval_seconds(stall, mtbf) / 3600.0,
        "exact_exponential": exact,
        "fifteen_minutes": FIFTEEN_MINUTES_SECONDS / 3600.0,
    }


class _Interrupted(Exception):  # noqa: N818 - no error: the user stopped the search
    pass


class _Search:
    """Evaluates intervals, each once, and compares them pair by pair.

    An interval that a pilot of a few runs shows to be far worse than the best so far, or whose job cannot finish, is
    set aside without the other runs: `far` holds its pilot mean (inf: cannot finish).
    """

    def __init__(
        self, spec: Spec, runs: int, seed: int, engine: Engine, progress: Callable[[int, int], None] | None
    ) -> None:
        self.spec, self.runs, self.seed, self.engine, self._progress = spec, runs, seed, engine, progress
        self.points: dict[float, SweepPoint] = {}
        self.values: dict[float, Floats] = {}
        self.far: dict[float, float] = {}
        self.objective: Literal["cost_usd", "makespan_hours"] = "cost_usd"
        self.controls = Controls(None)
        self._refusal: InvalidInputError | None = None
        self._expected = 3 * len(_COARSE_FACTORS)
        self._done = 0

    def prepare(self) -> None:
        """Simulate the controls, where there are any."""
        control = control_spec(self.spec)
        control_runs = None
        if control is not None and self.runs > 1:
            try:
                control_runs = self._simulate(control, self.runs)
            except InvalidInputError:  # the control job is a convenience: one that cannot finish is no control
                control_runs = None
        self.controls = controls_for(self.spec, self.seed, self.runs, control_runs)

    def _simulate(self, spec: Spec, runs: int, first_run: int = 0) -> Runs:
        try:
            result = simulate(spec, runs=runs, seed=self.seed, engine=self.engine, first_run=first_run)
        except KeyboardInterrupt:
            raise _Interrupted from None
        if not result.complete:
            raise _Interrupted
        return result

    def evaluate(self, interval: float, *, whole: bool = False) -> None:
        """Simulate `interval` unless that is done; all runs even where a pilot sees no hope if `whole`."""
        if interval in self.points or (interval in self.far and not (whole and self.far[interval] < math.inf)):
            return
        spec = self.spec.with_interval(interval)
        try:
            parts = self._in_parts(spec, whole)
        except InvalidInputError as refusal:
            self._refusal = refusal
            self.far[interval] = math.inf
            return
        self._done += 1
        if self._progress is not None:
            self._expected = max(self._expected, self._done + 1)
            self._progress(self._done, self._expected)
        if parts is None:
            return
        self.far.pop(interval, None)
        costs = np.concatenate([part.cost_usd for part in parts])
        makespans = np.concatenate([part.makespan_hours for part in parts])
        if not self.points and not costs.any():
            self.objective = "makespan_hours"
        self.values[interval] = costs if self.objective == "cost_usd" else makespans
        estimate = self.controls.estimate(self.values[interval])
        self.points[interval] = SweepPoint(interval, estimate, costs, makespans, self.controls)

    def _in_parts(self, spec: Spec, whole: bool) -> list[Runs] | None:
        """All runs, or None where the pilot showed that the rest is not worth the time."""
        if whole or not self.points:
            return [self._simulate(spec, self.runs)]
        best = self.best()
        parts: list[Runs] = []
        done = 0
        for pilot in _PILOT_RUNS:
            if 2 * pilot > self.runs:
                break
            parts.append(self._simulate(spec, pilot - done, done))
            done = pilot
            values = np.concatenate([getattr(part, self.objective) for part in parts])
            differences = values - self.values[best][:done]
            excess, error = float(differences.mean()), float(differences.std()) / math.sqrt(done)
            if excess > _FAR * self.mean(best) and excess > 6.0 * error:
                self.far[spec.interval_hours] = float(values.mean())
                return None
        parts.append(self._simulate(spec, self.runs - done, done))
        return parts

    def intervals(self) -> list[float]:
        """Every interval that was looked at, in order."""
        return sorted([*self.points, *self.far])

    def mean(self, interval: float) -> float:
        """Mean cost (or makespan, where all costs are 0)."""
        if interval in self.far:
            return self.far[interval]
        return self.points[interval].estimate.mean

    def best(self) -> float:
        """The cheapest interval so far; InvalidInputError where no interval lets the job finish."""
        if not self.points:
            assert self._refusal is not None
            raise self._refusal
        return min(self.points, key=lambda interval: (self.mean(interval), interval))

    def excess(self, interval: float, best: float) -> tuple[float, float]:
        """Mean and standard error of the paired difference to `best`."""
        if interval in self.far:
            return self.far[interval] - self.mean(best), 0.0
        estimate = self.controls.estimate(self.values[interval] - self.values[best])
        return estimate.mean, estimate.standard_error

    def is_worse(self, interval: float, best: float) -> bool:
        """Whether these runs can tell `interval` from `best`."""
        difference, error = self.excess(interval, best)
        return difference - _Z * error > MATERIAL * abs(self.mean(best))


def sweep(
    spec: Spec,
    *,
    runs: int,
    seed: int,
    intervals_hours: Sequence[float] | None = None,
    engine: Engine = "auto",
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """The cost curve of `spec` over its interval (its own `interval_hours` is ignored).

    intervals_hours: the points to report; the optimum is searched for either way.
    tolerance:       relative, of the optimal interval and of the plateau's ends.
    progress:        called with (intervals done, intervals expected).

    The search starts from nine intervals a factor 2 apart around Young's, moves on while the best lies at an end, and
    then halves the (logarithmic) spacing around the best until it is below `tolerance`.  Raises InvalidInputError for
    a bad interval or a job that does not finish.  After Ctrl-C what is known by then is returned, `complete` False;
    KeyboardInterrupt only where nothing is known yet.
    """
    if not (math.isfinite(tolerance) and tolerance > 0.0):
        raise InvalidInputError("tolerance", tolerance, "a fraction > 0")
    if intervals_hours is not None and not intervals_hours:
        raise InvalidInputError("intervals_hours", "nothing", "at least one interval")
    wanted = None if intervals_hours is None else sorted({float(interval) for interval in intervals_hours})
    search = _Search(spec, runs, seed, engine, progress)
    rules = rule_intervals_hours(spec)
    low, high = _limits(spec)
    complete = True
    optimum: float | None = None
    try:
        search.prepare()
        for interval in wanted or ():
            search.evaluate(interval, whole=True)
        optimum = _find_best(search, low, high, tolerance)
        ends = _plateau(search, optimum, low, high, tolerance)
        for ruled in rules.values():
            if ruled is not None and ruled >= SHORTEST_INTERVAL_HOURS:
                search.evaluate(ruled, whole=True)
    except (_Interrupted, KeyboardInterrupt):
        complete = False
        if not search.points:
            raise KeyboardInterrupt from None
    # Whatever was evaluated last may have turned out a hair better.
    best = search.best()
    if not complete or best != optimum:
        ends = _known_plateau(search, best, low, high)
    point = search.points[best]
    regret, regret_error = {}, {}
    for name, ruled in rules.items():
        if ruled is not None and ruled in search.intervals() and search.mean(best) > 0.0:
            difference, error = search.excess(ruled, best)
            regret[name] = difference / search.mean(best)
            regret_error[name] = error / search.mean(best)
    reported = search.points if wanted is None else [interval for interval in wanted if interval in search.points]
    return Sweep(
        spec=spec,
        seed=seed,
        runs=runs,
        points=tuple(search.points[interval] for interval in sorted(reported)),
        optimum=Optimum(best, *ends, point.cost, point.makespan),
        rules_hours=rules,
        regret=regret,
        regret_standard_error=regret_error,
        objective=search.objective,
        tolerance=tolerance,
        complete=complete,
    )


def _limits(spec: Spec) -> tuple[float, float]:
    """The shortest and the longest interval worth trying: at `work_hours` there is only the final checkpoint."""
    # Below the progress made during one upload the interval has no effect (rule 3).
    upload = (1.0 - spec.persist_slowdown) * spec.persist_hours
    return min(max(SHORTEST_INTERVAL_HOURS, 1e-5 * spec.work_hours, upload), spec.work_hours), spec.work_hours


def _find_best(search: _Search, low: float, high: float, tolerance: float) -> float:
    spec = search.spec
    mtbf = mean_time_between_interruptions_hours(spec)
    centre = math.sqrt(2.0 * max(spec.stall_hours, 1e-3) * mtbf) if math.isfinite(mtbf) else high
    centre = min(max(centre, low), high)
    for factor in sorted(_COARSE_FACTORS, key=lambda factor: abs(math.log(factor))):  # likely ones first
        search.evaluate(min(max(centre * factor, low), high))
    best = search.best()
    while best == search.intervals()[0] and best > low and len(search.points) < _MOST_POINTS:
        search.evaluate(max(best / 2.0, low))
        best = search.best()
    while best == search.intervals()[-1] and best < high and len(search.points) < _MOST_POINTS:
        search.evaluate(min(best * 2.0, high))
        best = search.best()
    while len(search.points) < _MOST_POINTS:
        below, above = _neighbours(search, best)
        finer = [math.sqrt(best * other) for other in (below, above) if _apart(best, other) > tolerance]
        if not finer:
            break
        for interval in finer:
            search.evaluate(interval)
        best = search.best()
    segments = round(spec.work_hours / best)
    if segments < _EXACT_FIT_SEGMENTS:
        for count in (segments - 1, segments, segments + 1):
            if count >= 1:
                search.evaluate(max(spec.work_hours / count, low))
    return search.best()


def _neighbours(search: _Search, interval: float) -> tuple[float, float]:
    """The evaluated intervals next to this one; itself where there is none."""
    below = max((other for other in search.intervals() if other < interval), default=interval)
    above = min((other for other in search.intervals() if other > interval), default=interval)
    return below, above


def _apart(a: float, b: float) -> float:
    return max(a, b) / min(a, b) - 1.0


def _known_plateau(search: _Search, best: float, low: float, high: float) -> tuple[float, float]:
    """Ends of the run of evaluated intervals around `best` that are not worse than it."""
    ends = []
    for side, limit in ((-1, low), (1, high)):
        reached = best
        for interval in sorted((i for i in search.intervals() if (i - best) * side > 0), key=lambda i: i * side):
            if search.is_worse(interval, best):
                break
            reached = interval
        ends.append(min(max(reached, min(limit, best)), max(limit, best)))
    return ends[0], ends[1]


def _plateau(search: _Search, best: float, low: float, high: float, tolerance: float) -> tuple[float, float]:
    """`_known_plateau` with its ends located to `tolerance`, by bisection between the last good and first worse."""
    ends = []
    for side, limit in ((-1, low), (1, high)):
        inside, outside = best, limit
        for interval in sorted((i for i in search.intervals() if (i - best) * side > 0), key=lambda i: i * side):
            if search.is_worse(interval, best):
                outside = interval
                break
            inside = interval
        else:
            if (limit - inside) * side > 0:
                search.evaluate(limit)
                if not search.is_worse(limit, best):
                    inside = limit
        while _apart(inside, outside) > tolerance and inside != limit and len(search.points) < _MOST_POINTS:
            middle = math.sqrt(inside * outside)
            search.evaluate(middle)
            if search.is_worse(middle, best):
                outside = middle
            else:
                inside = middle
        ends.append(inside)
    return ends[0], ends[1]
