"""Filling in what a scenario leaves out, from the bundled tables or a stated assumption, and making a Spec of it.

`complete` is a pure function of the scenario and of what is known (`Knowledge`).  Its result says of every value where
it came from: the flag, variable or file key that the user wrote, the table row, or the assumption.
"""

from __future__ import annotations

from harness.errors import InvalidInputError
from planner.catalogue import Offer
from planner.completed import SECONDS_PER_HOUR, Completed, Value
from planner.draft import Draft, section_order
from planner.draft_checkpoint import fill_notice_and_checkpoint
from planner.draft_costs import fill_bill, fill_storage
from planner.draft_market import check_place, fill_lifetime, fill_prices, fill_provision, find_instance
from planner.knowledge import Knowledge
from planner.layers import Layered
from planner.scenario import DEFAULT_SEED

__all__ = [
    "DEFAULT_RUNS",
    "SECONDS_PER_HOUR",
    "Completed",
    "Knowledge",
    "Value",
    "check_place",
    "complete",
    "find_instance",
]

DEFAULT_RUNS = 20_000


def complete(
    layered: Layered,
    knowledge: Knowledge,
    *,
    offer: Offer | None = None,
    nodes: int | None = None,
    work: Value | None = None,
    whole_bill: bool = False,
) -> Completed:
    """`layered` with every gap filled.

    `offer` puts it in one place at that price (what the user gave still wins); `nodes` replaces the fleet's size,
    `work` the work hours; `whole_bill` assumes a price for what has to be paid for but was not stated.
    Raises InvalidInputError for what only the user can know (work, and checkpoint size or what it decides) and for
    unknown instances, regions and zones.
    """
    draft = Draft(layered, knowledge, offer, nodes, work, whole_bill)
    _fill_fleet_and_job(draft)
    fill_prices(draft)
    lifetime, hazard = fill_lifetime(draft)
    provision = fill_provision(draft)
    fill_notice_and_checkpoint(draft)
    fill_storage(draft)
    fill_bill(draft)
    draft.default("policy.name", "spot-only")
    draft.default("policy.decision_seconds", 60.0)
    given = layered.scenario.market.lifetime
    events = getattr(given, "events", None) if given else (hazard.events if hazard else None)
    exposure = getattr(given, "exposure_hours", None) if given else (hazard.exposure_hours if hazard else None)
    return Completed(
        values={path: draft.values[path] for path in sorted(draft.values, key=section_order)},
        lifetime=lifetime,
        provision=provision,
        hazard=hazard,
        instance=draft.instance,
        offer=draft.offer,
        derived=draft.derived,
        layered=layered,
        rate_events=events,
        rate_exposure_hours=exposure,
        warnings=tuple(draft.warnings),
    )


def _fill_fleet_and_job(draft: Draft) -> None:
    scenario = draft.layered.scenario
    if draft.work is not None:
        draft.values["job.work_hours"] = draft.work
    elif not draft.take("job.work_hours"):
        raise InvalidInputError(
            "--work-hours",
            "nothing",
            "the hours of useful training that the job needs",
            "or job.work_hours in a file",
        )
    draft.default("job.deadline_hours", None)
    name = draft.offer.instance if draft.offer else scenario.fleet.instance
    provider = draft.offer.provider if draft.offer else scenario.fleet.provider
    if name is not None:
        draft.instance = find_instance(draft.layered, draft.knowledge.catalogue, name, provider)
        provider = draft.instance.provider
    for path, value in (("fleet.instance", draft.instance and draft.instance.name), ("fleet.provider", provider)):
        origin = "catalogue" if draft.given(path) is None else draft.layered.origins[tuple(path.split("."))]
        draft.values[path] = Value(path, value, origin if value is not None else "default")
    if draft.nodes is not None:
        draft.values["fleet.nodes"] = Value("fleet.nodes", draft.nodes, "candidate")
    else:
        draft.default("fleet.nodes", 1)
    nodes = draft.values["fleet.nodes"].value
    draft.default("fleet.min_nodes", None)
    least = draft.values["fleet.min_nodes"].value
    if least is not None and nodes < least and nodes != scenario.fleet.nodes:
        # One of several sizes that are compared: a fleet this small is a rigid one.
        draft.values["fleet.min_nodes"] = Value("fleet.min_nodes", nodes, "candidate")
    draft.default("fleet.scaling", 1.0)
    elastic = (draft.given("fleet.min_nodes") or nodes) < nodes
    for path in ("fleet.detect_seconds", "fleet.rendezvous_seconds"):
        if elastic:
            draft.assume(path, path.split(".")[1])
        elif not draft.take(path):
            draft.values[path] = Value(path, 0.0, "default: does not apply to a fleet that waits for all its nodes")
    if nodes == 1:
        draft.default("fleet.bulk", 0.0)
    else:
        draft.assume("fleet.bulk", "bulk")
    draft.default("simulation.runs", DEFAULT_RUNS)
    draft.default("simulation.seed", DEFAULT_SEED)
