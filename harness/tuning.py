"""Re-tuning the checkpoint interval while a run is going on, from what it measures.  Standard library only.

The simulated optimum of the plan stays the anchor, because it knows what no formula does (notices, asynchronous
uploads, refunds); only the ratio between two situations is taken from a formula:

    interval = planned interval · R(δ measured, M measured) / R(δ planned, M planned)

with R the exact optimum for exponential lifetimes (`exact_exponential_interval_seconds`), δ the stall of a save and M
the mean time between losses of the whole fleet.  M comes from a Gamma posterior of the rate per node-hour, whose prior
is worth one loss at the planned rate: (1 + losses) / (1 / planned rate + node-hours).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config import IntervalConfig, PlanConfig
from harness.policy import exact_exponential_interval_seconds

MOST = 10.0
"""A measurement changes the planned interval at most by this factor, in either direction."""


@dataclass(frozen=True, slots=True)
class History:
    """The run's losses so far, over all its attempts."""

    losses: int = 0
    """Restarts that nobody asked for; several nodes lost at once are one."""
    node_hours: float = 0.0
    """Node-hours of training that led to the losses (and to none)."""


_LOSSES, _NODE_HOURS, _STOPPED = "losses", "node_hours", "stopped_by_user"


class RunHistory:
    """Keeps the run's history from checkpoint to checkpoint; the same on every rank, without any communication.

    Every attempt claims the next generation, so the attempts since a checkpoint are counted by the distance of two
    generations.  One that follows a stop by the user, or brings more processes (a node joined), is no loss.  Training
    after the last checkpoint of a lost attempt is not in the node-hours: they are too few by up to an interval a loss.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._losses = 0
        self._node_hours = 0.0
        self._since_step = 0
        self.stopped = False
        """The user stops the run: the attempt that follows is no loss."""

    def adopt(self, saved: Mapping[str, object], *, step: int, attempts: int, grown: bool) -> None:
        """Go on from a checkpoint's `remembered` at `step`, `attempts` generations later."""
        self._since_step = step
        losses, node_hours = saved.get(_LOSSES, 0), saved.get(_NODE_HOURS, 0.0)
        assert isinstance(losses, int)
        assert isinstance(node_hours, int | float)
        asked_for = bool(saved.get(_STOPPED)) or grown
        self._losses = losses + max(0, attempts - asked_for)
        self._node_hours = float(node_hours)

    def at(self, step: int, step_seconds: float) -> History:
        """The history at `step` of this attempt, by the step time that the ranks agreed on."""
        hours = (step - self._since_step) * step_seconds / 3600.0
        return History(self._losses, self._node_hours + self._nodes * hours)

    def remembered(self, step: int, step_seconds: float) -> dict[str, int | float | bool]:
        """For a checkpoint of `step`."""
        history = self.at(step, step_seconds)
        return {_LOSSES: history.losses, _NODE_HOURS: history.node_hours, _STOPPED: self.stopped}


@dataclass(frozen=True, slots=True)
class Tuned:
    """An interval, and what it was made from."""

    interval_seconds: float
    stall_seconds: float
    rate_per_hour: float
    """Of the fleet."""
    why: str


def posterior_rate_per_node_hour(planned_rate_per_hour: float, history: History) -> float:
    """Mean of the Gamma posterior; `planned_rate_per_hour` > 0 is the prior's mean, one loss its weight."""
    return (1.0 + history.losses) / (1.0 / planned_rate_per_hour + history.node_hours)


def tuned_interval(
    interval: IntervalConfig,
    plan: PlanConfig,
    *,
    nodes: int,
    stall_seconds: float,
    persist_seconds: float,
    history: History,
) -> Tuned | None:
    """The interval to use now; None when the config does not ask for it or does not say what was planned.

    Inside the plateau of the plan (`low_seconds` to `high_seconds`) nothing is gained by moving, so it does not move.
    It never falls below the time until a save is durable: the next one would only wait for it.

    Parameters
    ----------
    nodes:            of the fleet as it is now.
    stall_seconds:    of a save, on the slowest rank; 0: not measured yet, the planned one counts.
    persist_seconds:  from there until durable; 0: not measured yet.
    history:          losses and node-hours so far.
    """
    planned_seconds, planned_stall, planned_rate = interval.seconds, plan.stall_seconds, plan.rate_per_hour
    if not interval.retune or interval.steps is not None or planned_seconds is None:
        return None
    if not planned_stall or not planned_rate:
        return None
    stall = stall_seconds or planned_stall
    rate = nodes * posterior_rate_per_node_hour(planned_rate, history)
    planned = exact_exponential_interval_seconds(planned_stall, 3600.0 / (planned_rate * (plan.nodes or 1)))
    factor = exact_exponential_interval_seconds(stall, 3600.0 / rate) / planned
    seconds = planned_seconds * min(MOST, max(1.0 / MOST, factor))
    why = "measured"
    if (interval.low_seconds or planned_seconds) <= seconds <= (interval.high_seconds or planned_seconds):
        seconds, why = planned_seconds, "within the plan's plateau"
    if seconds < persist_seconds:
        seconds, why = persist_seconds, "the time until a save is durable"
    return Tuned(seconds, stall, rate, why)
