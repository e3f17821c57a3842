"""How long a request waits for capacity: every source behind one interface, best first, like the interruption rates.

    waits:NAME     waits in public traces of this type: those of the region, else pooled (`data/provision_waits.csv`)
    waits:NAME     of the smallest type with the same accelerator at the same provider, an estimate
    assumption     the stated constant, always there, always last

A wait in a trace begins when capacity goes and ends when a request succeeds again: it is the wait after a reclaim.  The
very first request may find capacity at once (`available_fraction` says how often it did).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError
from planner.assumptions import Assumptions, load_assumptions
from planner.catalogue import Instance
from planner.data_files import Column, Row, Table, read_table
from planner.hazard_tables import same_accelerator_names
from planner.tables import PROVIDERS
from simulator.provision import ConstantProvision, EmpiricalProvision, Provision

PROVISION_WAITS = Table(
    "provision_waits.csv",
    (
        Column("name"),
        Column("provider", choices=PROVIDERS),
        Column("instance"),
        Column("region", optional=True),
        Column("waits", "count", minimum=1),
        Column("hours"),
        Column("available_fraction", "number", minimum=0, maximum=1),
        Column("source"),
        Column("as_of", "date"),
        Column("note"),
    ),
    key=("name",),
)

ESTIMATE = "estimate"
ASSUMED = "assumed"

FLAGS: Mapping[str, str] = {
    ESTIMATE: "from another instance type with the same accelerator",
    ASSUMED: "an assumption: no trace of this type's waits is known",
}


@dataclass(frozen=True, slots=True)
class ProvisionSource:
    """One answer: `provision` for the simulator, its mean in hours, how many waits it rests on (None: none)."""

    name: str
    provision: Provision
    mean_hours: float
    waits: int | None
    available_fraction: float | None
    source: str
    as_of: str
    note: str
    flags: tuple[str, ...] = ()


def provision_sources(
    instance: Instance,
    region: str | None,
    *,
    assumptions: Assumptions | None = None,
    directory: Path | None = None,
) -> tuple[ProvisionSource, ...]:
    """Every source for `instance` in `region` (None: any), best first; the stated assumption is always the last."""
    rows = _waits(directory)
    found = _of_types(rows, instance, {instance.name}, region, ())
    if not found:
        found = _of_types(rows, instance, same_accelerator_names(instance, directory), None, (ESTIMATE,))
    stated = (assumptions or load_assumptions(directory)).row("provision_hours")
    wait = ConstantProvision(stated.value)
    assumed = ProvisionSource(
        "assumption",
        wait,
        stated.value,
        None,
        None,
        stated.source,
        stated.as_of,
        "the same wait every time",
        (ASSUMED,),
    )
    return (*found, assumed)


def load_provision_waits(directory: Path | None = None) -> tuple[ProvisionSource, ...]:
    """Every row of the table (`directory`: another folder of tables); InvalidInputError names what is wrong."""
    return tuple(_source(row, ()) for row in _waits(directory))


def _of_types(
    rows: Iterable[Row], instance: Instance, names: Iterable[str], region: str | None, flags: tuple[str, ...]
) -> list[ProvisionSource]:
    wanted = set(names)
    mine = [row for row in rows if row.text("provider") == instance.provider and row.text("instance") in wanted]
    here = [row for row in mine if region is not None and row.optional_text("region") == region]
    return [_source(row, flags) for row in here or [row for row in mine if row.optional_text("region") is None]]


def _source(row: Row, flags: tuple[str, ...]) -> ProvisionSource:
    try:
        provision = EmpiricalProvision.from_waits([float(text) for text in row.text("hours").split()])
    except (ValueError, InvalidInputError):
        where = f"{PROVISION_WAITS.name} line {row.line}, column hours"
        raise InvalidInputError(where, row.text("hours"), "waits in hours >= 0, separated by blanks") from None
    return ProvisionSource(
        name=f"waits:{row.text('name')}",
        provision=provision,
        mean_hours=provision.expected_hours,
        waits=int(row.number("waits")),
        available_fraction=row.number("available_fraction"),
        source=row.text("source"),
        as_of=row.text("as_of"),
        note=row.text("note"),
        flags=flags,
    )


@cache
def _waits(directory: Path | None) -> tuple[Row, ...]:
    return read_table(PROVISION_WAITS, directory)
