"""Deadline policies on one node: spot, on-demand or nothing, decided again and again (rule 9).

`simulator.policies.decide` decides, the same function as in the replay of recorded traces.  What it is asked, and what
its answers mean in continuous time with checkpoints:

- Spot capacity is a history that goes on whether it is used or not: it is missing for a `provision` wait, there for a
  lifetime, and so on.  A node of it may be taken at any moment while it is there (unless its notice has come), and
  is lost at its end.  "spot-only" takes it at once; that is exactly the ordinary one-node job.
- Decisions: at every change of that history, and at every multiple of `decision_hours` from the first request on.
- d is `startup`; r is what is left of the startup that is going on.  The deadline that decisions look at is earlier by
  the final checkpoint (stall + persist), because the job is done when its result is durable.
- On-demand nodes are never reclaimed, need no provision, and make no periodic checkpoints.  When a policy leaves one,
  the state is saved first (stall + persist, checkpoint time, on-demand price); then the decision is taken anew.  So
  the policy is asked about the moment at which that save would be done.
- A spot node that a policy gives up is billed (no refund: the provider did not take it).

Progress that was not durable at a loss is rolled back, which the rules were not made for: their safety net is no
guarantee here, and the probability to meet the deadline is what the simulation reports.
"""

from __future__ import annotations

import dataclasses
import math

from simulator.lifetimes import Exponential
from simulator.policies import NONE, ON_DEMAND, POLICY_CODES, SPOT, decide
from simulator.provision import ConstantProvision
from simulator.reference.fates import Node, Notice, Reclaim
from simulator.reference.job import Phase
from simulator.reference.rigid import RigidJob
from simulator.spec import TOLERANCE_HOURS, Spec

SECONDS = 3600.0


class OnDemandJob(RigidJob):
    """Rule 9: the whole fleet on demand: no reclaim, no wait, the same startup, only a final checkpoint."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        on_demand = dataclasses.replace(
            spec,
            lifetime=Exponential(0.0),
            rate_events=None,
            rate_exposure_hours=None,
            bulk=0.0,
            provision=ConstantProvision(0.0),
            min_nodes=None,
            interval_hours=math.inf,
        )
        super().__init__(on_demand, seed, run)

    def bill_the_end(self) -> None:
        for node in self.fates.nodes:
            self.accounts.bill_on_demand(node.born, self.now)


class PolicyJob(RigidJob):
    """One node that is spot, on-demand or not there at all, as the policy says."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        super().__init__(spec, seed, run)
        self.policy = POLICY_CODES[spec.policy]
        self.current = NONE
        self.hired_at = math.nan
        self.handing_over = False
        self.ticks_done = 0
        final = spec.stall_hours + spec.persist_hours
        self.deadline = max((spec.deadline_hours or math.inf) - final, spec.decision_hours)
        (self.node,) = self.fates.nodes

    # When to decide.

    def next_time(self) -> float:
        job_time, tick = super().next_time(), self.ticks_done * self.spec.decision_hours
        # At the same moment the market comes before the decision, which then knows of it.
        if self._may_change() and tick < min(job_time, self.fates.next_time()) - TOLERANCE_HOURS:
            return max(tick, self.now)
        return job_time

    def _may_change(self) -> bool:
        """Whether a decision could change anything: not while a spot node trains (it is kept), nor at the end."""
        if self.phase in {Phase.FINISHING, Phase.ENDING} or self.handing_over:
            return False
        return self.current != SPOT or self.phase is Phase.STARTUP

    def on_job_event(self) -> None:
        if super().next_time() <= self.now + TOLERANCE_HOURS:
            super().on_job_event()
        else:
            self._decide()

    def market_event(self) -> None:
        super().market_event()
        if self.fates.next_time() > self.now + TOLERANCE_HOURS and self._may_change():
            self._decide()

    def advance(self, to: float) -> None:
        super().advance(to)
        # The next multiple of `decision_hours`; this moment's own has not been used yet.
        self.ticks_done = max(self.ticks_done, math.ceil((self.now - TOLERANCE_HOURS) / self.spec.decision_hours))

    # What to decide.

    def _decide(self) -> None:
        """Ask the policy, in seconds, and do what it says."""
        self.ticks_done = math.floor((self.now + TOLERANCE_HOURS) / self.spec.decision_hours) + 1
        available = self.node.is_up and (self.current == SPOT or not self.fates.under_notice(self.node))
        overhead_left = self.phase_ends - self.now if self.phase is Phase.STARTUP else 0.0
        # Leaving an on-demand node means saving first: asked is what the policy would want once that is done.  Asked
        # about now, it would save again and again, each time too late to leave.
        unsaved = self.current == ON_DEMAND and not self.copies.is_saved(self.progress)
        save = self.spec.stall_hours + self.spec.persist_hours if unsaved else 0.0
        choice = decide(
            self.policy,
            (self.now + save) * SECONDS,
            self.progress * SECONDS,
            overhead_left * SECONDS,
            self.current,
            available,
            self.spec.work_hours * SECONDS,
            self.deadline * SECONDS,
            self.spec.startup_hours * SECONDS,
            self.spec.decision_hours * SECONDS,
        )
        if choice == self.current:
            return
        if unsaved:
            self.handing_over = True
            self.enter(Phase.STALL, save)
        else:
            self._leave()
            self._hire(choice)

    def _leave(self) -> None:
        """The present node is given back; what it held and was not saved is gone."""
        self.bill_the_end()
        self.current = NONE
        self.lose_state()

    def _hire(self, choice: int) -> None:
        self.current, self.hired_at = choice, self.now
        if choice == NONE:
            self.enter(Phase.WAITING)
        else:
            self.enter(Phase.STARTUP, self.spec.startup_hours)

    # What changes in the job.

    def on_phase_end(self) -> None:
        if self.handing_over:
            self.handing_over = False
            self.copies.add(self.progress, self.now)
            self.restart_interval()
            self.enter(Phase.TRAINING)
            self._decide()
        else:
            super().on_phase_end()

    def next_due(self) -> float:
        return math.inf if self.current == ON_DEMAND else super().next_due()

    @property
    def doomed(self) -> bool:
        return self.current == SPOT and super().doomed

    def on_notice(self, notice: Notice) -> None:
        if self.current == SPOT:
            super().on_notice(notice)

    def take_away(self, event: Reclaim) -> None:
        if self.current == SPOT:
            self.count(event)
            self.mark("reclaim", event.nodes)
            self.accounts.bill_reclaimed(self.hired_at, self.now)
            self.current = NONE
            self.on_reclaim(event)
        self.fates.request(self.node, self.now)

    def on_arrival(self, arrived: list[Node]) -> None:
        """Capacity that is there is not taken yet: `market_event` decides."""

    def bill_the_end(self) -> None:
        """The node that is in use, up to now."""
        if self.current == ON_DEMAND:
            self.accounts.bill_on_demand(self.hired_at, self.now)
        elif self.current == SPOT:
            self.accounts.bill(self.hired_at, self.now)
