"""What a job could have cost had the future been known: the floor under every deadline policy, for comparison only."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simulator.replay import Job, Market


def known_future_cost_usd(market: Market, job: Job) -> float:
    """Least cost of finishing by the deadline on this market, from its first tick, by backward induction.

    Exact on a grid of slack whose step divides tick, restart and total slack (whole seconds), but for one thing: a
    start owes its whole restart at once, also when it is given up before it is through, which no best plan does.
    """
    durations = [round(value) for value in (market.tick_seconds, job.restart_seconds)]
    total = round(job.deadline_seconds - job.work_seconds)
    grain = math.gcd(*durations, total)
    ticks = math.floor(job.deadline_seconds / market.tick_seconds)
    return float(
        _induct(
            market.available[:ticks],
            market.spot_usd_per_hour[:ticks],
            job.on_demand_usd_per_hour,
            job.deadline_seconds,
            market.tick_seconds,
            total,
            grain,
            durations[1] // grain,
            durations[0] // grain,
        )
    )


def _induct_plain(
    available: NDArray[np.bool_],
    spot: NDArray[np.float64],
    on_demand: float,
    deadline: float,
    tick: float,
    total: int,
    grain: int,
    restart_steps: int,
    tick_steps: int,
) -> float:
    # later[kind, j]: cost from the next tick on, with j·grain seconds of slack; kinds as in simulator.policies.
    steps = total // grain + 1
    ticks = available.shape[0]
    later = np.full((3, steps), np.inf)
    for j in range(steps):
        if (deadline - ticks * tick) - j * grain <= 1e-3:
            later[:, j] = 0.0
    here = np.empty((3, steps))
    for k in range(ticks - 1, -1, -1):
        for kind in range(3):
            for j in range(steps):
                if (deadline - k * tick) - j * grain <= 1e-3:
                    here[kind, j] = 0.0
                    continue
                best = later[0, j - tick_steps] if j >= tick_steps else np.inf
                for choice in range(1, 3):
                    if choice == 1 and not available[k]:
                        continue
                    # An instance of spot that runs into a tick without spot is gone.
                    rest = j if choice == kind else j - restart_steps
                    if rest >= 0:
                        price = spot[k] if choice == 1 else on_demand
                        best = min(best, price * tick / 3600.0 + later[choice, rest])
                here[kind, j] = best
        later[:] = here
    return later[0, steps - 1]  # type: ignore[no-any-return]


_induct: Any = numba.njit(_induct_plain)
