"""Jobs that cannot finish: found from the spec where that is possible, else run by run, never by running for ever.

Both engines use this module, so that they refuse the same jobs with the same words.  Two limits are stated:

- **makespan**: `horizon_hours(spec)`, 100,000 h (eleven years) or a hundred times the work, whichever is more;
- **interruptions**: `MAX_INTERRUPTIONS` reclaim events in one run.

`require_finishable` compares the expected time to the first durable progress with them, before anything is
simulated.  Every run is held to them as well (`Limit`), because not every hopeless job can be told from its spec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

from harness.errors import InvalidInputError
from simulator.lifetimes import Exponential, Lifetime
from simulator.spec import Spec

SHORTEST_HORIZON_HOURS = 100_000.0
HORIZON_WORK_FACTOR = 100.0
MAX_INTERRUPTIONS = 1_000_000


def horizon_hours(spec: Spec) -> float:
    """The longest makespan that a run may have."""
    return max(SHORTEST_HORIZON_HOURS, HORIZON_WORK_FACTOR * spec.work_hours)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a single run is held to."""

    spec: Spec
    hours: float

    @classmethod
    def of(cls, spec: Spec) -> Limit:
        """The limits of a spec."""
        return cls(spec, horizon_hours(spec))

    def check(self, now_hours: float, interruptions: int) -> None:
        """InvalidInputError once a run is past a limit."""
        if now_hours > self.hours or interruptions > MAX_INTERRUPTIONS:
            raise_beyond_horizon(self.spec, now_hours, interruptions)


def raise_beyond_horizon(spec: Spec, now_hours: float, interruptions: int) -> NoReturn:
    """The error for a run that passed a limit; engines that check for themselves end here."""
    raise InvalidInputError(
        "work_hours",
        spec.work_hours,
        f"a job that finishes within {horizon_hours(spec):g} h and {MAX_INTERRUPTIONS} interruptions; a run had not "
        f"after {now_hours:.6g} h and {int(interruptions)} interruptions",
        "save more often, shorten startup and provision waits, use fewer nodes, or a market with fewer reclaims",
    )


def require_finishable(spec: Spec) -> None:
    """InvalidInputError for a job whose expected makespan is infinite or beyond the horizon, when the spec shows it.

    Until progress is first durable, lives repeat: each succeeds with some probability p and costs at least its wait
    and the shorter of its length and what success takes, so E[makespan] >= (E[wait] + E[min(life, need)]) / p.
    Success takes either `need` = startup + min(interval, work) + stall + persist, or an acted-on notice after the
    startup.  Both are bounded from above: the check refuses only what is hopeless.
    """
    if spec.policy != "spot-only":
        return  # on-demand capacity finishes any job
    overhead = spec.startup_hours + spec.stall_hours + spec.persist_hours
    segment = min(spec.interval_hours, spec.work_hours)
    need = overhead + segment
    notice_path = spec.notice_success > 0.0 and spec.emergency_hours <= spec.notice_hours
    until_notice = spec.startup_hours + spec.notice_hours
    longest = spec.lifetime.quantile(1.0)
    if longest < need and not (notice_path and longest > until_notice):
        _refuse(spec, overhead, segment, 0.0, None)
    life = _life_of_the_fleet(spec)
    if life is None:
        return
    p = life.survival(need)
    if notice_path:
        p = min(1.0, p + spec.notice_success * life.survival(until_notice))
    if p == 1.0:
        return
    attempt = spec.provision.expected_hours + _mean_of_minimum(life, need)
    if p * MAX_INTERRUPTIONS < 1.0 or attempt > p * horizon_hours(spec):
        _refuse(spec, overhead, segment, p, life)


def _life_of_the_fleet(spec: Spec) -> Lifetime | None:
    """The time from a startup to the first loss that stops the job, where it has a simple law; else None."""
    if spec.rate_events is not None:
        return None  # some runs have a lower rate
    if spec.nodes == 1:
        return spec.lifetime
    if isinstance(spec.lifetime, Exponential):
        stopping = 1 if spec.is_elastic else spec.nodes
        return Exponential(stopping * spec.lifetime.rate_per_hour / spec.marginal_hazard_divisor)
    return None


def _mean_of_minimum(life: Lifetime, hours: float) -> float:
    """E[min(life, hours)], by integrating the survival function on a grid that is fine where it matters."""
    steps = 200
    width = hours / steps
    return math.fsum(life.survival((i + 0.5) * width) for i in range(steps)) * width


def _refuse(spec: Spec, overhead: float, segment: float, p: float, life: Lifetime | None) -> NoReturn:
    short = (life or spec.lifetime).quantile(0.5) - overhead
    if segment >= overhead:
        field, value = "interval_hours", spec.interval_hours
        hint = f"an interval of {short:.3g} h would be survived every other time" if short > 0.0 else None
    else:
        parts = {name: getattr(spec, name) for name in ("startup_hours", "persist_hours", "stall_hours")}
        field = max(parts, key=lambda name: parts[name])
        value, hint = parts[field], None
    if hint is None:
        hint = "nodes must live longer, or their notices be acted on, or startup and persist be shorter"
    raise InvalidInputError(
        field,
        value,
        f"a job that can finish within {horizon_hours(spec):g} h: a node needs {overhead + segment:.4g} h from its "
        f"arrival to the first durable progress, which happens with probability {p:.2g}",
        hint,
    )
