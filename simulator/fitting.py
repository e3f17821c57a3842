"""Lifetime distributions fitted by maximum likelihood under right censoring and left truncation, compared by AIC.

The likelihood of a life that entered at age e and left at age t is f(t)/S(e) if its reclaim was seen, S(t)/S(e) if it
was censored: log L = Σ [observed·log h(t) − H(t) + H(e)].  Standard errors come from the observed information, the
negative Hessian of log L at the maximum, differentiated numerically (Klein & Moeschberger 2003, chapter 12).

A platform cap is no property of the market: with `cap_hours` every life that reached it counts as censored there, for
all distributions alike, so that their AIC stay comparable; only the bathtub then carries the cap along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from harness.errors import InvalidInputError
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull, kernels
from simulator.traces import Observations

Vector = NDArray[np.float64]

_SEARCHES = 3  # from the most promising starting points


@dataclass(frozen=True, slots=True)
class Fit:
    """One distribution at its maximum likelihood."""

    distribution: str
    lifetime: Lifetime
    parameters: dict[str, float]
    """By the names of the scenario's `market.lifetime`."""
    standard_errors: dict[str, float | None]
    """None where the likelihood is too flat to tell (the information matrix is not positive definite)."""
    log_likelihood: float
    events: int
    exposure_hours: float
    notes: tuple[str, ...] = ()

    @property
    def aic(self) -> float:
        """Akaike's information criterion 2k − 2·log L: the lower the better; differences below 2 say little."""
        return 2.0 * len(self.parameters) - 2.0 * self.log_likelihood


@dataclass(frozen=True, slots=True)
class Comparison:
    """All fits, best first, and what could not be fitted and why."""

    fits: tuple[Fit, ...]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Fit:
        """Lowest AIC."""
        return self.fits[0]

    @property
    def preferred(self) -> Fit:
        """The fit with the fewest parameters among those within 2 of the lowest AIC, which data cannot tell apart."""
        close = [fit for fit in self.fits if fit.aic - self.best.aic <= 2.0]
        return min(close, key=lambda fit: len(fit.parameters))


_NARROWEST_RISE = 0.02
"""Least τ₂ over the longest life: below, the likelihood grows without bound as a spike on that one life, as it does
for any mixture of densities whose width is free."""


class _CannotFitError(Exception):
    """The data do not determine this distribution."""


def compare(observations: Observations, *, cap_hours: float | None = None) -> Comparison:
    """Fit exponential, Weibull and bathtub; `cap_hours` is the platform's age limit, if it has one.

    InvalidInputError when the cap leaves no observation.
    """
    seen = _below_cap(observations, cap_hours)
    fits: list[Fit] = []
    failures: dict[str, str] = {}
    attempts: list[tuple[str, Callable[[], Fit]]] = [
        ("exponential", lambda: _exponential(seen)),
        ("weibull", lambda: _weibull(seen)),
        ("bathtub", lambda: _bathtub(seen, cap_hours)),
    ]
    for name, attempt in attempts:
        try:
            fits.append(attempt())
        except _CannotFitError as reason:
            failures[name] = str(reason)
    return Comparison(tuple(sorted(fits, key=lambda fit: fit.aic)), failures)


def fit_exponential(observations: Observations) -> Fit:
    """Rate = reclaims / node-hours, standard error √reclaims / node-hours.

    Without any reclaim the rate is that of the posterior under Jeffreys' prior, ½ / node-hours (MODEL.md,
    "Uncertainty"), because a rate of 0 would claim that reclaims cannot happen.
    """
    return _exponential(observations)


def fit_weibull(observations: Observations) -> Fit:
    """Shape and scale; InvalidInputError when fewer than two distinct ages of reclaims were seen."""
    return _public(_weibull, observations)


def fit_bathtub(observations: Observations, *, cap_hours: float | None = None) -> Fit:
    """A, τ₁, b, τ₂; InvalidInputError when fewer than eight reclaims were seen."""
    return _public(lambda seen: _bathtub(seen, cap_hours), _below_cap(observations, cap_hours))


