"""Lifetimes and provision waits of the scenario as the simulator's distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.errors import InvalidInputError
from planner import scenario as model
from planner.traces.files import load_empirical_lifetime, load_empirical_provision, load_trace_replay
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision, Provision

T = TypeVar("T")


def lifetime_of(given: model.Lifetime, file_field: str, *, nodes: int = 1) -> Lifetime:
    """The simulator's lifetime; `file_field` is what the user calls a file, for messages about it.

    Files are found from the working directory; in a trace, capacity means at least `nodes` nodes.

    An exponential with only events and exposure has the rate (events + ½)/exposure (MODEL.md, "Uncertainty").
    """
    match given:
        case model.ExponentialLifetime(rate_per_hour=float(rate)):
            return Exponential(rate)
        case model.ExponentialLifetime(probability_per_hour=float(probability)):
            return Exponential(-math.log1p(-probability))
        case model.ExponentialLifetime(events=float(events), exposure_hours=float(exposure)):
            return Exponential((events + 0.5) / exposure)
        case model.WeibullLifetime():
            return Weibull(given.shape, given.scale_hours)
        case model.BathtubLifetime():
            cap = math.inf if given.cap_hours is None else given.cap_hours
            return Bathtub(given.a, given.tau1_hours, given.b_hours, given.tau2_hours, cap)
        case model.EmpiricalLifetime():
            return _from_file(load_empirical_lifetime, given.file, file_field)
        case model.TraceLifetime():
            return _from_file(lambda path: load_trace_replay(path, nodes=nodes), given.file, file_field)
    raise AssertionError(given)


def provision_of(given: model.Provision, file_field: str, *, nodes: int = 1) -> Provision:
    """The simulator's provision wait."""
    match given:
        case model.ConstantProvision():
            return ConstantProvision(given.hours)
        case model.ExponentialProvision():
            return ExponentialProvision(given.mean_hours)
        case model.EmpiricalProvision():
            return _from_file(lambda path: load_empirical_provision(path, nodes=nodes), given.file, file_field)
    raise AssertionError(given)


def _from_file(read: Callable[[Path], T], name: str, file_field: str) -> T:
    """What `read` finds in a file; a file that is not there is the field's fault."""
    path = Path(name)
    if not path.is_file():
        raise InvalidInputError(file_field, name, "an existing file")
    return read(path)


def at_rate(lifetime: Lifetime, rate_per_hour: float, wanted_per_hour: float) -> Lifetime | None:
    """`lifetime`, whose long-run rate is `rate_per_hour`, with another long-run rate and the same shape.

    None for distributions that are not scaled (bathtub, measured, replayed).
    """
    if isinstance(lifetime, Exponential):
        return Exponential(wanted_per_hour)
    if isinstance(lifetime, Weibull):
        return Weibull(lifetime.shape, lifetime.scale_hours * rate_per_hour / wanted_per_hour)
    return None
