"""The tick loops, compiled: one for the policies without memory, one for the adaptive policy.

Two entry points, so that the plain policies do not wait for the adaptive one's compilation.  Durations in seconds.
The rules' numbers in comments are those of docs/deadline-policy.md.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simulator import policies
from simulator.adaptive import decide_adaptive, new_memory
from simulator.engine.compiled import kernel
from simulator.policies import NONE, ON_DEMAND

DONE_SECONDS = 1e-3
"""A job with no more than this much work left is done (rule 9)."""

_compile = numba.njit(nogil=True, error_model="numpy")

decide: Any = _compile(policies.decide)
overhead_after: Any = _compile(policies.overhead_after)


def _advance(
    choice: int, current: int, spot: bool, overhead: float, done: float, work: float, restart: float, tick: float
) -> tuple[float, float, float]:
    """One tick on `choice` (not waiting): work done and overhead left after it, and when in the tick work stopped."""
    owed = overhead_after(choice, current, spot, overhead, restart)  # rule 6
    progress = min(max(tick - owed, 0.0), work - done)  # rule 7
    return done + progress, max(owed - tick, 0.0), owed + progress


advance: Any = _compile(_advance)


def _run_plain(
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
    """Run one window under a policy of `simulator.policies`.

    Arrays of shape (ticks,); `charged` is what spot costs in that tick; `plan` receives the choice of each tick.

    Returns the cost in USD, the second at which the last piece of work was done (NaN: not within the window) and the
    number of ticks until then.
    """
    done, overhead, cost, current = 0.0, 0.0, 0.0, NONE
    for k in range(available.shape[0]):
        spot = available[k]
        choice = decide(policy, k * tick, done, overhead, current, spot, work, deadline, restart, tick)
        plan[k] = choice
        if choice != NONE:
            done, overhead, stopped = advance(choice, current, spot, overhead, done, work, restart, tick)
            price = on_demand_usd_per_hour if choice == ON_DEMAND else charged_usd_per_hour[k]
            cost += price * (tick / 3600.0)  # rule 8: whole ticks
            if work - done <= DONE_SECONDS:
                return cost, k * tick + stopped, k + 1
        current = choice
    return cost, math.nan, available.shape[0]


def _run_adaptive(
    table: NDArray[np.float64],
    available: NDArray[np.bool_],
    quoted_usd_per_hour: NDArray[np.float64],
    charged_usd_per_hour: NDArray[np.float64],
    on_demand_usd_per_hour: float,
    work: float,
    deadline: float,
    restart: float,
    tick: float,
    plan: NDArray[np.int8],
) -> tuple[float, float, int]:
    """Run one window under the adaptive policy; as `run_plain`.

    table:  from `simulator.adaptive.new_table` for this job; used as scratch.
    quoted: the spot price that is known when a tick is decided (`charged` may be the next tick's).
    """
    done, overhead, cost, current = 0.0, 0.0, 0.0, NONE
    memory = new_memory()
    for k in range(available.shape[0]):
        spot = available[k]
        choice = decide_adaptive(
            memory, table, k * tick, done, overhead, current, spot,
            quoted_usd_per_hour[k], on_demand_usd_per_hour, work, deadline, restart, tick,
        )  # fmt: skip
        plan[k] = choice
        if choice != NONE:
            done, overhead, stopped = advance(choice, current, spot, overhead, done, work, restart, tick)
            price = on_demand_usd_per_hour if choice == ON_DEMAND else charged_usd_per_hour[k]
            cost += price * (tick / 3600.0)
            if work - done <= DONE_SECONDS:
                return cost, k * tick + stopped, k + 1
        current = choice
    return cost, math.nan, available.shape[0]


run_plain: Any = kernel("the replay of deadline policies")(_run_plain)
run_adaptive: Any = kernel("the adaptive deadline policy")(_run_adaptive)
