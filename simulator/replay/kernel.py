"""The tick loop for the policies that need no memory (`simulator.policies`), compiled.

Per tick of g seconds: decide, pay the whole tick unless waiting, work off the overhead first, then make progress.
The rules' numbers in comments are those of docs/deadline-policy.md.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simulator import policies

DONE_SECONDS = 1e-3
"""A job with less work left than this is done (rule 9)."""

_compile = numba.njit(nogil=True, error_model="numpy")

decide: Any = _compile(policies.decide)
overhead_after: Any = _compile(policies.overhead_after)

_NONE, _ON_DEMAND = policies.NONE, policies.ON_DEMAND


def _run_window(
    policy: int,
    available: NDArray[np.bool_],
    charged_usd_per_hour: NDArray[np.float64],
    on_demand_usd_per_hour: float,
    work: float,
    deadline: float,
    restart: float,
    tick: float,
    plan: NDArray[np.int8],
) -> tuple[float, float, int]:
    """Run one window.  Durations in seconds; arrays of shape (ticks,); `plan` receives the choice of each tick.

    Returns the cost in USD, the second at which the last piece of work was done (NaN: not within the window) and the
    number of ticks until then.
    """
    done = 0.0
    overhead = 0.0
    current = _NONE
    cost = 0.0
    for k in range(available.shape[0]):
        spot = available[k]
        choice = decide(policy, k * tick, done, overhead, current, spot, work, deadline, restart, tick)
        overhead = overhead_after(choice, current, spot, overhead, restart)
        plan[k] = choice
        current = choice
        if choice == _NONE:
            continue
        progress = min(max(tick - overhead, 0.0), work - done)  # rule 7
        finish = k * tick + overhead + progress
        done += progress
        overhead = max(overhead - tick, 0.0)
        price = on_demand_usd_per_hour if choice == _ON_DEMAND else charged_usd_per_hour[k]
        cost += price * (tick / 3600.0)  # rule 8: whole ticks
        if work - done <= DONE_SECONDS:
            return cost, finish, k + 1
    return cost, math.nan, available.shape[0]


run_window: Any = _compile(_run_window)
