"""The job: progress, checkpoints, the upload in flight, the finish (rules 3 to 5), and the loop over events.

`RigidJob` and `ElasticJob` add what happens when nodes come and go.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from simulator import horizon
from simulator.reference.accounts import Accounts
from simulator.reference.copies import Copies
from simulator.reference.fates import Fates, Node, Notice, Reclaim
from simulator.reference.timeline import Mark, Timeline
from simulator.runs import RunResult
from simulator.spec import TOLERANCE_HOURS, Spec


class Phase(enum.Enum):
    """What the job is doing; see the room's docstring for where its time is booked."""

    WAITING = enum.auto()
    STARTUP = enum.auto()
    TRAINING = enum.auto()
    STALL = enum.auto()
    IDLE_NOTICE = enum.auto()
    DETECT = enum.auto()
    RENDEZVOUS = enum.auto()
    FINISHING = enum.auto()
    ENDING = enum.auto()


@dataclass(frozen=True, slots=True)
class Upload:
    """A captured state on its way to being durable."""

    progress: float
    durable_at: float


class Job(ABC):
    """One run of one spec."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        self.spec, self.run = spec, run
        self.now = 0.0
        self.phase = Phase.WAITING
        self.phase_ends = math.inf
        self.finished = False
        self.last_reclaim = -math.inf
        self.progress = 0.0
        self.safe_progress = 0.0
        """What was restored, or saved by a notice: it is not saved again."""
        # Rule 3: the next checkpoint is due at interval_base + (intervals_done + 1)·interval: a product, not a sum
        # of sums, so that a thousand intervals are as exact as one.
        self.interval_base = 0.0
        self.intervals_done = 0
        self.upload: Upload | None = None
        self.copies = Copies(spec, seed, run)
        self.accounts = Accounts(spec)
        self.fates = Fates(spec, seed, run)
        self.limit = horizon.Limit.of(spec)
        self.timeline: Timeline | None = None
        """Set before `simulate` to have it written."""

    # The loop.

    def simulate(self) -> RunResult:
        """From the first request to the durable final state."""
        for node in self.fates.nodes:
            self.fates.request(node, self.now)
        while not self.finished:
            job_time, market_time = self.next_time(), self.fates.next_time()
            self.advance(min(job_time, market_time))
            self.limit.check(self.now, self.accounts.interruptions)
            if job_time <= market_time + TOLERANCE_HOURS:
                self.on_job_event()
            else:
                self.market_event()
        self.mark("finished")
        self.bill_the_end()
        return self.accounts.result(self.now, self.copies.storage_usd(self.now))

    def market_event(self) -> None:
        """What is due at this moment: one notice, else all reclaims, else all arrivals.

        What goes at one moment is gone before the job reacts: with no detection and no rendezvous to wait for, it
        would restore between two reclaims of the moment, without any time passing.
        """
        if notice := self.fates.notice(self.now):
            if notice.nodes:
                self.mark("notice", notice.nodes)
                self.on_notice(notice)
        elif event := self.fates.reclaim(self.now):
            while event:
                self.take_away(event)
                event = self.fates.reclaim(self.now)
        elif arrived := self.fates.arrivals(self.now):
            self.mark("arrival", arrived)
            self.on_arrival(arrived)

    def take_away(self, event: Reclaim) -> None:
        """Nodes are reclaimed: count, bill, and ask for new ones (rule 1: at the reclaim, never earlier)."""
        self.count(event)
        self.mark("reclaim", event.nodes)
        for node in event.nodes:
            self.accounts.bill_reclaimed(node.born, self.now)
            self.fates.request(node, self.now)
        self.on_reclaim(event)

    def count(self, event: Reclaim) -> None:
        """Rule 8: interruptions are events, not nodes; what goes at one moment is one event."""
        if self.now > self.last_reclaim + TOLERANCE_HOURS:
            self.accounts.interruptions += 1
        self.last_reclaim = self.now
        self.accounts.reclaimed_nodes += len(event.nodes)

    def bill_the_end(self) -> None:
        """Rule 7: a node on which the run ends is billed, however young."""
        for node in self.fates.nodes:
            if node.is_up:
                self.accounts.bill(node.born, self.now)

    @abstractmethod
    def on_arrival(self, arrived: list[Node]) -> None:
        """Nodes have come up."""

    @abstractmethod
    def on_notice(self, notice: Notice) -> None:
        """An acted-on notice has come for nodes that had none."""

    @abstractmethod
    def on_reclaim(self, event: Reclaim) -> None:
        """What the loss of these nodes means; they have been billed and requested anew."""

    # Time passes.

    @property
    def fleet_speed(self) -> float:
        """Progress per hour of training, uploads aside: 1 with the full fleet."""
        return 1.0

    def rate(self) -> float:
        """Progress per hour of training: rule 3's factor while an upload is in flight."""
        return self.fleet_speed * ((1.0 - self.spec.persist_slowdown) if self.upload else 1.0)

    def next_time(self) -> float:
        """When the job itself will do something next."""
        time = self.phase_ends
        if self.upload:
            time = min(time, self.upload.durable_at)
        if self.phase is Phase.TRAINING:
            time = min(time, self.now + max(0.0, self._target() - self.progress) / self.rate())
        return time

    def _target(self) -> float:
        """The progress at which training does something next.

        Rule 3: at most one upload in flight, so a checkpoint that falls due meanwhile waits, while training goes on;
        no periodic checkpoint starts at progress >= work.
        """
        due, last = self.next_due(), self.spec.work_hours - TOLERANCE_HOURS
        if self.upload or due >= last or self.progress >= last:
            return self.spec.work_hours
        return due

    def next_due(self) -> float:
        """The progress at which the next periodic checkpoint is due (rule 3)."""
        return self.interval_base + (self.intervals_done + 1) * self.spec.interval_hours

    def advance(self, to: float) -> None:
        """Let time pass to `to`, booked to the part that the phase stands for."""
        hours, phase = to - self.now, self.phase
        self.now = to
        accounts = self.accounts
        if self.phase is Phase.TRAINING:
            speed, slowdown = self.fleet_speed, self.spec.persist_slowdown if self.upload else 0.0
            self.progress += speed * (1.0 - slowdown) * hours
            # Rule 3, and rule 8 for fewer nodes: 1 = speed·(1 - slowdown) + speed·slowdown + (1 - speed).
            accounts.slowdown_hours += speed * slowdown * hours
            accounts.reduced_fleet_hours += (1.0 - speed) * hours
        elif self.phase is Phase.WAITING:
            accounts.waiting_hours += hours
        elif self.phase is Phase.STARTUP:
            accounts.startup_hours += hours
        elif self.phase is Phase.IDLE_NOTICE:
            accounts.notice_idle_hours += hours
        elif self.phase in {Phase.DETECT, Phase.RENDEZVOUS}:
            accounts.outage_hours += hours
        else:
            accounts.checkpoint_hours += hours
        if self.timeline:
            self.timeline.passed(to - hours, to, phase.name.lower(), self.progress)

    def mark(self, kind: str, nodes: Iterable[Node] = ()) -> None:
        """Write down that something happens now."""
        if self.timeline:
            indices = tuple(node.index for node in nodes)
            self.timeline.marks.append(Mark(self.now, kind, self.progress, indices))

    def on_job_event(self) -> None:
        """The earliest thing that `next_time` announced; durability first."""
        if self.upload and self.upload.durable_at <= self.now + TOLERANCE_HOURS:
            self.copies.add(self.upload.progress, self.now)
            self.upload = None
            self.mark("durable")
            if self.phase is Phase.TRAINING:
                self.uploaded()
        elif self.phase is Phase.TRAINING:
            self._reached_target()
        else:
            self.on_phase_end()

    def uploaded(self) -> None:
        """Training, and no upload in flight any more: what had to wait for it starts (rule 3)."""
        if self._is_due():
            self.start_checkpoint()

    def on_phase_end(self) -> None:
        """The phase has lasted as long as it was to."""
        if self.phase is Phase.STALL:
            # Rule 3: what was captured at the stall's start is durable `persist` after the stall's end.
            self.upload = Upload(self.progress, self.now + self.spec.persist_hours)
            self.enter(Phase.TRAINING)
        elif self.phase in {Phase.FINISHING, Phase.ENDING}:
            self.finished = True

    def enter(self, phase: Phase, hours: float = math.inf) -> None:
        """Begin a phase that ends after `hours` by itself."""
        self.phase, self.phase_ends = phase, self.now + hours

    # Rule 3: checkpoints.

    def _reached_target(self) -> None:
        target = self._target()
        self.progress = target
        if target == self.spec.work_hours:
            self._finish()
        else:
            self.start_checkpoint()

    def _is_due(self) -> bool:
        """Whether a checkpoint that had to wait for an upload starts now."""
        reached = self.progress >= self.next_due() - TOLERANCE_HOURS
        return reached and self.progress < self.spec.work_hours - TOLERANCE_HOURS

    def start_checkpoint(self) -> None:
        """The stall; the next interval is measured from this start (rule 3)."""
        if self.progress == self.next_due():
            self.intervals_done += 1
        else:
            self.restart_interval()
        self.enter(Phase.STALL, self.spec.stall_hours)

    def restart_interval(self) -> None:
        """Measure the interval from here: a late start, an emergency save, a restore."""
        self.interval_base, self.intervals_done = self.progress, 0

    # Rule 4: what a notice and a reclaim do to the state.

    def save_on_notice(self, notice: Notice) -> None:
        """An acted-on notice cuts training or a stall; the progress at the notice survives and resets the interval.

        An upload in flight goes on; it does not change how long `emergency` is.  What is saved already is not saved
        again.
        """
        if self.progress > self.safe_progress + TOLERANCE_HOURS:
            self.safe_progress = self.progress
            self.copies.add_later(self.progress, self._emergency_durable_at(notice))
        self.restart_interval()

    def _emergency_durable_at(self, notice: Notice) -> float:
        """`emergency` after the notice: it fits, or nothing was acted on; the minimum only takes rounding away."""
        return min(self.now + self.spec.emergency_hours, notice.reclaim_at)

    def lose_state(self) -> None:
        """The upload in flight dies with the node; the newest durable checkpoint is what is left."""
        self.upload = None
        self.roll_back()

    def roll_back(self) -> None:
        """Progress returns to the newest durable checkpoint; the difference is lost work."""
        left = self.copies.newest_progress
        if left < self.progress:
            self.mark("rolled_back")
        self.accounts.lost_work_hours += self.progress - left
        self.progress = self.safe_progress = left
        self.restart_interval()

    # Rule 5: the finish.

    def _finish(self) -> None:
        """The final checkpoint: it waits for an upload in flight; wait, stall and persist are checkpoint time."""
        begins = max(self.now, self.upload.durable_at) if self.upload else self.now
        self.enter(Phase.FINISHING, begins - self.now + self.spec.stall_hours + self.spec.persist_hours)

    def end_on_notice(self, notice: Notice) -> None:
        """An acted-on notice while finishing: the first durable copy of the final state ends the run."""
        self.phase, self.phase_ends = Phase.ENDING, min(self.phase_ends, self._emergency_durable_at(notice))
