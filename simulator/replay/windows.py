"""Replay of one policy over windows of a market: what each window costs, when it is done, what it ran on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError, did_you_mean
from simulator.adaptive import new_table
from simulator.policies import ADAPTIVE_NAME, NONE, ON_DEMAND, POLICY_CODES, POLICY_NAMES, SPOT, SPOT_PRICE_TICKS
from simulator.replay.inputs import Job, Market
from simulator.replay.kernel import run_adaptive, run_plain


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """One run.  A run that is not done at the window's end has `finish_seconds` None and costs what was paid so far."""

    start_tick: int
    cost_usd: float
    finish_seconds: float | None
    """When the last piece of work was done, from the window's start; the bill runs to the end of that tick."""
    met_deadline: bool
    tick_seconds: float
    plan: NDArray[np.int8]
    """NONE, SPOT or ON_DEMAND for each tick until the end of the run."""

    def ticks_of(self, kind: int) -> int:
        return int(np.count_nonzero(self.plan == kind))

    def hours_of(self, kind: int) -> float:
        return self.ticks_of(kind) * self.tick_seconds / 3600.0

    @property
    def spot_hours(self) -> float:
        return self.hours_of(SPOT)

    @property
    def on_demand_hours(self) -> float:
        return self.hours_of(ON_DEMAND)

    @property
    def waiting_hours(self) -> float:
        return self.hours_of(NONE)

    @property
    def finish_hours(self) -> float | None:
        return None if self.finish_seconds is None else self.finish_seconds / 3600.0

    @property
    def launches(self) -> int:
        """Instances started: each change to something that is not waiting."""
        before = np.concatenate(([NONE], self.plan[:-1]))
        return int(np.count_nonzero((self.plan != before) & (self.plan != NONE)))


def replay(
    market: Market,
    job: Job,
    policy: str,
    *,
    starts: Sequence[int] = (0,),
    window_ticks: int | None = None,
    spot_price_tick: str = "same",
) -> tuple[WindowResult, ...]:
    """Run `policy` once per start tick.

    window_ticks:    length of every window; None: to the end of the trace.  Must hold the deadline.
    spot_price_tick: "same": spot in tick k is charged at tick k's price; "next": at tick k+1's (the last one held),
                     which is what SkyNomad's public simulator does.

    Raises InvalidInputError for an unknown policy, a window beyond the trace or one that ends before the deadline.
    """
    if policy not in POLICY_NAMES:
        choices = f"one of {', '.join(POLICY_NAMES)}"
        raise InvalidInputError("policy", policy, choices, did_you_mean(policy, POLICY_NAMES))
    if spot_price_tick not in SPOT_PRICE_TICKS:
        raise InvalidInputError("spot_price_tick", spot_price_tick, "same or next")
    charged = market.spot_usd_per_hour
    if spot_price_tick == "next":
        charged = np.append(charged[1:], charged[-1])
    return tuple(_one(market, job, policy, charged, start, _end(market, job, start, window_ticks)) for start in starts)


def _end(market: Market, job: Job, start: int, window_ticks: int | None) -> int:
    if not 0 <= start < market.ticks:
        raise InvalidInputError("window_start", start, f"a tick of the trace, 0 to {market.ticks - 1}")
    end = market.ticks if window_ticks is None else start + window_ticks
    if end > market.ticks:
        last = market.ticks - (window_ticks or 0)
        hint = f"with {window_ticks} ticks the last possible start is {last}" if last >= 0 else "the trace is shorter"
        raise InvalidInputError("window_start", start, f"a window inside the trace's {market.ticks} ticks", hint)
    needed = math.ceil(job.deadline_seconds / market.tick_seconds - 1e-9)
    if end - start < needed:
        raise InvalidInputError(
            "window_ticks" if window_ticks is not None else "window_start",
            end - start if window_ticks is not None else start,
            f"a window that holds the deadline: {needed} ticks of {market.tick_seconds:g} s",
            f"{end - start} ticks from tick {start}",
        )
    return end


def _one(market: Market, job: Job, policy: str, charged: NDArray[np.float64], start: int, end: int) -> WindowResult:
    plan = np.zeros(end - start, dtype=np.int8)
    durations = (job.work_seconds, job.deadline_seconds, job.restart_seconds, market.tick_seconds)
    available, quoted, charged = market.available[start:end], market.spot_usd_per_hour[start:end], charged[start:end]
    if policy == ADAPTIVE_NAME:
        table = new_table(*(seconds / 3600.0 for seconds in durations))
        outcome = run_adaptive(table, available, quoted, charged, job.on_demand_usd_per_hour, *durations, plan)
    else:
        outcome = run_plain(POLICY_CODES[policy], available, charged, job.on_demand_usd_per_hour, *durations, plan)
    cost, finish, ticks = outcome
    finished = not math.isnan(finish)
    return WindowResult(
        start_tick=start,
        cost_usd=float(cost),
        finish_seconds=float(finish) if finished else None,
        met_deadline=finished and bool(finish <= job.deadline_seconds + 1e-6),
        tick_seconds=market.tick_seconds,
        plan=plan[:ticks],
    )
