"""When to save: interval rules and save policies.  Standard library only.

A policy is a pure function of a `SaveContext`; who measures and who acts is somebody else's business.  The simulator
starts its checkpoints where `EveryWorkSeconds` says so, held to it by tests/simulator/test_saves_as_planned.py.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Protocol

FIFTEEN_MINUTES_SECONDS = 900.0


def young_interval_seconds(stall_seconds: float, mtbf_seconds: float) -> float:
    """Young's first-order optimum √(2·δ·M).

    Source: J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974.
    """
    _check_rule_inputs(stall_seconds, mtbf_seconds)
    return math.sqrt(2.0 * stall_seconds * mtbf_seconds)


def daly_interval_seconds(stall_seconds: float, mtbf_seconds: float) -> float:
    """Daly's higher-order optimum; M itself once the stall reaches 2·M.

    √(2δM)·(1 + ⅓√(δ/2M) + ⅑·δ/2M) − δ.
    Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps,
    Future Generation Computer Systems 22(3), 2006, equation 37.
    """
    _check_rule_inputs(stall_seconds, mtbf_seconds)
    if stall_seconds >= 2.0 * mtbf_seconds:
        return mtbf_seconds
    ratio = stall_seconds / (2.0 * mtbf_seconds)
    root = math.sqrt(ratio)
    return math.sqrt(2.0 * stall_seconds * mtbf_seconds) * (1.0 + root / 3.0 + ratio / 9.0) - stall_seconds


def exact_exponential_interval_seconds(stall_seconds: float, mtbf_seconds: float) -> float:
    """The τ that minimises (e^((τ+δ)/M) − 1)/τ: exact for exponential lifetimes and synchronous saves.

    τ = M·(1 + W₀(−e^(−δ/M − 1))), W₀ the principal branch of Lambert's W.
    Source: Daly 2006, equation 12 set to zero derivative; solved here for x = τ/M from (1 − x)·e^x = e^(−δ/M).
    """
    _check_rule_inputs(stall_seconds, mtbf_seconds)
    # g(x) = x + log1p(-x) + δ/M is 0 at the optimum and strictly decreasing on (0, 1): bisection cannot fail,
    # also where -e^(-δ/M-1) rounds to -1/e and a Newton step on W would divide by zero.
    offset = stall_seconds / mtbf_seconds
    if offset == 0.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _x_plus_log1p_minus_x(middle) + offset > 0.0:
            low = middle
        else:
            high = middle
    return mtbf_seconds * 0.5 * (low + high)


def _x_plus_log1p_minus_x(x: float) -> float:
    """x + log(1 − x) without cancellation for small x."""
    if x < 1e-4:
        return -x * x * (0.5 + x * (1.0 / 3.0 + x * 0.25))
    return x + math.log1p(-x)


def interval_steps(interval_seconds: float, step_seconds: float) -> int:
    """How many whole steps fit an interval of work: at least 1, rounded to nearest."""
    if not (interval_seconds > 0.0 and step_seconds > 0.0):
        raise ValueError("interval and step time must be positive")
    return max(1, round(interval_seconds / step_seconds))


def _check_rule_inputs(stall_seconds: float, mtbf_seconds: float) -> None:
    if not (math.isfinite(stall_seconds) and stall_seconds >= 0.0):
        raise ValueError(f"stall_seconds must be finite and >= 0, got {stall_seconds}")
    if not mtbf_seconds > 0.0:
        raise ValueError(f"mtbf_seconds must be > 0, got {mtbf_seconds}")


@dataclass(frozen=True, slots=True)
class SaveContext:
    """What a policy may look at, at the boundary after `step`."""

    step: int
    work_seconds: float
    """Useful training time so far in this run's history."""
    last_save_step: int
    last_save_work_seconds: float
    notice_active: bool = False
    node_age_seconds: float = 0.0
    hazard_per_hour: float = 0.0
    """Of the whole fleet at this moment: the sum over its nodes.  0: not known."""


class SavePolicy(Protocol):
    """Decides whether to start a checkpoint now."""

    def should_save(self, context: SaveContext) -> bool:
        """True when a checkpoint is due at this step boundary."""


@dataclass(frozen=True, slots=True)
class EverySteps:
    """Save when `steps` steps have passed since the last save."""

    steps: int

    def should_save(self, context: SaveContext) -> bool:
        return context.step - context.last_save_step >= self.steps


@dataclass(frozen=True, slots=True)
class EveryWorkSeconds:
    """Save when `seconds` of useful work have passed since the last save's start."""

    seconds: float

    def should_save(self, context: SaveContext) -> bool:
        return context.work_seconds - context.last_save_work_seconds >= self.seconds - 1e-6


@dataclass(frozen=True, slots=True)
class OnNotice:
    """Save as soon as a notice is active."""

    def should_save(self, context: SaveContext) -> bool:
        return context.notice_active


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Save when any of several policies says so."""

    policies: tuple[SavePolicy, ...]

    def should_save(self, context: SaveContext) -> bool:
        return any(policy.should_save(context) for policy in self.policies)


@dataclass(frozen=True, slots=True)
class HazardTable:
    """A node's hazard as a step function of its age: `rates_per_hour[i]` from `ages_hours[i]` on.

    Every lifetime can be tabulated so; the harness needs to know no distribution.  Before the first age: its rate.
    """

    ages_hours: tuple[float, ...]
    rates_per_hour: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.ages_hours or len(self.ages_hours) != len(self.rates_per_hour):
            raise ValueError("a hazard table needs as many rates as ages, and at least one")
        if list(self.ages_hours) != sorted(set(self.ages_hours)):
            raise ValueError("the ages of a hazard table must increase")
        if any(not (math.isfinite(rate) and rate >= 0.0) for rate in self.rates_per_hour):
            raise ValueError("the rates of a hazard table must be finite and >= 0")

    def rate_per_hour(self, age_hours: float) -> float:
        """The hazard at `age_hours`."""
        return self.rates_per_hour[max(0, bisect.bisect_right(self.ages_hours, age_hours) - 1)]


@dataclass(frozen=True, slots=True)
class OnRisk:
    """Save when the work at stake has grown to Young's interval √(2·δ/h) for the fleet's hazard h of this moment.

    With n saves per unit of work, saving costs δ·n and an interruption half an interval, h/(2n): together least at
    n = √(h/2δ), at each age for itself.  For a constant h that is Young's rule.
    Source: Y. Ling, J. Mi, X. Lin, A variational calculus approach to optimal checkpoint placement, IEEE
    Transactions on Computers 50(7), 2001, pages 699-708: the best density is proportional to the square root of the
    failure rate, also where that changes with time.
    """

    stall_seconds: float
    minimum_seconds: float = 0.0
    """Never more often: a save that begins before the last one is durable only waits for it."""

    def should_save(self, context: SaveContext) -> bool:
        at_stake = context.work_seconds - context.last_save_work_seconds
        if context.hazard_per_hour <= 0.0 or at_stake <= 0.0:
            return False
        interval = young_interval_seconds(self.stall_seconds, 3600.0 / context.hazard_per_hour)
        return at_stake >= max(interval, self.minimum_seconds) - 1e-6
