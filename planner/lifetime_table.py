"""``data/lifetimes.csv``: lifetimes fitted to public traces, with standard errors and their source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidInputError
from planner.data_files import Column, Row, Table, read_table
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull

LIFETIMES = Table(
    "lifetimes.csv",
    (
        Column("name"),
        Column("provider", choices=("aws", "gcp", "azure")),
        Column("instance"),
        Column("region", optional=True),
        Column("observed", choices=("reclaims", "launch-probes")),
        Column("distribution", choices=("exponential", "weibull", "bathtub")),
        Column("parameters"),
        Column("standard_errors"),
        Column("events", "count", minimum=0),
        Column("exposure_hours", "number", minimum=0),
        Column("bulk", "number", optional=True, minimum=0, maximum=1),
        Column("source"),
        Column("as_of", "date"),
        Column("note"),
    ),
    key=("name",),
)

_PARAMETERS = {
    "exponential": ("rate_per_hour",),
    "weibull": ("shape", "scale_hours"),
    "bathtub": ("a", "tau1_hours", "b_hours", "tau2_hours", "cap_hours"),
}


@dataclass(frozen=True, slots=True)
class FittedLifetime:
    """One row: a distribution fitted to a public trace."""

    name: str
    provider: str
    instance: str
    """Instance type, or a family where the trace names no size."""
    region: str | None
    """The one region that it was seen in; None for several, or where the trace does not say."""
    observed: str
    """reclaims of running nodes, or launch-probes: stretches in which a launch succeeded, not one node's life."""
    lifetime: Lifetime
    standard_errors: dict[str, float]
    """By parameter; a given cap has none."""
    events: int
    exposure_hours: float
    bulk: float | None
    """Probability that another node goes along with a reclaimed one; None where the trace cannot tell."""
    source: str
    as_of: str
    note: str


def load_fitted_lifetimes(directory: Path | None = None) -> tuple[FittedLifetime, ...]:
    """Every row of the table (`directory`: another folder of tables); InvalidInputError names what is wrong."""
    return tuple(_fitted(row) for row in read_table(LIFETIMES, directory))


def _fitted(row: Row) -> FittedLifetime:
    distribution = row.text("distribution")
    given = _numbers(row, "parameters")
    wanted = _PARAMETERS[distribution]
    missing = [name for name in wanted if name not in given and name != "cap_hours"]
    if missing or set(given) - set(wanted):
        expected = f"the parameters {', '.join(wanted)}, each as name=value"
        raise InvalidInputError(f"lifetimes.csv line {row.line}, column parameters", row.text("parameters"), expected)
    lifetime: Lifetime
    if distribution == "exponential":
        lifetime = Exponential(given["rate_per_hour"])
    elif distribution == "weibull":
        lifetime = Weibull(given["shape"], given["scale_hours"])
    else:
        cap = given.get("cap_hours")
        lifetime = Bathtub(given["a"], given["tau1_hours"], given["b_hours"], given["tau2_hours"], cap)
    return FittedLifetime(
        name=row.text("name"),
        provider=row.text("provider"),
        instance=row.text("instance"),
        region=row.optional_text("region"),
        observed=row.text("observed"),
        lifetime=lifetime,
        standard_errors=_numbers(row, "standard_errors"),
        events=row.optional_count("events") or 0,
        exposure_hours=row.number("exposure_hours"),
        bulk=row.optional_number("bulk"),
        source=row.text("source"),
        as_of=row.text("as_of"),
        note=row.text("note"),
    )


def _numbers(row: Row, column: str) -> dict[str, float]:
    """``name=value`` pairs separated by blanks."""
    found = {}
    for pair in row.text(column).split():
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            where = f"lifetimes.csv line {row.line}, column {column}"
            raise InvalidInputError(where, pair, "name=number pairs separated by blanks") from None
    return found
