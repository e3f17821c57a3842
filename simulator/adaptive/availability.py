"""What the policy believes about the spot market: a two-state process whose rates depend on how old a state is.

Hazards fall with age in every trace we know (a spot market that has been there for hours tends to stay, one that has
just come back is often gone again), so one rate per direction is not enough; a second age class gains most of what
there is to gain, more classes gained nothing on the zones that this was tuned on.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

UP_YOUNG, UP_OLD, DOWN_YOUNG, DOWN_OLD = 0, 1, 2, 3
STATES = 4

YOUNG_HOURS = 0.75
"""Age at which a state turns from young to old."""

PRIOR_RATE_PER_HOUR = (1.2, 0.15, 1.2, 0.2)
"""Rate of leaving each state before anything has been seen: pooled over five of the nine AWS V100 zones of
February-March 2023 (first half of the traces; 1.20, 0.147, 1.21 and 0.207 per hour, rounded)."""

PRIOR_HOURS = 10.0
"""Hours of observation that the prior is worth, per state (Gamma prior with shape rate·hours)."""

_compile = numba.njit(nogil=True, error_model="numpy")


def _state_of(available: bool, age_hours: float) -> int:
    """The state of a market that has been available (or not) for `age_hours`."""
    old = age_hours >= YOUNG_HOURS - 1e-9
    if available:
        return UP_OLD if old else UP_YOUNG
    return DOWN_OLD if old else DOWN_YOUNG


def _observe(
    changes: NDArray[np.float64],
    exposure_hours: NDArray[np.float64],
    was_available: bool,
    age_hours: float,
    hours: float,
    available: bool,
) -> float:
    """Count `hours` that passed in a state, and whether it ended; returns the age of the state that holds now.

    changes, exposure_hours: shape (STATES,), updated in place.
    was_available, age_hours: the market before, and for how long it had been so.
    available: the market now.
    """
    state = state_of(was_available, age_hours)
    exposure_hours[state] += hours
    if available == was_available:
        return age_hours + hours
    changes[state] += 1.0
    return 0.0


def _rates_per_hour(
    changes: NDArray[np.float64], exposure_hours: NDArray[np.float64], rates: NDArray[np.float64]
) -> None:
    """Posterior means of the rates of leaving each state, into `rates` (shape (STATES,)).

    Gamma prior, Poisson counts: (prior events + events) / (prior hours + hours).
    """
    for state in range(STATES):
        seen = PRIOR_RATE_PER_HOUR[state] * PRIOR_HOURS + changes[state]
        rates[state] = seen / (PRIOR_HOURS + exposure_hours[state])


state_of: Any = _compile(_state_of)
observe: Any = _compile(_observe)
rates_per_hour: Any = _compile(_rates_per_hour)
