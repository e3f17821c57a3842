"""A fleet that trains only while all its nodes are there; one node is the smallest (rules 1, 2, 4 and 8)."""

from __future__ import annotations

from simulator.reference.fates import Node, Notice, Reclaim
from simulator.reference.job import Job, Phase


class RigidJob(Job):
    """A reclaim stops the run; when the replacement is there, all go through startup together."""

    def on_arrival(self, arrived: list[Node]) -> None:  # noqa: ARG002  all or none counts
        if self.phase is Phase.WAITING and all(node.is_up for node in self.fates.nodes):
            self.enter(Phase.STARTUP, self.spec.startup_hours)

    def on_phase_end(self) -> None:
        if self.phase is Phase.STARTUP:
            self._restored()
        else:
            super().on_phase_end()

    def _restored(self) -> None:
        """The end of a startup, in which the newest checkpoint was read."""
        if not self.copies.restore(self.now):
            # Rule 6: a bad one is deleted; the one before is tried at the price of one more startup.
            self.roll_back()
            self.enter(Phase.STARTUP, self.spec.startup_hours)
        elif self.doomed:
            # Rule 2: a notice came during startup; nothing is trained.
            self.enter(Phase.IDLE_NOTICE)
        else:
            self.enter(Phase.TRAINING)

    @property
    def doomed(self) -> bool:
        """Whether a node is under an acted-on notice."""
        return any(self.fates.under_notice(node) for node in self.fates.nodes)

    def on_notice(self, notice: Notice) -> None:
        if self.phase in {Phase.TRAINING, Phase.STALL}:
            self.save_on_notice(notice)
            self.enter(Phase.IDLE_NOTICE)
        elif self.phase is Phase.FINISHING:
            self.end_on_notice(notice)
        # In WAITING and STARTUP there is nothing to save (rule 2); in IDLE_NOTICE it is saved already.

    def on_reclaim(self, event: Reclaim) -> None:  # noqa: ARG002  which node it was makes no difference
        if self.phase is Phase.ENDING:
            return
        self.lose_state()
        self.enter(Phase.WAITING)
