"""The kernels of `simulator.lifetimes.kernels`, compiled: the same source, so that engines cannot drift apart.

Only compiled code calls these; importing this module imports numba.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from simulator.lifetimes import kernels

_compile = numba.njit(error_model="numpy", nogil=True)

exponential_inverse = _compile(kernels.exponential_inverse)
weibull_inverse = _compile(kernels.weibull_inverse)
bathtub_inverse = _compile(kernels.bathtub_inverse)
empirical_inverse = _compile(kernels.empirical_inverse)
trace_wait = _compile(kernels.trace_wait)
trace_lifetime = _compile(kernels.trace_lifetime)
constant_wait = _compile(kernels.constant_wait)
exponential_wait = _compile(kernels.exponential_wait)
empirical_wait = _compile(kernels.empirical_wait)

_EXPONENTIAL, _WEIBULL, _BATHTUB, _EMPIRICAL = (
    kernels.EXPONENTIAL,
    kernels.WEIBULL,
    kernels.BATHTUB,
    kernels.EMPIRICAL,
)
_CONSTANT_WAIT, _EXPONENTIAL_WAIT = kernels.PROVISION_CONSTANT, kernels.PROVISION_EXPONENTIAL


def _lifetime_inverse(kind: int, params: NDArray[np.float64], h: float) -> float:
    """Lifetime with cumulative hazard `h` for a packed lifetime (not for TRACE: that one needs the time of day)."""
    if kind == _EXPONENTIAL:
        return exponential_inverse(h, params[0])
    if kind == _WEIBULL:
        return weibull_inverse(h, params[0], params[1])
    if kind == _BATHTUB:
        return bathtub_inverse(h, params[0], params[1], params[2], params[3], params[4], params[5])
    if kind == _EMPIRICAL:
        return empirical_inverse(h, params)
    return math.nan


def _provision_wait(kind: int, params: NDArray[np.float64], u: float) -> float:
    """The wait that `u` in (0, 1) stands for, for a packed provision."""
    if kind == _CONSTANT_WAIT:
        return constant_wait(u, params[0])
    if kind == _EXPONENTIAL_WAIT:
        return exponential_wait(u, params[0])
    return empirical_wait(u, params)


lifetime_inverse = _compile(_lifetime_inverse)
provision_wait = _compile(_provision_wait)
