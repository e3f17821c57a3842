"""Which places come into question: every offer of the wanted types, or the reason why it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.catalogue import ACCELERATOR_ONLY, Catalogue, Instance, Offer
from planner.completion import check_place
from planner.layers import Layered
from planner.speed import Workload

_NO_DISCOUNT_SHARE = 0.995


@dataclass(frozen=True, slots=True)
class Place:
    """One type in one zone (or region), with so many nodes; `work_hours` there, where they are not the scenario's."""

    instance: Instance
    offer: Offer
    nodes: int
    work_hours: float | None = None
    estimated_speed: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A type or a place that does not come into question, and why."""

    instance: str
    region: str | None
    zone: str | None
    nodes: int | None
    reason: str


def find_places(
    catalogue: Catalogue,
    layered: Layered,
    instances: Iterable[Instance],
    node_counts: Sequence[int],
    workload: Workload | None = None,
) -> tuple[list[Place], list[Rejected]]:
    """Every place of `instances` that the scenario's region and zone allow.

    `workload` moves the job between types and node counts; without it the scenario's work hours hold everywhere.

    Raises InvalidInputError for a region or zone that no table knows.
    """
    fleet, market = layered.scenario.fleet, layered.scenario.market
    places: list[Place] = []
    rejected: list[Rejected] = []
    instances = tuple(instances)
    for instance in instances:
        fleets = _fleets(catalogue, instance, node_counts, fleet.min_nodes, workload, rejected)
        if not fleets:
            continue
        offers = catalogue.offers(instance.name, instance.provider)
        if len(instances) == 1 and offers:
            check_place(layered, instance, offers, fleet.region, fleet.zone)
        wanted = [o for o in offers if fleet.region in (None, o.region) and fleet.zone in (None, o.zone)]
        if not offers and market.spot_usd_per_hour is not None and len(instances) == 1:
            wanted = [_users_own(instance, fleet.region, fleet.zone, market.spot_usd_per_hour)]
        if not wanted:
            reason = "no price is known" if not offers else "no price is known in the wanted region or zone"
            rejected.append(Rejected(instance.name, fleet.region, fleet.zone, None, reason))
        for offer in wanted:
            refusal = why_not(offer, market.spot_usd_per_hour, market.on_demand_usd_per_hour)
            if refusal:
                rejected.append(Rejected(instance.name, offer.region, offer.zone, None, refusal))
            else:
                places += [Place(instance, offer, *fleet) for fleet in fleets]
    return places, rejected


def _fleets(
    catalogue: Catalogue,
    instance: Instance,
    node_counts: Sequence[int],
    min_nodes: int | None,
    workload: Workload | None,
    rejected: list[Rejected],
) -> list[tuple[int, float | None, bool]]:
    """(nodes, work hours, estimated) of the fleets of one type that can run the job; the others are rejected."""
    if workload is None:
        return [(nodes, None, False) for nodes in node_counts]
    fleets: list[tuple[int, float | None, bool]] = []
    for nodes in node_counts:
        # An elastic fleet trains on with the fewest nodes too: the state must fit there.
        least = min(min_nodes or nodes, nodes)
        refusal = workload.memory_refusal(catalogue, instance, least)
        if refusal is not None and least < nodes:
            refusal = f"down to {least} of {nodes} nodes, {refusal}"
        work = workload.on(catalogue, instance, nodes)
        if refusal is None and isinstance(work, str):
            refusal = work
        if refusal is not None:
            rejected.append(Rejected(instance.name, None, None, nodes, refusal))
        elif not isinstance(work, str):
            fleets.append((nodes, *work))
    return fleets


def why_not(offer: Offer, spot_usd_per_hour: float | None, on_demand_usd_per_hour: float | None) -> str | None:
    """Why an offer is no place to rent spot; None when it is.  Prices that the user gave replace the offer's."""
    spot = offer.spot_usd_per_hour if spot_usd_per_hour is None else spot_usd_per_hour
    on_demand = offer.on_demand_usd_per_hour if on_demand_usd_per_hour is None else on_demand_usd_per_hour
    if spot is None:
        if ACCELERATOR_ONLY in offer.flags:
            return "only the accelerators' price is known, not the machine's"
        return "spot price missing"
    if on_demand is not None and spot >= _NO_DISCOUNT_SHARE * on_demand:
        return "no discount: spot costs as much as on-demand"
    return None


def _users_own(instance: Instance, region: str | None, zone: str | None, spot_usd_per_hour: float) -> Offer:
    return Offer(
        provider=instance.provider,
        instance=instance.name,
        region=region or "unknown",
        zone=zone,
        spot_usd_per_hour=spot_usd_per_hour,
        on_demand_usd_per_hour=None,
        as_of="",
        source="given by the user",
    )


def require_places(places: Sequence[Place], rejected: Sequence[Rejected], field: str, asked: str) -> None:
    """InvalidInputError, naming `field` and what was asked for, when nothing is left to choose from."""
    if not places:
        reasons = sorted({row.reason for row in rejected})
        raise InvalidInputError(field, asked, "a type with a place where the job can be run", "; ".join(reasons[:3]))
