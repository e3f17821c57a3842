"""Where each hour and each dollar of one run went (rule 7; docs/model.md, "Parts")."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.runs import RunResult
from simulator.spec import TOLERANCE_HOURS, Spec

REFUND_BELOW_AGE_HOURS = 1.0
"""First-hour refund: a node that the provider reclaims at a lower age is free (rule 7)."""


@dataclass(slots=True)
class Accounts:
    """Sums of one run.  No part is ever computed from the makespan or from another part."""

    spec: Spec
    lost_work_hours: float = 0.0
    checkpoint_hours: float = 0.0
    startup_hours: float = 0.0
    waiting_hours: float = 0.0
    notice_idle_hours: float = 0.0
    slowdown_hours: float = 0.0
    reduced_fleet_hours: float = 0.0
    outage_hours: float = 0.0
    interruptions: int = 0
    reclaimed_nodes: int = 0
    nodes_usd: float = 0.0
    billed_hours: float = 0.0
    on_demand_hours: float = 0.0

    def bill_reclaimed(self, born: float, reclaimed: float) -> None:
        """A node that the provider took: free when it was younger than an hour and the market refunds that."""
        age = reclaimed - born
        if self.spec.first_hour_refund and age < REFUND_BELOW_AGE_HOURS - TOLERANCE_HOURS:
            return
        self.bill(born, reclaimed)

    def bill(self, born: float, end: float) -> None:
        """A node's billed life, from the end of provision on: startup, idle notice and waiting included."""
        self.nodes_usd += self.spec.price.integral_usd(born, end)
        self.billed_hours += end - born

    def bill_on_demand(self, start: float, end: float) -> None:
        """A node at the on-demand price (rule 9)."""
        self.nodes_usd += self.spec.on_demand_usd_per_hour * (end - start)
        self.billed_hours += end - start
        self.on_demand_hours += end - start

    def result(self, makespan_hours: float, storage_usd: float) -> RunResult:
        """The finished run."""
        return RunResult(
            makespan_hours=makespan_hours,
            cost_usd=self.nodes_usd + storage_usd,
            interruptions=float(self.interruptions),
            lost_work_hours=self.lost_work_hours,
            checkpoint_hours=self.checkpoint_hours,
            startup_hours=self.startup_hours,
            waiting_hours=self.waiting_hours,
            notice_idle_hours=self.notice_idle_hours,
            slowdown_hours=self.slowdown_hours,
            reduced_fleet_hours=self.reduced_fleet_hours,
            outage_hours=self.outage_hours,
            reclaimed_nodes=float(self.reclaimed_nodes),
            storage_usd=storage_usd,
            billed_hours=self.billed_hours,
            on_demand_hours=self.on_demand_hours,
        )