def _public(fit: Callable[[Observations], Fit], observations: Observations) -> Fit:
    try:
        return fit(observations)
    except _CannotFitError as reason:
        raise InvalidInputError("lifetimes", f"{observations.events} reclaims", f"enough to fit: {reason}") from None


def _below_cap(observations: Observations, cap_hours: float | None) -> Observations:
    if cap_hours is None:
        return observations
    if not cap_hours > 0.0 or not (observations.entry_hours < cap_hours).any():
        raise InvalidInputError("cap_hours", cap_hours, "an age > 0 below which nodes were observed")
    return observations.capped(cap_hours)


def _exponential(seen: Observations) -> Fit:
    events, exposure = seen.events, seen.exposure_hours
    if events == 0:
        rate = 0.5 / exposure
        notes: tuple[str, ...] = ("no reclaim seen: rate of Jeffreys' prior, 0.5 / node-hours",)
        likelihood = -rate * exposure
    else:
        rate, notes = events / exposure, ()
        likelihood = events * math.log(rate) - events
    error = math.sqrt(events) / exposure if events else None
    parameters = {"rate_per_hour": rate}
    return Fit(
        "exponential",
        Exponential(rate),
        parameters,
        {"rate_per_hour": error},
        likelihood,
        events,
        exposure,
        notes,
    )


def _weibull(seen: Observations) -> Fit:
    ages = np.unique(seen.exit_hours[seen.observed])
    if ages.size < 2:
        raise _CannotFitError("a Weibull needs reclaims at two different ages at least")

    def likelihood(shape: float, scale: float) -> float:
        with np.errstate(all="ignore"):
            at_exit = (seen.exit_hours / scale) ** shape
            at_entry = (seen.entry_hours / scale) ** shape
            log_hazard = math.log(shape / scale) + (shape - 1.0) * np.log(seen.exit_hours[seen.observed] / scale)
            return float(log_hazard.sum() - at_exit.sum() + at_entry.sum())

    starts = [np.array([math.log(k), math.log(1.0 / seen.rate_per_hour)]) for k in (1.0, 0.5)]
    best, value = _maximise(lambda x: likelihood(math.exp(x[0]), math.exp(x[1])), starts)
    shape, scale = math.exp(best[0]), math.exp(best[1])
    errors = _standard_errors(lambda p: likelihood(p[0], p[1]), np.array([shape, scale]))
    return Fit(
        "weibull",
        Weibull(shape, scale),
        {"shape": shape, "scale_hours": scale},
        dict(zip(("shape", "scale_hours"), errors, strict=True)),
        value,
        seen.events,
        seen.exposure_hours,
    )


_BATHTUB = ("a", "tau1_hours", "b_hours", "tau2_hours")


