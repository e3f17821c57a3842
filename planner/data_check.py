"""Checks of the bundled tables (or of others with the same columns): each cell, and whether the tables agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from planner import tables
from planner.catalogue import FLAGS, load_catalogue
from planner.data_files import AsOf, Row, scan_table
from planner.lifetime_table import LIFETIMES, load_fitted_lifetimes
from planner.provision_waits import PROVISION_WAITS, load_provision_waits

EVERY_TABLE = (*tables.ALL_TABLES, LIFETIMES, PROVISION_WAITS)
"""What ships in `data/`."""

_ABOVE_ON_DEMAND = 1.005
"""Sources round to four digits: half a percent above on-demand is no finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong (`error`: the tables must not be used) or odd (`warning`) at a place in a table."""

    severity: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """How many rows each table has, what was found, and what the catalogue holds (empty when there are errors)."""

    rows: dict[str, int]
    findings: tuple[Finding, ...]
    instances: dict[str, int]
    offers: dict[str, int]
    flags: dict[str, int]
    unpriced: tuple[str, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What must be put right."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What deserves a look."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


def check_data(directory: Path | None = None, *, today: date) -> DataReport:
    """Every table in `directory` (default: the bundled ones), checked against its columns and against the others.

    `today` decides which dates lie in the future.  Never raises for bad data: it is what the report is about.
    """
    scanned = {table.name: scan_table(table, directory) for table in EVERY_TABLE}
    findings = [
        Finding("error", error.field, f"got {str(error.value)!r}, expected {error.expected}" + _hint(error))
        for _, errors in scanned.values()
        for error in errors
    ]
    rows = {name: found for name, (found, _) in scanned.items()}
    broken = {name for name, (_, errors) in scanned.items() if errors}
    findings += [*_future_dates(rows, today), *_unknown_names(rows, broken), *_rates_without_ends(rows)]
    findings += _odd_prices(rows)
    if LIFETIMES.name not in broken:
        findings += [*_parsed(lambda: load_fitted_lifetimes(directory)), *_families(rows, broken)]
    if PROVISION_WAITS.name not in broken:
        findings += _parsed(lambda: load_provision_waits(directory))
    counts = {name: len(found) for name, found in rows.items()}
    if any(finding.severity == "error" for finding in findings):
        return DataReport(counts, tuple(findings), {}, {}, {}, ())
    catalogue = load_catalogue(directory)
    offers = catalogue.all_offers()
    flags = Counter(flag for offer in offers for flag in offer.flags)
    return DataReport(
        rows=counts,
        findings=tuple(findings),
        instances=dict(Counter(instance.provider for instance in catalogue.instances)),
        offers=dict(Counter(offer.provider for offer in offers)),
        flags={flag: flags[flag] for flag in FLAGS if flags[flag]},
        unpriced=tuple(instance.name for instance in catalogue.unpriced()),
    )


def _hint(error: InvalidInputError) -> str:
    return f" ({error.hint})" if error.hint else ""


def _future_dates(rows: dict[str, tuple[Row, ...]], today: date) -> Iterator[Finding]:
    for name, found in rows.items():
        for row in found:
            if AsOf.parse(row.text("as_of")).first > today:
                where = f"{name} line {row.line}, column as_of"
                yield Finding("error", where, f"{row.text('as_of')} lies in the future (today is {today})")


def _unknown_names(rows: dict[str, tuple[Row, ...]], broken: set[str]) -> Iterator[Finding]:
    """Names that the table of names lacks; not asked of a broken table, whose bad rows would all look unknown."""
    if tables.INSTANCES.name not in broken:
        known = {(row.text("provider"), row.text("instance")) for row in rows[tables.INSTANCES.name]}
        for table in (tables.PRICES, tables.SPOT_ADVISOR, tables.INTERRUPTION_RATES, PROVISION_WAITS):
            for row in rows[table.name]:
                provider, instance = row.text("provider"), row.text("instance")
                if (provider, instance) not in known:
                    hint = did_you_mean(instance, (name for owner, name in known if owner == provider))
                    where = f"{table.name} line {row.line}, column instance"
                    yield Finding("error", where, f"{provider} {instance} is not in instances.csv" + _question(hint))
    if tables.ACCELERATORS.name not in broken:
        models = {row.text("accelerator") for row in rows[tables.ACCELERATORS.name]}
        for row in rows[tables.INSTANCES.name]:
            accelerator = row.text("accelerator")
            if accelerator not in models:
                where = f"{tables.INSTANCES.name} line {row.line}, column accelerator"
                hint = _question(did_you_mean(accelerator, models))
                yield Finding("error", where, f"{accelerator} is not in accelerators.csv" + hint)


def _parsed(load: Callable[[], object]) -> Iterator[Finding]:
    """What a table's own loader says about cells that hold more than one number."""
    try:
        load()
    except InvalidInputError as error:
        yield Finding("error", error.field, f"got {str(error.value)!r}, expected {error.expected}" + _hint(error))


def _families(rows: dict[str, tuple[Row, ...]], broken: set[str]) -> Iterator[Finding]:
    """Fits to types that are neither in the catalogue nor the start of one."""
    if tables.INSTANCES.name in broken:
        return
    known = [(row.text("provider"), row.text("instance")) for row in rows[tables.INSTANCES.name]]
    for row in rows[LIFETIMES.name]:
        wanted = row.text("instance")
        family = (f"{wanted}.", f"{wanted}+")
        if not any(
            row.text("provider") == owner and (name == wanted or name.startswith(family)) for owner, name in known
        ):
            where = f"{LIFETIMES.name} line {row.line}, column instance"
            yield Finding("error", where, f"{wanted} is neither a type nor a family of instances.csv")


def _question(hint: str | None) -> str:
    return f" ({hint})" if hint else ""


def _rates_without_ends(rows: dict[str, tuple[Row, ...]]) -> Iterator[Finding]:
    for row in rows[tables.INTERRUPTION_RATES.name]:
        pairs = (
            ("rate_per_hour_low", "rate_per_hour_high"),
            ("probability_per_hour_low", "probability_per_hour_high"),
        )
        given = [(row.optional_number(low), row.optional_number(high)) for low, high in pairs]
        whole = [(low, high) for low, high in given if low is not None and high is not None]
        where = f"{tables.INTERRUPTION_RATES.name} line {row.line}"
        if not whole:
            yield Finding("error", where, f"{row.text('instance')}: neither a rate nor a probability with both ends")
        if any(low > high for low, high in whole):
            yield Finding("error", where, f"{row.text('instance')}: the lower end is above the upper end")


def _odd_prices(rows: dict[str, tuple[Row, ...]]) -> Iterator[Finding]:
    prices = rows[tables.PRICES.name]
    on_demand = {
        (row.text("provider"), row.text("instance"), row.text("region"), row.text("scope")): row.number("usd_per_hour")
        for row in prices
        if row.text("market") == "on-demand"
    }
    for row in prices:
        where = f"{tables.PRICES.name} line {row.line}"
        if row.text("market") == "on-demand":
            if row.optional_text("zone"):
                yield Finding("error", where, "on-demand prices are per region: the zone must be empty")
            continue
        whole = on_demand.get((row.text("provider"), row.text("instance"), row.text("region"), row.text("scope")))
        spot = row.number("usd_per_hour")
        if whole is not None and spot > _ABOVE_ON_DEMAND * whole:
            place = row.text("zone") or row.text("region")
            message = f"{row.text('instance')} in {place}: spot {spot:g} is above on-demand {whole:g} USD/h"
            yield Finding("warning", where, message)
