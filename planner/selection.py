"""Which types and how many nodes come into question, and what the job takes on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.assumptions import Assumption
from planner.catalogue import Catalogue, Instance
from planner.completion import Knowledge, find_instance
from planner.layers import Layered
from planner.places import Place, Rejected, find_places, require_places
from planner.speed import Reference, Workload, read_throughputs, reference_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said about the types beside the scenario; None or empty: not said."""

    accelerator: str | None = None
    """``A100:8`` or ``A100``."""
    reference: str | None = None
    throughputs: tuple[str, ...] = ()
    node_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The places that come into question, those that do not, and what was assumed on the way."""

    places: tuple[Place, ...]
    rejected: tuple[Rejected, ...]
    workload: Workload | None
    assumptions: tuple[Assumption, ...]
    asked: str
    """What was asked for, in words."""

    @property
    def several_types(self) -> bool:
        """Whether there is more than one type to choose from."""
        return len({place.instance.name for place in self.places}) > 1


def select(layered: Layered, knowledge: Knowledge, wanted: Wanted) -> Selection:
    """The places for a scenario: one type, every type with an accelerator, or the whole catalogue.

    Raises InvalidInputError for unknown names, for a whole catalogue without a reference fleet, and when nothing is
    left.
    """
    fleet, job = layered.scenario.fleet, layered.scenario.job
    instances, asked = wanted_instances(layered, knowledge.catalogue, wanted)
    assert job.work_hours is not None, "wanted_instances raises"
    nodes = fleet.nodes or 1
    counts = wanted.node_counts or (nodes,)
    if len(instances) == 1 and not wanted.reference and len(counts) == 1:
        # The work hours are those of the fleet that is asked for.
        only = _of_one(layered, instances[0], counts[0])
        places, rejected = find_places(knowledge.catalogue, layered, instances, counts, only)
        require_places(places, rejected, layered.name_of("fleet", "instance"), asked)
        return Selection(tuple(places), tuple(rejected), None, (), asked)
    if wanted.reference is None and wanted.accelerator is None and fleet.instance is None:
        raise InvalidInputError(
            "--reference",
            "nothing",
            "the fleet on which the job takes its work hours",
            "e.g. p4d.24xlarge or p4d.24xlarge:2",
        )
    reference = reference_of(wanted.reference, layered, knowledge.catalogue, instances, min(counts))
    workload = Workload(
        work_hours=job.work_hours,
        checkpoint_gib=job.checkpoint_gib,
        reference=reference,
        throughputs=read_throughputs(wanted.throughputs, layered, knowledge.catalogue),
        scaling=1.0 if fleet.scaling is None else fleet.scaling,
    )
    places, rejected = find_places(knowledge.catalogue, layered, instances, counts, workload)
    field = layered.name_of("fleet", "instance") if wanted.accelerator is None else "--accelerator"
    require_places(places, rejected, field, asked)
    stated: tuple[Assumption, ...] = ()
    if reference.assumed:
        source = f"assumption: {job.work_hours:g} work hours hold for {reference.text}; --reference names another fleet"
        stated = (Assumption("reference_work_hours", job.work_hours, "h", source, ""),)
    return Selection(tuple(places), tuple(rejected), workload, stated, asked)


def wanted_instances(layered: Layered, catalogue: Catalogue, wanted: Wanted) -> tuple[tuple[Instance, ...], str]:
    """The types that come into question, and what was asked for in words.

    Raises InvalidInputError for unknown names and for a job without work.
    """
    fleet = layered.scenario.fleet
    if layered.scenario.job.work_hours is None:
        raise InvalidInputError("--work-hours", "nothing", "the hours of useful training that the job needs")
    if fleet.instance is not None:
        if wanted.accelerator is not None:
            raise InvalidInputError("--accelerator", wanted.accelerator, "no accelerator where an instance is named")
        return (find_instance(layered, catalogue, fleet.instance, fleet.provider),), fleet.instance
    if wanted.accelerator is not None:
        name, _, count = wanted.accelerator.partition(":")
        if count and not (count.isdigit() and int(count) >= 1):
            raise InvalidInputError("--accelerator", wanted.accelerator, "NAME or NAME:COUNT, e.g. A100:8")
        try:
            found = catalogue.with_accelerator(name, int(count) if count else None)
        except InvalidInputError as error:
            raise InvalidInputError("--accelerator", error.value, error.expected, error.hint) from None
    else:
        found = catalogue.instances
    matching = tuple(row for row in found if fleet.provider in (None, row.provider))
    asked = wanted.accelerator or "the whole catalogue"
    if not matching:
        raise InvalidInputError(layered.name_of("fleet", "provider"), fleet.provider, f"a provider that has {asked}")
    return matching, asked


def _of_one(layered: Layered, instance: Instance, nodes: int) -> Workload:
    """The job on the one fleet that is asked for: only its memory can speak against it."""
    job = layered.scenario.job
    assert job.work_hours is not None
    return Workload(job.work_hours, job.checkpoint_gib, Reference(instance, nodes, assumed=False), {})


def check_node_counts(counts: Sequence[int], field: str, text: str) -> tuple[int, ...]:
    """Distinct counts in order; InvalidInputError for none or for less than one."""
    if not counts or min(counts) < 1:
        raise InvalidInputError(field, text, "whole numbers >= 1 separated by commas, e.g. 1,2,4,8")
    return tuple(sorted(set(counts)))