def _bathtub(seen: Observations, cap_hours: float | None) -> Fit:
    if seen.events < 8:
        raise _CannotFitError("a bathtub has four parameters and needs eight reclaims at least")
    exits, entries = seen.exit_hours, seen.entry_hours
    longest = float(exits.max())
    # Who was seen from its start is not conditioned on having outlived F(0), the share that is gone on arrival.
    entries = entries[entries > 0.0]

    def likelihood(a: float, tau1: float, b: float, tau2: float) -> float:
        with np.errstate(all="ignore"):
            times = exits[seen.observed]
            density = a * (np.exp(-times / tau1) / tau1 + np.exp((times - b) / tau2) / tau2)
            ends = exits[~seen.observed]
            left = 1.0 - a * (-np.expm1(-ends / tau1) + np.exp((ends - b) / tau2))
            entered = 1.0 - a * (-np.expm1(-entries / tau1) + np.exp((entries - b) / tau2))
            at_longest = a * (-math.expm1(-longest / tau1) + math.exp(min((longest - b) / tau2, 700.0)))
            # Beyond F = 1 there is nobody: whoever was seen there rules these parameters out.
            if at_longest > 1.0 + 1e-12 or (left <= 0.0).any() or (entered <= 0.0).any():
                return -math.inf
            return float(np.log(density).sum() + np.log(left).sum() - np.log(entered).sum())

    def parameters_at(x: Vector) -> tuple[float, float, float, float]:
        """From logarithms of A, τ₁, τ₂ and of how far beyond the longest life F reaches 1.

        Searched this way the edge (nobody outlives the longest life seen) is no wall across the parameters, at which
        a simplex would stall.
        """
        a, tau1, tau2, beyond = np.exp(x).tolist()
        end = longest + beyond
        left = 1.0 / a - 1.0 + math.exp(-end / tau1)  # e^((end − b)/τ₂)
        return a, tau1, end - tau2 * math.log(left) if left > 0.0 else -1.0, tau2

    def at(x: Vector) -> float:
        point = parameters_at(x)
        narrow = point[3] < _NARROWEST_RISE * longest
        return likelihood(*point) if point[2] >= 0.0 and not narrow else -math.inf

    starts = [
        np.log([share, early * longest, rise * longest, beyond * longest])
        for share in (0.2, 0.4)
        for early in (0.02, 0.1)
        for rise, beyond in ((0.03, 0.01), (0.3, 0.3))
    ]
    best, value = _maximise(at, starts)
    if not math.isfinite(value):
        raise _CannotFitError("no bathtub gives these lives a positive probability")
    point = np.array(parameters_at(best))
    errors = _standard_errors(lambda p: likelihood(*p), point)
    parameters = dict(zip(_BATHTUB, (float(v) for v in point), strict=True))
    notes = []
    if cap_hours is not None:
        notes.append(f"cap_hours {cap_hours:g} was given, not fitted")
    if point[3] <= _NARROWEST_RISE * longest * 1.001:
        notes.append(f"tau2_hours is at its lower bound, {_NARROWEST_RISE:.0%} of the longest life")
    if any(error is None for error in errors):
        at_edge = 1.0 - kernels.bathtub_cdf(longest, *point) < 1e-6
        notes.append(
            "no standard errors, and an AIC that flatters it: the longest life lies where F reaches 1"
            if at_edge
            else "no standard errors: the data do not determine all parameters"
        )
    return Fit(
        "bathtub",
        Bathtub(**parameters, cap_hours=cap_hours),
        parameters,
        dict(zip(_BATHTUB, errors, strict=True)),
        value,
        seen.events,
        seen.exposure_hours,
        tuple(notes),
    )


def _maximise(likelihood: Callable[[Vector], float], starts: list[Vector]) -> tuple[Vector, float]:
    """The best of several Nelder–Mead searches, each restarted until it stands still (robust to the -inf outside)."""
    best, best_value = starts[0], -math.inf

    def loss(x: Vector) -> float:
        value = likelihood(x) if np.abs(x).max() < 50.0 else -math.inf
        return -value if math.isfinite(value) else 1e100

    for start in sorted(starts, key=loss)[:_SEARCHES]:
        x, value = start, loss(start)
        for _ in range(6):
            found = optimize.minimize(
                loss, x, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-8, "maxiter": 1500}
            )
            moved, x, value = value - float(found.fun), found.x, float(found.fun)
            if moved < 1e-7:
                break
        if -value > best_value and value < 1e99:
            best, best_value = x, -value
    return best, best_value


def _standard_errors(likelihood: Callable[[Vector], float], point: Vector) -> list[float | None]:
    """√ of the diagonal of the inverse of −∂² log L, by central differences; None where that is not positive."""
    n = point.size
    steps = 1e-4 * np.abs(point)
    hessian = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            total = 0.0
            for si, sj, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
                moved = point.copy()
                moved[i] += si * steps[i]
                moved[j] += sj * steps[j]
                total += sign * likelihood(moved)
            hessian[i, j] = hessian[j, i] = total / (4.0 * steps[i] * steps[j])
    if not np.isfinite(hessian).all():
        return [None] * n
    # In relative units, so that hours and fractions weigh alike.
    information = -hessian * np.outer(point, point)
    if np.linalg.eigvalsh(information).min() <= 0.0:
        return [None] * n
    variances = np.diag(np.linalg.inv(information)) * point**2
    return [math.sqrt(v) for v in variances]
