"""One run whose interruptions are not drawn but known: what the model says would have happened to it.

A prediction and a run that happened differ by chance (other interruptions), by parameters (other durations) and by what
the model leaves out.  With the interruptions and the durations as they were, only the last one remains.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from simulator.reference.fates import Fates, Node
from simulator.reference.job import Phase
from simulator.reference.rigid import RigidJob
from simulator.runs import RunResult
from simulator.spec import Spec


@dataclass(frozen=True, slots=True)
class Life:
    """One time that a job was up, between two times that it was not; all in hours."""

    wait_hours: float
    """From the end of the life before (from the first request) to its start."""
    up_hours: float
    """From its start to the loss; infinite for one that was not lost."""
    startup_hours: float
    """From its start to the first step: boot, image, restore, process groups."""
    notice_at_hours: float | None = None
    """Age at which a notice came that was acted on; None: the loss came without one, or nothing was made of it."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and (not value >= 0.0 or (math.isinf(value) and name != "up_hours")):
                raise InvalidInputError(name, value, "hours >= 0")
        if self.notice_at_hours is not None and self.notice_at_hours > self.up_hours:
            raise InvalidInputError("notice_at_hours", self.notice_at_hours, "an age before the loss")


def simulate_history(spec: Spec, lives: Sequence[Life]) -> RunResult:
    """The run of `spec` that meets these lives, in order; after the last one there is no further loss.

    A job stands or falls as a whole here: `spec` has one node, which stands for a rigid fleet.  Its lifetime,
    provision, startup, notice and policy are not used: the lives say what happened.  A run that the model finishes
    earlier does not meet the later ones.  Raises InvalidInputError for another fleet and without lives.
    """
    if spec.nodes != 1:
        raise InvalidInputError("nodes", spec.nodes, "1: one node that stands for the fleet")
    if not lives:
        raise InvalidInputError("lives", 0, "one at least")
    return _HistoryJob(spec, tuple(lives)).simulate()


class _KnownFates(Fates):
    """The lives of one node, looked up instead of drawn."""

    def __init__(self, spec: Spec, lives: tuple[Life, ...]) -> None:
        super().__init__(spec, 0, 0)
        self._lives = lives
        self._after = Life(wait_hours=0.0, up_hours=math.inf, startup_hours=lives[-1].startup_hours)

    def life(self, node: Node) -> Life:
        """The life that `node` is in, or waits for."""
        return self._lives[node.acquisition] if node.acquisition < len(self._lives) else self._after

    def request(self, node: Node, now: float) -> None:
        """The wait as it was."""
        node.acquisition += 1
        node.arrives_at = now + self.life(node).wait_hours
        node.born = math.nan
        node.reclaim_at = node.notice_at = math.inf
        node.announced = False

    def arrive(self, node: Node) -> None:
        """The life and the notice as they were."""
        life = self.life(node)
        node.born, node.arrives_at = node.arrives_at, math.inf
        node.reclaim_at = node.born + life.up_hours
        node.acted_on = life.notice_at_hours is not None
        if life.notice_at_hours is not None:
            node.notice_at = node.born + life.notice_at_hours


class _HistoryJob(RigidJob):
    """A rigid job that starts up as long as it did."""

    fates: _KnownFates

    def __init__(self, spec: Spec, lives: tuple[Life, ...]) -> None:
        super().__init__(spec, 0, 0)
        self.fates = _KnownFates(spec, lives)

    def on_arrival(self, arrived: list[Node]) -> None:
        if self.phase is Phase.WAITING:
            self.enter(Phase.STARTUP, self.fates.life(arrived[0]).startup_hours)
