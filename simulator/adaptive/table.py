"""Expected cost to finish, by backward induction over the time that is left.

Hours inside.  Slack s is what would be left over if the rest ran uninterrupted: (R - t) - (C - c).  It only ever
shrinks: waiting an hour costs an hour of it, each start of an instance costs one restart.  So the table is small:
time left in steps of Δ × slack in steps of Δ/2 × market state × what is running.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simulator.adaptive.availability import DOWN_YOUNG, STATES, UP_OLD, UP_YOUNG, YOUNG_HOURS
from simulator.policies import NONE, ON_DEMAND, SPOT

MOST_STEPS = 600
"""Most steps of time in a table; longer deadlines get longer steps."""

SLACK_PER_STEP = 2
"""Steps of slack per step of time."""

_compile = numba.njit(nogil=True, error_model="numpy")


def _step_hours(deadline: float, restart: float, decision: float) -> float:
    """Δ: one restart (the scale on which choices differ), at least a decision interval and R/MOST_STEPS.  All hours."""
    return max(restart, decision, deadline / MOST_STEPS)


step_hours: Any = _compile(_step_hours)


def _new_table(work: float, deadline: float, restart: float, decision: float) -> NDArray[np.float64]:
    """An empty table for a job: shape (steps of time + 1, STATES, 3, steps of slack + 1).  All hours."""
    step = step_hours(deadline, restart, decision)
    times = math.ceil(deadline / step)
    slacks = math.ceil(max(deadline - work, 0.0) / (step / SLACK_PER_STEP)) + 1
    return np.zeros((times + 1, STATES, 3, slacks + 1))


def _transition(state: int, rate: float, step: float) -> tuple[float, float, int, int]:
    """Within one step: probability of ageing, of leaving; the state after each.

    Ageing is given the constant rate 1/YOUNG_HOURS (its mean is right, its spread is not), and at most one thing
    happens per step.
    """
    up = state <= UP_OLD
    young = state in (UP_YOUNG, DOWN_YOUNG)
    ageing = 1.0 / YOUNG_HOURS if young else 0.0
    total = rate + ageing
    moved = 1.0 - math.exp(-total * step)
    share = moved / total if total > 0.0 else 0.0
    return share * ageing, share * rate, state + 1 if young else state, DOWN_YOUNG if up else UP_YOUNG


transition: Any = _compile(_transition)


def _solve(
    table: NDArray[np.float64],
    rates: NDArray[np.float64],
    spot_usd_per_hour: float,
    on_demand_usd_per_hour: float,
    restart: float,
    step: float,
    decision: float,
) -> None:
    """Fill `table` (from `new_table`) with the least expected cost in USD of finishing by the deadline.

    rates: shape (STATES,), per hour.  Prices are taken to stay what they are.  `restart`, `step` (Δ) and `decision`
    (g, the tick) in hours.

    Below 2d + g of slack the safety net leaves on-demand only, unless spot is running.  A start costs a restart of
    slack at once and its price while it lasts; a loss is seen at the end of a step.
    """
    times, slacks = table.shape[0] - 1, table.shape[3] - 1
    grain = step / SLACK_PER_STEP
    below = math.floor(restart / grain)  # a restart in steps of slack: between below and below + 1
    part = restart / grain - below
    net = math.ceil((2.0 * restart + decision) / grain - 1e-9)
    after = np.zeros((STATES, 3, slacks + 1))
    table[0] = 0.0
    for n in range(1, times + 1):
        for state in range(STATES):
            age, leave, older, other = transition(state, rates[state], step)
            for kind in range(3):
                if kind == SPOT and state > UP_OLD:
                    continue
                left_with = NONE if kind == SPOT else kind
                for j in range(slacks + 1):
                    after[state, kind, j] = (
                        (1.0 - age - leave) * table[n - 1, state, kind, j]
                        + age * table[n - 1, older, kind, j]
                        + leave * table[n - 1, other, left_with, j]
                    )
        for state in range(STATES):
            for kind in range(3):
                if kind == SPOT and state > UP_OLD:
                    continue
                for j in range(slacks + 1):
                    work = n * step - j * grain
                    if work <= 0.0:
                        table[n, state, kind, j] = 0.0
                        continue
                    start = 0.0 if kind == ON_DEMAND else restart
                    best = (work + start) * on_demand_usd_per_hour  # on-demand to the end
                    if kind == SPOT or j >= net:
                        last = j - below - 1
                        for choice in (SPOT, ON_DEMAND):
                            if choice == SPOT and state > UP_OLD:
                                continue
                            price = spot_usd_per_hour if choice == SPOT else on_demand_usd_per_hour
                            if choice == kind:
                                cost = price * min(step, work) + after[state, choice, j]
                            elif last >= 0:
                                later = (1.0 - part) * after[state, choice, last + 1] + part * after[
                                    state, choice, last
                                ]
                                cost = price * min(step, work + restart) + later
                            else:
                                continue
                            best = min(best, cost)
                        if j >= SLACK_PER_STEP:
                            best = min(best, after[state, NONE, j - SLACK_PER_STEP])
                    table[n, state, kind, j] = best


def _value(table: NDArray[np.float64], time_steps: float, slack_steps: float, state: int, kind: int) -> float:
    """The table's value between its points, bilinear in time and slack; held at the edges."""
    n = min(max(time_steps, 0.0), float(table.shape[0] - 1))
    j = min(max(slack_steps, 0.0), float(table.shape[3] - 1))
    n0, j0 = int(n), int(j)
    n1, j1 = min(n0 + 1, table.shape[0] - 1), min(j0 + 1, table.shape[3] - 1)
    dn, dj = n - n0, j - j0
    low = (1.0 - dj) * table[n0, state, kind, j0] + dj * table[n0, state, kind, j1]
    high = (1.0 - dj) * table[n1, state, kind, j0] + dj * table[n1, state, kind, j1]
    return float((1.0 - dn) * low + dn * high)


value: Any = _compile(_value)


def _value_after_step(
    table: NDArray[np.float64],
    rates: NDArray[np.float64],
    step: float,
    time_left: float,
    slack: float,
    state: int,
    kind: int,
) -> float:
    """Expected cost after a step in which `kind` runs; `time_left` and `slack` (hours) are those at the step's end."""
    age, leave, older, other = transition(state, rates[state], step)
    n, j = time_left / step, slack / (step / SLACK_PER_STEP)
    left_with = NONE if kind == SPOT else kind
    stay = 1.0 - age - leave
    return float(
        stay * value(table, n, j, state, kind)
        + age * value(table, n, j, older, kind)
        + leave * value(table, n, j, other, left_with)
    )


new_table = _new_table
solve: Any = _compile(_solve)
value_after_step: Any = _compile(_value_after_step)
