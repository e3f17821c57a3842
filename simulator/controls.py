"""Variance reduction: the same fates met by a job whose expectation is known exactly (control variates).

A run's cost is high when its nodes happened to die early.  How early they died, on average over the sample, can be
told without error from a simpler job that is given the same unit exponentials: one node, exponential lifetimes,
synchronous checkpoints, for which `simulator.exact` knows the expected makespan and number of interruptions.  With
controls C of known expectation c, the estimate of E[Y] is the intercept of the regression of Y on C − c, and its
standard error that of the residuals: smaller by √(1 − R²), and never larger but for the degrees of freedom.

Source: S. S. Lavenberg and P. D. Welch, A perspective on the use of control variables to increase the efficiency of
Monte Carlo simulations, Management Science 27(3), 1981.  `python -m benchmarks simulator` shows what it buys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.draws import STREAM_RUN, uniforms_array
from simulator.exact import expected_totals
from simulator.lifetimes import Exponential, TraceReplay
from simulator.provision import ConstantProvision
from simulator.runs import Runs
from simulator.spec import PriceSeries, Spec
from simulator.statistics import mean_and_error
from simulator.uncertainty import hazard_factors

_FEWEST_RUNS = 200
"""Below this the regression's own error is not negligible: the plain mean is used."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its Monte Carlo standard error."""

    mean: float
    standard_error: float
    variance_ratio: float
    """Variance of the plain mean over this one's: how many times fewer runs give the same error."""


class Controls:
    """Controls of one set of runs; `estimate` works without any, too."""

    def __init__(self, deviations: Floats | None) -> None:
        """`deviations`: controls minus their exact expectations, shape (runs, controls)."""
        self._basis: Floats | None = None
        self._deviations = deviations
        if deviations is not None and deviations.shape[0] >= _FEWEST_RUNS and deviations.shape[1] > 0:
            design = np.column_stack([np.ones(deviations.shape[0]), deviations])
            # (XᵀX)⁻¹: 4 × 4 at most; a control that repeats another is dropped by the pseudo-inverse.
            self._inverse = np.linalg.pinv(design.T @ design)
            self._basis = design

    def estimate(self, values: Floats) -> Estimate:
        """The mean of `values`, which must come from the same runs."""
        mean, error = mean_and_error(values)
        if self._basis is None or error == 0.0:
            return Estimate(mean, error, 1.0)
        # Centred, so that differences of nearly equal costs do not lose digits.
        coefficients = self._inverse @ (self._basis.T @ (values - mean))
        residuals = (values - mean) - self._basis @ coefficients
        freedom = values.size - self._basis.shape[1]
        # Var of the intercept: residual variance × its entry of (XᵀX)⁻¹, which exceeds 1/n by the controls' own luck.
        adjusted = math.sqrt(float(residuals @ residuals) / freedom * float(self._inverse[0, 0]))
        if adjusted >= error:
            return Estimate(mean, error, 1.0)
        ratio = (error / adjusted) ** 2 if adjusted > 0.0 else math.inf
        return Estimate(mean + float(coefficients[0]), adjusted, ratio)


def control_spec(spec: Spec) -> Spec | None:
    """The job with a known expectation that meets the fates of `spec`; None where there is none worth having."""
    mean = spec.lifetime.mean_hours
    if spec.nodes != 1 or isinstance(spec.lifetime, TraceReplay) or not 0.0 < mean < math.inf:
        return None
    if spec.policy != "spot-only":
        return None
    # Any interval gives a valid control; near the best one the control resembles the job most.
    stall = max(spec.stall_hours, 1e-3)
    return Spec(
        work_hours=spec.work_hours,
        interval_hours=min(math.sqrt(2.0 * stall * mean), spec.work_hours),
        stall_hours=stall,
        startup_hours=spec.startup_hours,
        provision=ConstantProvision(0.0),
        lifetime=Exponential(1.0 / mean),
        price=PriceSeries.constant(0.0),
    )


def controls_for(spec: Spec, seed: int, runs: int, control_runs: Runs | None) -> Controls:
    """Controls of runs 0 … runs − 1 of `spec`; `control_runs` are those of `control_spec(spec)`, same seed and runs."""
    columns: list[Floats] = []
    if control_runs is not None and len(control_runs) >= runs:
        control = control_runs.spec
        lifetime = control.lifetime
        assert isinstance(lifetime, Exponential)
        exact = expected_totals(
            work_hours=control.work_hours,
            interval_hours=control.interval_hours,
            stall_hours=control.stall_hours,
            startup_hours=control.startup_hours,
            rate_per_hour=lifetime.rate_per_hour,
            refund_age_hours=0.0,
        )
        if math.isfinite(exact.makespan_hours):
            columns.append(control_runs.makespan_hours[:runs] - exact.makespan_hours)
            columns.append(control_runs.interruptions[:runs] - exact.interruptions)
    if spec.rate_events is not None and spec.rate_exposure_hours is not None:
        factors = hazard_factors(spec, _rate_uniforms(seed, runs))
        columns.append(factors - _expected_factor(spec))
    return Controls(np.column_stack(columns) if columns else None)


@lru_cache(maxsize=2)
def _rate_uniforms(seed: int, runs: int) -> Floats:
    """Read-only: the same for every candidate of a comparison, which has hundreds."""
    u_rate, _ = uniforms_array(seed, np.arange(runs), 0, 0, STREAM_RUN)
    u_rate.flags.writeable = False
    return u_rate


def _expected_factor(spec: Spec) -> float:
    """E of Gamma(events + ½) / (exposure · point value), see `simulator.uncertainty`."""
    events, exposure = spec.rate_events, spec.rate_exposure_hours
    assert events is not None
    assert exposure is not None
    point = spec.lifetime.rate_per_hour if isinstance(spec.lifetime, Exponential) else events / exposure
    return (events + 0.5) / (exposure * point)
