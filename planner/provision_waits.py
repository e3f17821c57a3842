"""How long a request waits for capacity: every source behind one interface, best first, like the interruption rates.

    own-log          waits in the user's own log (`own_waits_source`): a membership log or a trace of capacity
    profile          time from a reclaim to the replacement, as the harness measured it, less the assumed boot
    waits:NAME       waits in public traces of this type: those of the region, else pooled (`data/provision_waits.csv`)
    waits:NAME       of the smallest type with the same accelerator at the same provider, an estimate
    placement-score  AWS's score of the type in the zone (with --live), by a stated conversion: an assumption
    assumption       the stated constant, always there, always last

A profile of fewer than `FEW_WAITS` waits comes after the traces of its type.  A wait in a trace begins when capacity
goes and ends when a request succeeds again: it is the wait after a reclaim.  The very first request may find capacity
at once (`available_fraction` says how often it did).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError
from harness.telemetry.schema import Profile
from planner.assumptions import Assumptions, load_assumptions
from planner.catalogue import Instance
from planner.data_files import Column, Row, Table, read_table
from planner.hazard_tables import same_accelerator_names
from planner.profile import describes, profile_as_of, profile_source
from planner.tables import PROVIDERS
from simulator.provision import ConstantProvision, EmpiricalProvision, ExponentialProvision, Provision

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
CONVERTED = "converted-score"
FEW = "few-waits"

FEW_WAITS = 5
"""A mean of fewer is off by more than 40 % as often as not: traces of the same type say more."""

HIGHEST_SCORE = 10
_LONGEST_TAIL = 1e-3
"""Requests that go on failing beyond this probability are taken to succeed then."""

FLAGS: Mapping[str, str] = {
    FEW: "measured only a few times",
    CONVERTED: "a rank from 1 to 10, read as a probability: an assumption, not a measurement",
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
    own: ProvisionSource | None = None,
    profile: Profile | None = None,
    score: int | None = None,
    score_as_of: str = "",
    assumptions: Assumptions | None = None,
    directory: Path | None = None,
) -> tuple[ProvisionSource, ...]:
    """Every source for `instance` in `region` (None: any), best first; the stated assumption is always the last.

    `own` is made from the user's log (`own_waits_source`); `profile` is a measured one of this job; `score` is AWS's
    placement score of the type in the wanted zone.
    """
    known = assumptions or load_assumptions(directory)
    rows = _waits(directory)
    traces = _of_types(rows, instance, {instance.name}, region, ())
    measured = _profile_source(profile, instance, known)
    if measured is not None:
        traces = [*traces, measured] if FEW in measured.flags else [measured, *traces]
    found = [*([own] if own is not None else []), *traces]
    if not traces:
        found += _of_types(rows, instance, same_accelerator_names(instance, directory), None, (ESTIMATE,))
    if score is not None:
        found.append(_score_source(score, score_as_of, known))
    stated = known.row("provision_hours")
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


def own_waits_source(path: Path) -> ProvisionSource | None:
    """The waits in the user's own log (a membership log, a capacity trace, a CSV of waits); None where it holds none.

    InvalidInputError for a file that cannot be read.
    """
    from planner.traces.files import load_trace  # numpy, which only a log needs

    waits = load_trace(path).waits_hours
    if not waits:
        return None
    provision = EmpiricalProvision.from_waits(waits)
    as_of = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC).date().isoformat()
    return ProvisionSource(
        name="own-log",
        provision=provision,
        mean_hours=provision.expected_hours,
        waits=len(waits),
        available_fraction=None,
        source=f"{len(waits)} waits in your log {path.name}",
        as_of=as_of,
        note="every measured wait as likely as the others",
        flags=(FEW,) if len(waits) < FEW_WAITS else (),
    )


def _profile_source(profile: Profile | None, instance: Instance, assumptions: Assumptions) -> ProvisionSource | None:
    """A profile holds the mean and the number of its waits, not each: an exponential wait with that mean."""
    if profile is None or profile.replacement_seconds is None or not describes(profile, instance):
        return None
    measured = profile.replacement_seconds
    boot = assumptions.value("boot_seconds")
    hours = max(0.0, measured.mean - boot) / 3600.0
    return ProvisionSource(
        name="profile",
        provision=ExponentialProvision(hours) if hours > 0.0 else ConstantProvision(0.0),
        mean_hours=hours,
        waits=measured.n,
        available_fraction=None,
        source=profile_source(
            profile, measured.n, f"replacements after {measured.mean:.4g} s, less {boot:g} s of boot"
        ),
        as_of=profile_as_of(profile),
        note="exponential with the measured mean",
        flags=(FEW,) if measured.n < FEW_WAITS else (),
    )


def _score_source(score: int, as_of: str, assumptions: Assumptions) -> ProvisionSource:
    """A placement score as a wait: requests succeed with probability (score - 1/2) / 10 and are tried again.

    AWS says that 10 is "highly likely" to succeed, not certain, and publishes no probability: the middle of the score's
    tenth stands in.  Retries are `placement_retry_hours` apart, and the request that succeeds takes `provision_hours`.
    """
    first, again = assumptions.row("provision_hours"), assumptions.row("placement_retry_hours")
    success = (min(max(score, 1), HIGHEST_SCORE) - 0.5) / HIGHEST_SCORE
    hours: list[float] = []
    cumulative: list[float] = []
    failing = 1.0
    while failing > _LONGEST_TAIL and (again.value > 0.0 or not hours):
        hours.append(first.value + len(hours) * again.value)
        failing *= 1.0 - success
        cumulative.append(1.0 - failing)
    cumulative[-1] = 1.0
    provision = EmpiricalProvision(tuple(hours), tuple(cumulative))
    return ProvisionSource(
        name="placement-score",
        provision=provision,
        mean_hours=provision.expected_hours,
        waits=None,
        available_fraction=success,
        source=(
            f"AWS GetSpotPlacementScores: {score} of {HIGHEST_SCORE}, read as requests that succeed with probability "
            f"{success:.2f}, tried again every {again.value:g} h (assumption: the middle of the score's tenth; AWS "
            "publishes no probability, and scores a request for one type low)"
        ),
        as_of=as_of,
        note="geometric",
        flags=(CONVERTED,),
    )


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
