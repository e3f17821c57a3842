"""What befalls a node, compiled: when it is answered, how long it lives, and what an hour costs by then.

The formulas are `simulator.lifetimes.kernels`, compiled unchanged; only what the engine adds to them is here.
"""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

import numba
import numpy as np

from simulator.lifetimes import compiled
from simulator.lifetimes.kernels import EXPONENTIAL, PROVISION_CONSTANT, TRACE

_inverse = compiled.lifetime_inverse
_wait = compiled.provision_wait
_trace_wait = compiled.trace_wait
_trace_lifetime = compiled.trace_lifetime


@numba.njit(forceinline=True, error_model="numpy")
def wait_hours(provision_kind, provision, u, lifetime_kind, lifetime, asked):
    """From the request to the node's arrival; in a trace it also waits for capacity from then on.

    `asked` is the moment of the request on the trace's own clock.
    """
    wait = provision[0] if provision_kind == PROVISION_CONSTANT else _wait(provision_kind, provision, u)
    if lifetime_kind == TRACE:
        wait += _trace_wait(asked + wait, lifetime)
    return wait


@numba.njit(forceinline=True, error_model="numpy")
def lifetime_hours(kind, packed, hazard, arrived):
    """The age at which the cumulative hazard reaches `hazard`; in a trace, the time to its next loss."""
    if kind == EXPONENTIAL:
        return hazard / packed[0] if packed[0] > 0.0 else math.inf
    if kind == TRACE:
        return _trace_lifetime(arrived, packed)
    return _inverse(kind, packed, hazard)


@numba.njit(forceinline=True, error_model="numpy")
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
