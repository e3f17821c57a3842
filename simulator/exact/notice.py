"""One node, exponential lifetimes, a notice that always works and fits: nothing is ever rolled back.

Derivation, from rules 1–5 with notice success 1 and checkpoints that cost nothing while training (no periodic ones,
or stall = 0 and no slowdown).  λ is the rate, R the startup, P the mean wait, ν the notice, ε the emergency save,
f = stall + persist the final checkpoint.  ε <= min(ν, R) is required: a node that dies before ε has then not trained
yet, and its notice, which does not fit, would have had nothing to save.

*Training starts* on a node that outlives R + ν.  Shorter-lived ones are held, doing nothing useful, to their reclaim:
from the request to the start of training G = P + q·R + E[L; L < R + ν] + (1 − q)·G with q = e^(−λ(R+ν)), so
``G = (P + q·R + E[L; L < R + ν]) / q``.

*While it trains* notices come at rate λ (the residual life of a node that outlived R + ν has no memory), and the work
is W hours however often it is cut: λ·W notices, each followed by ν idle hours and another G.

*The final checkpoint* ends at f, or at the notice plus ε if that is sooner: E[min(f, N + ε)] with N exponential is f
for ε >= f, else ε + (1 − e^(−λ(f−ε)))/λ.

``makespan = G + W + λ·W·(ν + G) + E[min(f, N + ε)]``
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import InvalidInputError
from simulator.exact.segments import _exp, _mean_below


@dataclass(frozen=True, slots=True)
class NoticeExpectation:
    """Expected totals of one run without rollback."""

    makespan_hours: float
    interruptions: float
    """Reclaims, those during startup included; a notice in the final phase ends the run and is none."""
    waiting_hours: float
    checkpoint_hours: float


def expected_totals_without_rollback(
    *,
    work_hours: float,
    rate_per_hour: float,
    startup_hours: float,
    notice_hours: float,
    emergency_hours: float,
    final_checkpoint_hours: float = 0.0,
    provision_hours: float = 0.0,
) -> NoticeExpectation:
    """Expectations when every notice is acted on in time (module docstring); hours.

    Raises InvalidInputError where the premise fails: `emergency_hours` above the notice or the startup.
    """
    if not emergency_hours <= min(notice_hours, startup_hours):
        raise InvalidInputError(
            "emergency_hours", emergency_hours, "at most the notice and the startup: only then every save fits"
        )
    rate, final = rate_per_hour, final_checkpoint_hours
    if rate == 0.0:
        return NoticeExpectation(provision_hours + startup_hours + work_hours + final, 0.0, provision_hours, final)
    needed = startup_hours + notice_hours
    tries = _exp(rate * needed)
    to_training = tries * (provision_hours + _mean_below(rate, needed)) + startup_hours
    cuts = rate * work_hours
    last = final if emergency_hours >= final else emergency_hours - math.expm1(-rate * (final - emergency_hours)) / rate
    return NoticeExpectation(
        makespan_hours=to_training + work_hours + cuts * (notice_hours + to_training) + last,
        interruptions=(1.0 + cuts) * (tries - 1.0) + cuts,
        waiting_hours=(1.0 + cuts) * tries * provision_hours,
        checkpoint_hours=last,
    )
