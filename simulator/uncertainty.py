"""How wrong an estimated interruption rate may be: one factor on the cumulative hazard per run.

With `events` interruptions in `exposure` node-hours, the posterior of a rate under Jeffreys' prior is
Gamma(events + ½) / exposure.  Divided by the rate that the lifetime states, it is the factor by which this run's
cumulative hazard is scaled, the same for all nodes (docs/model.md, "Uncertainty").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

from simulator.lifetimes import Exponential
from simulator.spec import Spec


def hazard_factors(spec: Spec, u_rate: ArrayLike) -> NDArray[np.float64]:
    """The factor for each uniform in (0, 1) (`draws.STREAM_RUN`, first uniform); 1 where the rate is certain.

    For an exponential lifetime the point value is its own `rate_per_hour`, so that the scaled rate is the posterior
    whatever the point estimate was; for other shapes it is events / exposure.
    """
    u = np.asarray(u_rate, dtype=np.float64)
    events, exposure = spec.rate_events, spec.rate_exposure_hours
    if events is None or exposure is None:
        return np.ones_like(u)
    point = spec.lifetime.rate_per_hour if isinstance(spec.lifetime, Exponential) else events / exposure
    return np.asarray(gammaincinv(events + 0.5, u) / (exposure * point), dtype=np.float64)


def hazard_factor(spec: Spec, u_rate: float) -> float:
    """`hazard_factors` of one uniform."""
    return float(hazard_factors(spec, u_rate))
