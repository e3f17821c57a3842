"""What befalls a node, compiled: when it is answered, how long it lives, and what an hour costs by then.

The formulas are `simulator.lifetimes.kernels`, compiled unchanged; only what the engine adds to them is here.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from simulator.engine.compiled import helper, inlined
from simulator.lifetimes import kernels
from simulator.lifetimes.kernels import (
    BATHTUB,
    EXPONENTIAL,
    PROVISION_CONSTANT,
    PROVISION_EXPONENTIAL,
    TRACE,
    WEIBULL,
)

_weibull_inverse = helper(kernels.weibull_inverse)
_bathtub_inverse = helper(kernels.bathtub_inverse)
_empirical_inverse = helper(kernels.empirical_inverse)
trace_wait = helper(kernels.trace_wait)
_trace_lifetime = helper(kernels.trace_lifetime)
_exponential_wait = helper(kernels.exponential_wait)
empirical_wait = helper(kernels.empirical_wait)


@inlined
def wait_hours(provision_kind, provision, u, lifetime_kind, lifetime, asked):
    """From the request to the node's arrival; in a trace it also waits for capacity from then on.

    `asked` is the moment of the request on the trace's own clock.
    """
    if provision_kind == PROVISION_CONSTANT:
        wait = provision[0]
    elif provision_kind == PROVISION_EXPONENTIAL:
        wait = _exponential_wait(u, provision[0])
    else:
        wait = empirical_wait(u, provision)
    if lifetime_kind == TRACE:
        wait += trace_wait(asked + wait, lifetime)
    return wait


@inlined
def lifetime_hours(kind, packed, hazard, arrived):
    """The age at which the cumulative hazard reaches `hazard`; in a trace, the time to its next loss."""
    if kind == EXPONENTIAL:
        return hazard / packed[0] if packed[0] > 0.0 else math.inf
    if kind == TRACE:
        return _trace_lifetime(arrived, packed)
    if kind == WEIBULL:
        return _weibull_inverse(hazard, packed[0], packed[1])
    if kind == BATHTUB:
        return _bathtub_inverse(hazard, packed[0], packed[1], packed[2], packed[3], packed[4], packed[5])
    return _empirical_inverse(hazard, packed)


@inlined
def price_integral(hours, starts, values, sums, cells, cells_per_hour):
    """∫₀^hours price dt of a piecewise constant price.

    `sums` is the integral up to each change point.  `cells` cuts the time up to the last change into equal cells and
    holds the piece in force at each one's start, so that the search is one look-up and, as a rule, no step.
    """
    if starts.size == 1:
        return values[0] * hours
    at = cells[np.int64(min(hours * cells_per_hour, cells.size - 1.0))]
    while at + 1 < starts.size and starts[at + 1] <= hours:
        at += 1
    return sums[at] + values[at] * (hours - starts[at])
