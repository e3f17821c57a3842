"""The interruption rate at which spot costs as much as on-demand, found on the engine itself.

At each rate of a logarithmic grid the job is simulated with the best of three intervals around the base optimum scaled
by the square root of the rate (Young's law); the crossing is interpolated between grid points.  Places that share
everything but their prices share the grid.
"""

from __future__ import annotations

import dataclasses
import math

from harness.errors import InvalidInputError
from planner.bill import Extras
from planner.distributions import at_rate
from planner.evaluate import Candidate, with_lifetime
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec

MOST_RUNS = 300
FEWEST_RUNS = 4
INTERRUPTIONS = 20_000
"""Simulated interruptions per rate and interval: many runs at low rates, few (long ones) at high rates."""
GRID = 2.0 ** (1.0 / 4.0)
"""Ratio of neighbouring rates."""
LONGEST = 30.0
"""A job that takes this many times its work is given up: no rate up to there makes spot dearer."""
_HOPELESS = 1.2
"""A single run that takes this many times more than that is enough to give a rate up."""
_MOST_DOUBLINGS = 16


class BreakEven:
    """Break-even rates of candidates, sharing simulated rates between those that differ only in price."""

    def __init__(self) -> None:
        self._billed: dict[tuple[Spec, float], tuple[float, float, float] | None] = {}

    def rate_per_hour(self, candidate: Candidate, *, refund: bool | None = None) -> float | None:
        """Interruptions per node-hour at which expected spot cost equals on-demand cost.

        `refund` replaces the scenario's first-hour refund.  None where no on-demand price is known, where the
        lifetime cannot be scaled, or where spot stays cheaper at every rate at which the job takes less than
        `LONGEST` times its work (with the refund it may).
        """
        base = float(candidate.completed["market.rate_per_hour"])
        target = candidate.on_demand.cost_usd
        if target is None or base <= 0.0:
            return None
        spec = dataclasses.replace(
            candidate.spec,
            price=PriceSeries.constant(1.0),
            on_demand_usd_per_hour=0.0,
            first_hour_refund=candidate.spec.first_hour_refund if refund is None else refund,
        )
        if at_rate(spec.lifetime, base, 2.0 * base) is None:
            return None
        price = candidate.spot_usd_per_hour
        extras = Extras.of(candidate.completed)

        def excess(index: int) -> float | None:
            found = self._at(spec, base, index)
            if found is None:
                return None
            billed, makespan, storage = found
            node_hour = price + extras.disk_usd_per_node_hour
            return (
                node_hour * billed + extras.rendezvous_usd_per_hour * makespan + extras.transfer_usd + storage - target
            )

        here = excess(0)
        if here is None:
            return None
        step = 4 if here < 0.0 else -4
        inside, outside = 0, 0
        for _ in range(_MOST_DOUBLINGS):
            outside = inside + step
            value = excess(outside)
            if value is None:  # too slow there, but the crossing may lie before it
                if abs(step) == 1:
                    break
                step //= 2  # (±4, ±2, ±1)
                continue
            if (value < 0.0) != (here < 0.0):
                return self._cross(base, inside, outside, excess)
            inside = outside
        return None

    def _cross(self, base: float, inside: int, outside: int, excess: object) -> float | None:
        assert callable(excess)
        low, high = min(inside, outside), max(inside, outside)
        while high - low > 1:
            middle = (low + high) // 2
            value = excess(middle)
            if value is None or value >= 0.0:
                high = middle
            else:
                low = middle
        below, above = excess(low), excess(high)
        if below is None or above is None:
            return None
        share = 0.0 if above == below else -below / (above - below)
        return base * float(GRID ** (low + min(max(share, 0.0), 1.0)))

    def _at(self, spec: Spec, base: float, index: int) -> tuple[float, float, float] | None:
        """Means of billed node-hours, makespan and storage USD at rate base·GRID^index; None: too slow."""
        rate = base * GRID**index
        key = (spec, rate)
        if key not in self._billed:
            self._billed[key] = self._simulate(spec, base, rate)
        return self._billed[key]

    @staticmethod
    def _simulate(spec: Spec, base: float, rate: float) -> tuple[float, float, float] | None:
        lifetime = at_rate(spec.lifetime, base, rate)
        assert lifetime is not None
        best: tuple[float, float, float] | None = None
        count = min(MOST_RUNS, max(FEWEST_RUNS, round(INTERRUPTIONS / (1.0 + rate * spec.work_hours * spec.nodes))))
        for factor in (1.0, 0.5, 2.0):
            interval = min(spec.interval_hours * factor * math.sqrt(base / rate), spec.work_hours)
            trial = with_lifetime(spec, lifetime, interval_hours=interval)
            try:
                # One run first: at rates where next to nothing gets done, each takes as long as all others together.
                pilot = simulate(trial, runs=1, seed=0)
                if float(pilot.makespan_hours[0]) > _HOPELESS * LONGEST * spec.work_hours:
                    if factor == 1.0:
                        return None
                    continue
                runs = simulate(trial, runs=count, seed=0)
            except InvalidInputError:  # a job that cannot finish at this rate
                continue
            if runs.makespan_hours.mean() > LONGEST * spec.work_hours:
                continue
            found = tuple(float(v.mean()) for v in (runs.billed_hours, runs.makespan_hours, runs.storage_usd))
            if best is None or found[0] < best[0]:
                best = found[0], found[1], found[2]
        return best
