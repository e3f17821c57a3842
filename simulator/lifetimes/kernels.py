"""The scalar mathematics of lifetimes and provision waits: one formula for every engine.

Every function takes and returns plain floats, calls only `math` (and array indexing where it says so) and calls no
other function of this module: the reference engine calls it as it stands, the fast engine compiles it unchanged
(`simulator.engine.fates`).  Ages and lifetimes in hours; a cumulative hazard has no unit.

Sampling, everywhere: a lifetime is ``inverse(h)`` at h = E = −ln U, E unit exponential.  Correlated loss
(h = E·(1 + (nodes − 1)·bulk)) and an uncertain rate (h = E / factor) only rescale h.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Parameters = Sequence[float] | NDArray[np.float64]

# Which formula a packed lifetime stands for (`Lifetime.packed`); the layout of its parameters is in the class.
EXPONENTIAL = 0
WEIBULL = 1
BATHTUB = 2
EMPIRICAL = 3
TRACE = 4

# The same for a packed provision wait (`Provision.packed`).
PROVISION_CONSTANT = 0
PROVISION_EXPONENTIAL = 1
PROVISION_EMPIRICAL = 2


def exponential_inverse(h: float, rate_per_hour: float) -> float:
    """Lifetime with cumulative hazard `h`: h / rate; never (inf) at rate 0."""
    if rate_per_hour <= 0.0:
        return math.inf
    return h / rate_per_hour


def weibull_inverse(h: float, shape: float, scale_hours: float) -> float:
    """Lifetime with cumulative hazard `h`: scale · h^(1/shape)."""
    if h <= 0.0:
        return 0.0
    if h == math.inf or scale_hours == math.inf:
        return math.inf
    # Python raises where C returns infinity: e^700 is "never" at any scale.
    return scale_hours * math.exp(min(math.log(h) / shape, 700.0))


def constant_wait(u: float, hours: float) -> float:  # noqa: ARG001  one signature for all waits
    """A wait that is always the same."""
    return hours


def exponential_wait(u: float, mean_hours: float) -> float:
    """The wait that a uniform `u` in (0, 1) stands for: −mean · ln u."""
    return -mean_hours * math.log(u)


def empirical_wait(u: float, params: Parameters) -> float:
    """The wait that `u` in (0, 1) stands for: the first of n waits whose cumulative probability reaches `u`.

    params: [n, wait_0 … wait_(n−1), P(wait <= wait_0) … P(wait <= wait_(n−1)) = 1].
    """
    n = int(params[0])
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        if params[1 + n + middle] >= u:
            high = middle
        else:
            low = middle + 1
    return params[1 + low]


def bathtub_cdf(t: float, a: float, tau1_hours: float, b_hours: float, tau2_hours: float) -> float:
    """F(t) = A·(1 − e^(−t/τ₁) + e^((t−b)/τ₂)), not clipped.  Source: Kadupitiya et al., HPDC 2020."""
    return a * (-math.expm1(-t / tau1_hours) + math.exp((t - b_hours) / tau2_hours))


def bathtub_inverse(
    h: float, a: float, tau1_hours: float, b_hours: float, tau2_hours: float, end_hours: float, h_end: float
) -> float:
    """Lifetime with cumulative hazard `h`: the root of F(t) = 1 − e^(−h) on [0, end].

    `end_hours` is the age that nobody outlives (the cap, or where F reaches 1), `h_end` the cumulative hazard just
    below it: whoever would outlive it goes there.  Newton's method inside a bracket, so that it cannot leave it.
    """
    if h >= h_end:
        return end_hours
    p = -math.expm1(-h)
    if p <= a * math.exp(-b_hours / tau2_hours):
        return 0.0  # F(0) > 0: that share is gone on arrival
    # Early losses dominate below A, late ones above: invert the one that dominates as a first guess.
    if p < 0.98 * a:
        t = -tau1_hours * math.log1p(-p / a)
    elif p > 1.02 * a:
        t = b_hours + tau2_hours * math.log(p / a - 1.0)
    else:
        t = 0.5 * end_hours
    low, high = 0.0, end_hours
    for _ in range(200):
        if not low < t < high:
            t = 0.5 * (low + high)
        early = math.exp(-t / tau1_hours)
        late = math.exp((t - b_hours) / tau2_hours)
        excess = a * (1.0 - early + late) - p
        if excess > 0.0:
            high = t
        else:
            low = t
        step = excess / (a * (early / tau1_hours + late / tau2_hours))
        t -= step
        if abs(step) <= 4e-16 * t or high - low <= 4e-16 * high:
            break
    return min(max(t, low), high)


def empirical_inverse(h: float, params: Parameters) -> float:
    """Lifetime with cumulative hazard `h`: the first of n ages at which a step function reaches `h`, then a tail.

    params: [n, tail_start_hours, tail_rate_per_hour, age_0 … age_(n−1), H(age_0) … H(age_(n−1))]; from `tail_start`
    on H grows at `tail_rate`.
    """
    if h <= 0.0:
        return 0.0
    n = int(params[0])
    last = params[2 + 2 * n] if n > 0 else 0.0
    if n == 0 or h > last:
        if params[2] <= 0.0:
            return math.inf
        return params[1] + (h - last) / params[2]
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        if params[3 + n + middle] >= h:
            high = middle
        else:
            low = middle + 1
    return params[3 + low]


def trace_wait(now_hours: float, params: Parameters) -> float:
    """Hours until there is capacity, 0 while there is some; `now_hours` is time since the first request + offset.

    params: [n, period_hours, up_start_0 … up_start_(n−1), up_end_0 … up_end_(n−1)]; only the last interval may end
    beyond the period (it goes on after the wrap).  An interval about to end within a few µs counts as ended: a
    request at the very moment of a loss must not be answered by what is just going, whichever way it was rounded.
    """
    n = int(params[0])
    period = params[1]
    position = now_hours - math.floor(now_hours / period) * period
    margin = 1e-9 + 4e-16 * now_hours
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if params[2 + n + middle] > position + margin:
            high = middle
        else:
            low = middle + 1
    if low == n:
        return period - position + params[2]
    return max(params[2 + low] - position, 0.0)


def trace_lifetime(now_hours: float, params: Parameters) -> float:
    """Hours to the next loss for a node that starts at `now_hours` (as in `trace_wait`, after that wait)."""
    n = int(params[0])
    period = params[1]
    position = now_hours - math.floor(now_hours / period) * period
    margin = 1e-9 + 4e-16 * now_hours
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if params[2 + n + middle] > position + margin:
            high = middle
        else:
            low = middle + 1
    if low == n:
        return period - position + params[2 + n]
    return params[2 + n + low] - position
