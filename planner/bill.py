"""The rest of the bill: what a job costs beside its nodes and its checkpoints (REQUIREMENTS A8).

rendezvous host   its price x makespan            disks      price x size x nodes x billed time
transfer          price x size, once              on-demand  minus the negotiated discount
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.completion import Completed
from simulator.runs import Runs
from simulator.spec import HOURS_PER_MONTH, PriceSeries, Spec
from simulator.statistics import Proportion, Summary, wilson_interval
from simulator.sweep import Sweep

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Extras:
    """Prices of everything that is neither a node nor a stored checkpoint."""

    rendezvous_usd_per_hour: float
    disk_usd_per_node_hour: float
    transfer_usd: float
    on_demand_discount: float
    budget_usd: float | None

    @classmethod
    def of(cls, completed: Completed) -> Extras:
        """What a completed scenario says."""
        return cls(
            rendezvous_usd_per_hour=completed["bill.rendezvous_usd_per_hour"],
            disk_usd_per_node_hour=completed["bill.disk_gib"]
            * completed["bill.disk_usd_per_gib_month"]
            / HOURS_PER_MONTH,
            transfer_usd=completed["bill.transfer_gib"] * completed["bill.transfer_usd_per_gib"],
            on_demand_discount=completed["bill.on_demand_discount"],
            budget_usd=completed["bill.budget_usd"],
        )

    def spot_usd(self, runs: Runs) -> Array:
        """What each run costs beside its nodes and its checkpoints: shape (runs,)."""
        extra: Array = runs.makespan_hours * self.rendezvous_usd_per_hour
        return extra + runs.billed_hours * self.disk_usd_per_node_hour + self.transfer_usd

    def in_node_hours(self, spec: Spec, spot_usd_per_hour: float) -> Spec:
        """`spec` at this price with what runs beside the nodes in the price of a node-hour, for a sweep.

        The rendezvous host runs for the whole makespan, which is nearly the billed time: waits are left out of it.
        """
        beside = self.disk_usd_per_node_hour + self.rendezvous_usd_per_hour / spec.nodes
        return dataclasses.replace(
            spec,
            price=PriceSeries.constant(spot_usd_per_hour + beside),
            on_demand_usd_per_hour=spec.on_demand_usd_per_hour + beside,
        )

    def with_transfer(self, curve: Sweep) -> Sweep:
        """`curve` with the transfer in every cost: no interval changes it, so that the optimum stays."""
        usd = self.transfer_usd
        if usd == 0.0 or curve.objective != "cost_usd":
            return curve
        optimum = dataclasses.replace(curve.optimum, cost=_more(curve.optimum.cost, usd))
        share = curve.optimum.cost.mean / optimum.cost.mean
        return dataclasses.replace(
            curve,
            points=tuple(
                dataclasses.replace(
                    point,
                    estimate=dataclasses.replace(point.estimate, mean=point.estimate.mean + usd),
                    costs_usd=point.costs_usd + usd,
                )
                for point in curve.points
            ),
            optimum=optimum,
            regret={rule: share * regret for rule, regret in curve.regret.items()},
            regret_standard_error={rule: share * error for rule, error in curve.regret_standard_error.items()},
        )

    def within_budget(self, costs: Array) -> Proportion | None:
        """Share of runs that cost no more than the budget; None without one."""
        if self.budget_usd is None:
            return None
        return wilson_interval(int(np.count_nonzero(costs <= self.budget_usd)), costs.size)

    def on_demand_usd(self, node_price_per_hour: float, nodes: int, makespan_hours: float) -> float:
        """Nodes at the discounted price, their disks, and the transfer; no rendezvous host is needed."""
        node_hour = node_price_per_hour * (1.0 - self.on_demand_discount) + self.disk_usd_per_node_hour
        return nodes * node_hour * makespan_hours + self.transfer_usd


def _more(summary: Summary, usd: float) -> Summary:
    """The same distribution, `usd` dearer."""
    return dataclasses.replace(
        summary,
        **{
            field.name: getattr(summary, field.name) + usd
            for field in dataclasses.fields(summary)
            if field.name != "standard_error"
        },
    )
