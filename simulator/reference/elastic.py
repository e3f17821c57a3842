"""A fleet that trains on with what it has, down to `min_nodes` (rule 8, "Elastic").

Members are the nodes in the process group.  A node that arrives is STARTING by itself while the members train, then
READY until a rendezvous takes it in; one with an acted-on notice has left the group and idles to its reclaim.

`in_memory` says whether the members hold the job's state.  They lose it when one of them goes without warning, and
when none of them is left; then the newest durable checkpoint is restored at the end of the next rendezvous.
"""

from __future__ import annotations

from simulator.reference.fates import Node, Notice, Reclaim
from simulator.reference.job import Job, Phase
from simulator.spec import TOLERANCE_HOURS, Spec


class ElasticJob(Job):
    """Losses shrink the group, newcomers join it; below `min_nodes` it waits."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        super().__init__(spec, seed, run)
        self.started = False
        self.members: set[int] = set()
        self.starting: dict[int, float] = {}
        """End of each newcomer's own startup."""
        self.startup_ends: dict[int, float] = {}
        """The same for every node that is up, over or not, noticed or not."""
        self.ready: set[int] = set()
        self.in_memory = False

    @property
    def fleet_speed(self) -> float:
        """(k / nodes)^scaling with k members."""
        return float((len(self.members) / self.spec.nodes) ** self.spec.scaling)

    @property
    def enough(self) -> bool:
        """Whether the group may train."""
        return len(self.members) >= self.spec.minimum_nodes

    # Nodes come.

    def on_arrival(self, arrived: list[Node]) -> None:
        for node in arrived:
            self.startup_ends[node.index] = self.now + self.spec.startup_hours
            if not self.fates.under_notice(node):
                self.starting[node.index] = self.startup_ends[node.index]
        if not self.started and self.phase is Phase.WAITING:
            self._start_together()

    def _start_together(self) -> None:
        """The run starts when the first `min_nodes` are up, with one startup together.

        All that are up then take part, but none that is known to go.
        """
        up = {node.index for node in self.fates.nodes if node.is_up and not self.fates.under_notice(node)}
        if len(up) >= self.spec.minimum_nodes:
            self.members, self.starting, self.ready = up, {}, set()
            self.enter(Phase.STARTUP, self.spec.startup_hours)
            self.startup_ends |= dict.fromkeys(up, self.phase_ends)

    def next_time(self) -> float:
        return min([super().next_time(), *self.starting.values()])

    def on_job_event(self) -> None:
        if super().next_time() <= self.now + TOLERANCE_HOURS:
            super().on_job_event()  # at the same moment, the group's own events come first
        else:
            self._newcomers_ready()

    def _newcomers_ready(self) -> None:
        """Startups end."""
        ready = {node for node, ready_at in self.starting.items() if ready_at <= self.now + TOLERANCE_HOURS}
        self.starting = {node: at for node, at in self.starting.items() if node not in ready}
        self._take_in(ready)

    def _take_in(self, ready: set[int]) -> None:
        """A newcomer that is ready changes a rendezvous, ends a wait, or asks for a stall."""
        self.ready |= ready
        if self.phase is Phase.RENDEZVOUS:
            self._rendezvous()  # "a change during a rendezvous starts it over"
        elif self.phase is Phase.WAITING:
            if self.started:
                self._rendezvous_or_wait()
            else:
                self._start_together()
        elif self.phase is Phase.TRAINING and not self.upload:
            self._join()
        # A stall, an emergency save, a detection, an extra startup: taken in when that is over.

    def _join(self) -> None:
        """One stall: a checkpoint that replaces the next periodic one; none starts at progress >= work."""
        if self.ready and self.progress < self.spec.work_hours - TOLERANCE_HOURS:
            self.start_checkpoint()

    def uploaded(self) -> None:
        if self.ready:
            self._join()  # it had waited for the upload in flight
        else:
            super().uploaded()

    # Phases.

    def _rendezvous(self) -> None:
        """Everybody who is ready is taken in; then `rendezvous` of outage."""
        self.members |= self.ready
        self.ready = set()
        self.enter(Phase.RENDEZVOUS, self.spec.rendezvous_hours)

    @property
    def enough_with_ready(self) -> bool:
        """Whether the group may train once those who are ready have been taken in."""
        return len(self.members) + len(self.ready) >= self.spec.minimum_nodes

    def _rendezvous_or_wait(self) -> None:
        """Below `min_nodes`, time is waiting; else `rendezvous` of outage."""
        if self.enough_with_ready:
            self._rendezvous()
        else:
            self.enter(Phase.WAITING)

    def on_phase_end(self) -> None:
        ended = self.phase
        if ended is Phase.STARTUP and not self.started:
            self.started = self.in_memory = True
            self._train()
        elif ended is Phase.STARTUP or (ended is Phase.RENDEZVOUS and not self.in_memory):
            self._restored()
        elif ended is Phase.RENDEZVOUS:
            self._train()
        elif ended in {Phase.DETECT, Phase.IDLE_NOTICE}:
            self._rendezvous_or_wait()  # the loss is known, or the emergency save is done
        else:
            super().on_phase_end()
            if ended is Phase.STALL and self.ready:
                self._rendezvous()

    def _restored(self) -> None:
        if self.copies.restore(self.now):
            self.in_memory = bool(self.members)
            if self.enough:
                self._train()
            else:
                self._rendezvous_or_wait()  # notices came during an extra startup
        else:
            # Rule 6: a bad one is deleted; the one before is tried at the price of one more startup.
            self.roll_back()
            self.enter(Phase.STARTUP, self.spec.startup_hours)

    def _train(self) -> None:
        self.enter(Phase.TRAINING)
        if not self.upload:
            self._join()

    # Nodes go.

    def on_notice(self, notice: Notice) -> None:
        noticed = {node.index for node in notice.nodes}
        leavers = noticed & self.members
        self._remove(noticed)
        if not leavers or self.phase is Phase.ENDING:
            return
        if self.phase is Phase.FINISHING:
            self.end_on_notice(notice)
            return
        if not self.started:
            self._shrink_before_start()
            return
        if self.in_memory and self.phase is not Phase.WAITING:
            # A loss that was acted on: `emergency`, then `rendezvous`, nothing rolled back.
            self.save_on_notice(notice)
            self.enter(Phase.IDLE_NOTICE, self.spec.emergency_hours)
        elif self.phase is Phase.RENDEZVOUS:
            self._rendezvous_or_wait()  # a change starts it over; there is nothing in memory yet to be saved
        elif self.phase is Phase.DETECT and not self.enough_with_ready:
            self.enter(Phase.WAITING)
        # A detection goes on while there are enough, and an extra startup anyway (rule 2).
        if not self.members:
            self._lose_memory()

    def on_reclaim(self, event: Reclaim) -> None:
        gone = {node.index for node in event.nodes}
        lost = gone & self.members
        self._remove(gone)
        if self.phase is Phase.ENDING:
            return
        # Members go without warning: those with an acted-on notice have left before.
        if lost and not self.started:
            self._shrink_before_start()
        elif lost:
            self._lose_memory()
            if self.enough_with_ready:
                self.enter(Phase.DETECT, self.spec.detect_hours)
            else:
                self.enter(Phase.WAITING)
        self._readmit()

    def _readmit(self) -> None:
        """Nodes whose notice came to nothing, because another event took the node that they would have gone with."""
        known = self.members | self.ready | self.starting.keys()
        back = {n.index for n in self.fates.nodes if n.is_up and not self.fates.under_notice(n)} - known
        self.starting |= {node: self.startup_ends[node] for node in back if self.startup_ends[node] > self.now}
        if started_up := back - self.starting.keys():
            self._take_in(started_up)

    def _shrink_before_start(self) -> None:
        """The startup together goes on with who is left, or the fleet waits for `min_nodes` and starts up anew."""
        if not self.enough:
            self.enter(Phase.WAITING)
            self._start_together()

    def _lose_memory(self) -> None:
        self.in_memory = False
        self.lose_state()

    def _remove(self, nodes: set[int]) -> None:
        """These leave the group, or will not join it."""
        self.members -= nodes
        self.ready -= nodes
        for node in nodes:
            self.starting.pop(node, None)
