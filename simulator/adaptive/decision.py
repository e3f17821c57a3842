"""One decision of the adaptive policy: observe, obey the safety net, else choose the least expected cost."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from simulator import policies
from simulator.adaptive.availability import STATES, observe, rates_per_hour, state_of
from simulator.adaptive.table import solve, step_hours, value_after_step
from simulator.policies import FORCED, NONE, ON_DEMAND, SPOT

FEWEST_HOURS_BETWEEN_TABLES = 1.0
"""A new table is made when the market has changed since the last one, at most this often ..."""

MOST_TABLES = 60
"""... and at most about this many times a deadline; without a change, four times as rarely."""

PRICE_MOVE = 0.02
"""A spot price that has moved by this fraction since the last table asks for a new one at once."""

TIE_FRACTION = 1e-9
"""Expected costs that differ by less than this part of the on-demand cost are equal."""

_AVAILABLE, _AGE_HOURS, _OBSERVED_AT, _SOLVED_AT, _SOLVED_PRICE, _NEWS = range(6)
_SCALARS = 6

_compile = numba.njit(nogil=True, error_model="numpy")

forced: Any = _compile(policies.decide)


class Memory(NamedTuple):
    """What the policy has seen of the market in this job; arrays that `decide_adaptive` updates in place."""

    changes: NDArray[np.float64]
    """Shape (STATES,): how often each state ended."""
    exposure_hours: NDArray[np.float64]
    """Shape (STATES,): hours spent in each state."""
    rates: NDArray[np.float64]
    """Shape (STATES,): the rates per hour that the present table was made with."""
    scalars: NDArray[np.float64]
    """The market last time, its age, and when and at which price the table was made."""


def _new_memory() -> Memory:
    """A memory of nothing."""
    scalars = np.zeros(_SCALARS)
    scalars[_OBSERVED_AT] = -1.0
    scalars[_SOLVED_AT] = -math.inf
    return Memory(np.zeros(STATES), np.zeros(STATES), np.zeros(STATES), scalars)


def _watch(memory: Memory, elapsed: float, available: bool) -> None:
    """Take note of the market at `elapsed` seconds.  The first state's age is not known: it counts as new."""
    seen = memory.scalars
    if seen[_OBSERVED_AT] >= 0.0:
        was = seen[_AVAILABLE] > 0.0
        hours = (elapsed - seen[_OBSERVED_AT]) / 3600.0
        seen[_AGE_HOURS] = observe(memory.changes, memory.exposure_hours, was, seen[_AGE_HOURS], hours, available)
        if was != available:
            seen[_NEWS] = 1.0
    seen[_AVAILABLE] = 1.0 if available else 0.0
    seen[_OBSERVED_AT] = elapsed


watch: Any = _compile(_watch)


def _table_is_old(memory: Memory, elapsed: float, spot_usd_per_hour: float, deadline: float) -> bool:
    """Whether the table should be made anew (see the module's constants)."""
    seen = memory.scalars
    pause = max(FEWEST_HOURS_BETWEEN_TABLES * 3600.0, deadline / MOST_TABLES)
    since = elapsed - seen[_SOLVED_AT]
    moved = abs(spot_usd_per_hour - seen[_SOLVED_PRICE]) > PRICE_MOVE * seen[_SOLVED_PRICE]
    return bool(since >= 4.0 * pause or moved or (since >= pause and seen[_NEWS] > 0.0))


table_is_old: Any = _compile(_table_is_old)


def _decide_adaptive(
    memory: Memory,
    table: NDArray[np.float64],
    elapsed: float,
    done: float,
    overhead_left: float,
    current: int,
    spot_available: bool,
    spot_usd_per_hour: float,
    on_demand_usd_per_hour: float,
    work: float,
    deadline: float,
    restart: float,
    step: float,
) -> int:
    """What to run until the next decision: NONE, SPOT or ON_DEMAND.

    Durations in seconds, arguments as in `simulator.policies.decide`; prices are those in force now.  `memory` (from
    `new_memory`) and `table` (from `new_table`, in hours, for this job) belong to one run and are updated in place.
    """
    watch(memory, elapsed, spot_available)
    net = forced(FORCED, elapsed, done, overhead_left, current, spot_available, work, deadline, restart, step)
    if net != NONE:
        return int(net)

    start, big_step = restart / 3600.0, step_hours(deadline / 3600.0, restart / 3600.0, step / 3600.0)
    if table_is_old(memory, elapsed, spot_usd_per_hour, deadline):
        rates_per_hour(memory.changes, memory.exposure_hours, memory.rates)
        solve(table, memory.rates, spot_usd_per_hour, on_demand_usd_per_hour, start, big_step, step / 3600.0)
        memory.scalars[_SOLVED_AT] = elapsed
        memory.scalars[_SOLVED_PRICE] = spot_usd_per_hour
        memory.scalars[_NEWS] = 0.0

    running = NONE if current == SPOT and not spot_available else current
    state = state_of(spot_available, memory.scalars[_AGE_HOURS])
    remaining = (work - done) / 3600.0
    left = (deadline - elapsed) / 3600.0
    slack = left - remaining
    best, least = ON_DEMAND, math.inf
    for turn in range(3):
        # What is running comes first and waiting last: a change, and a later finish, must save something.
        if turn == 2:
            choice = NONE
        elif running == ON_DEMAND:
            choice = ON_DEMAND if turn == 0 else SPOT
        else:
            choice = SPOT if turn == 0 else ON_DEMAND
        if choice == SPOT and not spot_available:
            continue
        if choice == NONE:
            cost = 0.0
            rest = slack - big_step
            if rest < start:
                continue
        else:
            overhead = overhead_left / 3600.0 if choice == running else start
            price = spot_usd_per_hour if choice == SPOT else on_demand_usd_per_hour
            cost = price * min(big_step, remaining + overhead)
            rest = slack - overhead
        cost += value_after_step(table, memory.rates, big_step, left - big_step, rest, state, choice)
        if cost < least - TIE_FRACTION * remaining * on_demand_usd_per_hour:
            best, least = choice, cost
    return best


new_memory: Any = _compile(_new_memory)
decide_adaptive: Any = _compile(_decide_adaptive)
