"""What the market does to each node: arrival, notice, reclaim, and who goes with whom (rules 1, 4 and 8).

What happens to several nodes within 1 µs happens at one moment: notices first, then reclaims, then arrivals (all that
a moment takes is gone before the first replacement comes), each in the order of the nodes' indices.
Times are hours since the first request.  All draws are looked up by (seed, run, node, acquisition): `simulator.draws`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator import draws
from simulator.lifetimes import TraceReplay
from simulator.spec import TOLERANCE_HOURS, Spec
from simulator.uncertainty import hazard_factor


@dataclass(slots=True)
class Node:
    """One place in the fleet; its acquisitions follow each other."""

    index: int
    acquisition: int = -1
    arrives_at: float = math.inf
    """End of provision, while it is still to come."""
    born: float = math.nan
    """End of provision of the life that is going on (age 0); NaN while there is none."""
    reclaim_at: float = math.inf
    """End of the node's own lifetime; another node's reclaim may take it along before."""
    notice_at: float = math.inf
    """When a notice that will be acted on comes; infinite for one that is not, or once it has come."""
    acted_on: bool = False
    """Whether the notice of its own reclaim is acted on."""
    announced: bool = False
    """Whether that notice has come."""

    @property
    def is_up(self) -> bool:
        """Between the end of provision and the reclaim."""
        return not math.isnan(self.born)


@dataclass(frozen=True, slots=True)
class Notice:
    """An acted-on notice: the nodes that it is for, and when the event takes place."""

    nodes: tuple[Node, ...]
    reclaim_at: float


@dataclass(frozen=True, slots=True)
class Reclaim:
    """One event: the node whose lifetime ended and those that went with it."""

    nodes: tuple[Node, ...]
    acted_on: bool


class Fates:
    """The lives of all nodes of one run."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        self._spec, self._seed, self._run = spec, seed, run
        u_rate, u_offset = draws.uniforms(seed, run, 0, 0, draws.STREAM_RUN)
        # "Uncertainty": once per run, the same for all nodes.  Rule 8: lifetimes are marginal, so each node's own
        # cumulative hazard is divided by 1 + (nodes - 1)·bulk.
        self._hazard_scale = hazard_factor(spec, u_rate) / spec.marginal_hazard_divisor
        # A trace is a history that all nodes share, entered at a uniformly drawn moment.
        self._trace = spec.lifetime if isinstance(spec.lifetime, TraceReplay) else None
        self._trace_offset = u_offset * self._trace.period_hours if self._trace else 0.0
        self.nodes = [Node(i) for i in range(spec.nodes)]

    def request(self, node: Node, now: float) -> None:
        """Rule 1: ask for a node (again); the wait for capacity is drawn anew every time and is not billed."""
        node.acquisition += 1
        u_wait, _ = self._uniforms(node, draws.STREAM_PROVISION)
        node.arrives_at = now + self._spec.provision.wait_hours(u_wait)
        if self._trace:
            # "A request waits while there is no capacity": the first capacity once the wait is over.
            node.arrives_at += self._trace.wait_hours(self._trace_offset + node.arrives_at)
        node.born = math.nan
        node.reclaim_at = node.notice_at = math.inf
        node.announced = False

    def arrive(self, node: Node) -> None:
        """Rule 1: age 0; the lifetime and the fate of its notice are drawn."""
        node.born, node.arrives_at = node.arrives_at, math.inf
        u_lifetime, u_notice = self._uniforms(node, draws.STREAM_ACQUISITION)
        if self._trace:
            lifetime = self._trace.lifetime_hours(self._trace_offset + node.born)
        else:
            lifetime = self._spec.lifetime.inverse_cumulative_hazard(-math.log(u_lifetime) / self._hazard_scale)
        node.reclaim_at = node.born + lifetime
        # Rule 4: it comes min(notice, lifetime) before the reclaim, and is acted on if the emergency save fits
        # (one exactly as long as the notice does).
        warning = min(self._spec.notice_hours, lifetime)
        node.acted_on = u_notice < self._spec.notice_success and self._spec.emergency_hours <= warning
        if node.acted_on:
            node.notice_at = max(node.born, node.reclaim_at - warning)

    def under_notice(self, node: Node) -> bool:
        """Whether `node` is known to go: by its own notice, or with a node whose notice has come (rule 8: all that
        an event takes have the same notice, whether they were there when it came or have arrived since).
        """
        return node.is_up and (
            node.announced or any(other.announced and self._goes_along(other, node) for other in self.nodes)
        )

    def next_time(self) -> float:
        """The next arrival, acted-on notice or reclaim."""
        return min(min(node.arrives_at, node.notice_at, node.reclaim_at) for node in self.nodes)

    def arrivals(self, now: float) -> list[Node]:
        """Let every node arrive whose provision ends now."""
        arrived = [node for node in self.nodes if node.arrives_at <= now + TOLERANCE_HOURS]
        for node in arrived:
            self.arrive(node)
        return arrived

    def notice(self, now: float) -> Notice | None:
        """The next acted-on notice due now, for nodes that were under none; None when no notice is due.

        Rule 8, correlated loss: those that will go with the node have the same notice; one draw of `notice_success`
        decides for the event.
        """
        for node in self.nodes:
            if node.notice_at <= now + TOLERANCE_HOURS:
                before = [other for other in self.nodes if self.under_notice(other)]
                node.notice_at, node.announced = math.inf, True
                noticed = (other for other in self.nodes if self.under_notice(other) and other not in before)
                return Notice(tuple(noticed), node.reclaim_at)
        return None

    def reclaim(self, now: float) -> Reclaim | None:
        """The next event due now; None when there is none.  Its nodes are still up: bill them, then `request` again.

        Rule 8: each other node that has arrived goes at the same moment with probability `bulk`.  There are no
        cascades: a node that is taken along causes no event, and what its own notice had announced does not happen.
        """
        for node in self.nodes:
            if node.reclaim_at <= now + TOLERANCE_HOURS:
                others = (other for other in self.nodes if other.is_up and self._goes_along(node, other))
                return Reclaim((node, *others), node.acted_on)
        return None

    def _goes_along(self, trigger: Node, other: Node) -> bool:
        """Whether the reclaim of `trigger`'s present life takes `other` with it (probability `bulk`, no cascades)."""
        if other is trigger or self._spec.bulk == 0.0:
            return False
        u_hit = draws.bulk_uniform(self._seed, self._run, trigger.index, trigger.acquisition, other.index)
        return u_hit < self._spec.bulk

    def _uniforms(self, node: Node, stream: int) -> tuple[float, float]:
        return draws.uniforms(self._seed, self._run, node.index, node.acquisition, stream)
