"""The scalar mathematics of lifetimes and provision waits: one formula for every engine.

Every function takes and returns plain floats, calls only `math` (and array indexing where it says so) and calls no
other function of this module: the reference engine calls it as it stands, the fast engine compiles it unchanged
(`simulator.lifetimes.compiled`).  Ages and lifetimes in hours; a cumulative hazard has no unit.

Sampling, everywhere: a lifetime is ``inverse(h)`` at h = E = −ln U, E unit exponential.  Correlated loss
(h = E·(1 + (nodes − 1)·bulk)) and an uncertain rate (h = E / factor) only rescale h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def empirical_wait(u: float, params: Sequence[float]) -> float:
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
