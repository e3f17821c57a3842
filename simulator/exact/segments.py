"""One node, exponential lifetimes, synchronous checkpoints: expectations in closed form.

Derivation, from rules 1–5 with persist = 0 (durable when the stall ends) and no notice.  λ is the rate, R the
startup, P the mean provision wait, δ the stall, τ the interval.

*Segments.*  Checkpoints start at progress τ, 2τ, … below `work`, and at `work` itself (the final one).  After a
reclaim the run goes on from the newest durable one, and the interval counts from the restored progress, so the grid
stays.  The run is a chain of segments: n of τ + δ and a last one of (work − n·τ) + δ, n = ⌈work/τ⌉ − 1 (a whole
multiple has no empty last segment: the final checkpoint is the one that would be periodic).  A segment must pass
without a reclaim; one that fails is repeated from its beginning.

*A start.*  From the request to the end of a startup that was not interrupted.  Each try waits P, then passes R with
probability e^(−λR), else is cut at a time whose mean share is (1 − e^(−λR))/λ per try:
``start = (P + (1 − e^(−λR))/λ) · e^(λR) = P·e^(λR) + (e^(λR) − 1)/λ``.

*A segment* of length s, tried with the node up (no memory, so its age does not matter):
E = (1 − e^(−λs))/λ + (1 − e^(−λs))·(start + E), hence
``E(s) = (e^(λs) − 1)·(1/λ + start) = (e^(λs) − 1)·e^(λR)·(1/λ + P)``.

*Makespan* = start + n·E(τ + δ) + E(work − n·τ + δ).  With P = 0 and whole segments this is Daly's
M·e^(R/M)·(e^((τ+δ)/M) − 1)·Ts/τ plus the first start, which Daly leaves out (J. T. Daly, FGCS 22, 2006).

*Interruptions* = λ × expected hours with a node up (the compensator of a process of rate λ while up), and the hours
up are the makespan at P = 0, because waits change neither what has to be passed nor its chances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import InvalidInputError

_PROGRESS_TOLERANCE_HOURS = 1e-6 / 3600.0  # as in simulator.spec; not imported: exact results stand on their own


@dataclass(frozen=True, slots=True)
class SegmentExpectation:
    """Expected totals of one run."""

    makespan_hours: float
    interruptions: float
    waiting_hours: float
    up_hours: float
    """Hours with a node: what is billed without a refund."""
    refunded_hours: float
    """Hours of nodes reclaimed below the age of `refund_age_hours`."""

    @property
    def billed_hours_with_refund(self) -> float:
        """Hours paid when nodes reclaimed early are free."""
        return self.up_hours - self.refunded_hours


def segment_lengths(work_hours: float, interval_hours: float, stall_hours: float) -> tuple[int, float, float]:
    """(n, length of each of the n whole segments, length of the last one), stalls included, in hours."""
    if not interval_hours < work_hours:
        return 0, 0.0, work_hours + stall_hours
    whole = math.ceil((work_hours - _PROGRESS_TOLERANCE_HOURS) / interval_hours) - 1
    return whole, interval_hours + stall_hours, work_hours - whole * interval_hours + stall_hours


def expected_makespan_hours(
    *,
    work_hours: float,
    interval_hours: float,
    stall_hours: float,
    startup_hours: float,
    rate_per_hour: float,
    provision_hours: float = 0.0,
) -> float:
    """Expected makespan of one node: exponential lifetimes, synchronous checkpoints, no notice (module docstring).

    `provision_hours` is the mean wait, whatever its distribution.  +inf where the expectation exceeds a float.
    Raises InvalidInputError for values that are no durations.
    """
    return expected_totals(
        work_hours=work_hours,
        interval_hours=interval_hours,
        stall_hours=stall_hours,
        startup_hours=startup_hours,
        rate_per_hour=rate_per_hour,
        provision_hours=provision_hours,
        refund_age_hours=0.0,
    ).makespan_hours


def expected_totals(
    *,
    work_hours: float,
    interval_hours: float,
    stall_hours: float,
    startup_hours: float,
    rate_per_hour: float,
    provision_hours: float = 0.0,
    refund_age_hours: float = 1.0,
) -> SegmentExpectation:
    """Makespan, interruptions, waiting, hours up and hours refunded (rule 7's first-hour refund), in expectation.

    *Refund.*  A node acquired while segment i is the next to pass is reclaimed at an age X, exponential, unless it
    lasts T_i = R + s_i + … + s_last, when the run ends on it and it is billed.  Its expected refund is
    E[X; X < c] = (1 − e^(−λc)·(1 + λc))/λ with c = min(refund age, T_i).  Nodes acquired for segment i: the first
    acquisition is for segment 1; a later segment is lost in its first try with probability 1 − e^(−λ·s_i); each time
    e^(λ(R + s_i)) nodes are needed until one passes R + s_i.
    """
    for name, value in (
        ("work_hours", work_hours),
        ("stall_hours", stall_hours),
        ("startup_hours", startup_hours),
        ("rate_per_hour", rate_per_hour),
        ("provision_hours", provision_hours),
        ("refund_age_hours", refund_age_hours),
    ):
        if not (math.isfinite(value) and value >= 0.0):
            raise InvalidInputError(name, value, "a finite number >= 0")
    if not interval_hours > 0.0:
        raise InvalidInputError("interval_hours", interval_hours, "a duration > 0")
    whole, length, last = segment_lengths(work_hours, interval_hours, stall_hours)
    if rate_per_hour == 0.0:
        up = startup_hours + whole * length + last
        return SegmentExpectation(provision_hours + up, 0.0, provision_hours, up, 0.0)
    rate = rate_per_hour
    growth = _exp(rate * startup_hours)
    up = _expm1(rate * startup_hours) / rate
    up += growth / rate * (whole * _expm1(rate * length) + _expm1(rate * last))
    interruptions = rate * up
    waiting = provision_hours * (1.0 + interruptions) if provision_hours > 0.0 else 0.0
    refunded = 0.0
    if refund_age_hours > 0.0:
        to_finish = startup_hours + whole * length + last
        for index in range(whole + 1):
            segment = length if index < whole else last
            lost_at_first = 1.0 if index == 0 else -math.expm1(-rate * segment)
            nodes = lost_at_first * _exp(rate * (startup_hours + segment))
            refunded += nodes * _mean_below(rate, min(refund_age_hours, to_finish))
            to_finish -= segment
    return SegmentExpectation(waiting + up, interruptions, waiting, up, refunded)


def daly_wall_hours(
    *, work_hours: float, interval_hours: float, stall_hours: float, restart_hours: float, mtbf_hours: float
) -> float:
    """Daly's own expected wall time M·e^(R/M)·(e^((τ+δ)/M) − 1)·Ts/τ: no first start, Ts/τ segments, whole or not.

    Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future
    Generation Computer Systems 22(3), 2006, the complete cost function behind its figures 3–5.
    """
    m = mtbf_hours
    segment = _expm1((interval_hours + stall_hours) / m)
    return m * _exp(restart_hours / m) * segment * work_hours / interval_hours


def _mean_below(rate: float, c: float) -> float:
    """E[X; X < c] for X exponential: (1 − e^(−λc)(1 + λc))/λ, by its series where that cancels."""
    x = rate * c
    if x < 1e-4:
        return (x * x / 2.0 - x**3 / 3.0 + x**4 / 8.0) / rate
    return (-math.expm1(-x) - x * math.exp(-x)) / rate


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


def _expm1(x: float) -> float:
    return math.expm1(x) if x < 709.0 else math.inf
