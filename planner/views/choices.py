"""What a page offers to choose from, and what stands there when nothing was chosen."""

from __future__ import annotations

import math
import typing

from planner import render
from planner.catalogue import Catalogue, Instance
from planner.completion import DEFAULT_RUNS
from planner.hazards import hazard_sources
from planner.ranking import OBJECTIVES
from planner.scenario import Policy
from planner.views.link import EXAMPLE, Link, fields_by_key, keys_by_path
from planner.views.market import Live

BEST_SOURCE = "best"
OWN_RATE = "my own rate"
RUNS = str(DEFAULT_RUNS)
LIFETIME_KEYS = tuple(key for path, key in keys_by_path().items() if path[:2] == ("market", "lifetime"))
BELONGS_TO_TYPE = (
    "provider",
    "region",
    "zone",
    "hazard",
    "spot-usd-per-hour",
    "on-demand-usd-per-hour",
)
"""Keys that are about one instance type and fall when another is chosen."""

_FALLBACK_RATE = "0.1"
_RATES = ("0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.03", "0.05", "0.07", "0.1",
          "0.15", "0.2", "0.3", "0.5", "0.7", "1", "1.5", "2", "3", "5")  # fmt: skip


def instances(catalogue: Catalogue) -> dict[str, Instance]:
    """Every instance type by name, those with a price first."""
    unpriced = {row.name for row in catalogue.unpriced()}
    return {row.name: row for row in sorted(catalogue.instances, key=lambda row: row.name in unpriced)}


def instance_label(row: Instance) -> str:
    """A type with what is in it."""
    return f"{row.name} · {row.accelerator_count} × {row.accelerator} · {row.provider}"


def places(catalogue: Catalogue, instance: str, region: str | None) -> tuple[list[str], list[str]]:
    """Regions and (within `region`) zones with a known price of the type."""
    if instance not in instances(catalogue):
        return [], []
    offers = catalogue.offers(instance)
    regions = sorted({offer.region for offer in offers})
    zones = sorted({offer.zone for offer in offers if offer.zone is not None and region in (None, offer.region)})
    return regions, zones


def policies() -> tuple[str, ...]:
    """Names of the deadline policies."""
    annotation = Policy.model_fields["name"].annotation
    words = [word for part in typing.get_args(annotation) for word in typing.get_args(part)]
    return tuple(str(word) for word in words)


def objectives(given: typing.Mapping[str, str]) -> tuple[str, ...]:
    """What the best place may be best at: meeting a deadline only where there is one."""
    return tuple(name for name in OBJECTIVES if name != "deadline" or "deadline-hours" in given)


def run_counts(chosen: str | None) -> tuple[str, ...]:
    """How many runs may be simulated, the chosen number among them."""
    counts = {2_000, 5_000, DEFAULT_RUNS, 100_000}
    if chosen is not None:
        counts.add(int(fields_by_key()["runs"].type.read(chosen)))
    return tuple(str(count) for count in sorted(counts))


def number(text: str | None, link: Link | None, key: str, *, whole: bool, optional: bool) -> float | int | None:
    """What a number input shows: the given value, else what the scenario was completed with, else nothing."""
    value: object = None
    if text is not None:
        value = fields_by_key()[key].type.read(text)
    elif not optional and link is not None:
        value = link.completed[".".join(fields_by_key()[key].path)]
    elif not optional and key in EXAMPLE:
        value = float(EXAMPLE[key])
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 1 if whole and not optional else None
    return int(value) if whole else float(value)


def share(text: str | None, link: Link | None, key: str) -> float:
    """What a slider from 0 to 1 shows."""
    found = number(text, link, key, whole=False, optional=False)
    return 1.0 if found is None else min(1.0, max(0.0, float(found)))


def hazards(link: Link | None, catalogue: Catalogue, instance: str) -> tuple[str, ...]:
    """Names of the sources that know the type, best first."""
    row = instances(catalogue).get(instance)
    if row is None:
        return ()
    region = None if link is None else link.completed["fleet.region"]
    return tuple(source.name for source in hazard_sources(row, region, assumptions=catalogue.assumptions))


def has_own_lifetime(given: typing.Mapping[str, str]) -> bool:
    """Whether the query says itself how often nodes are reclaimed."""
    return any(key in given for key in LIFETIME_KEYS)


def rate_text(link: Link | None) -> str:
    """The rate in use, to start a slider from."""
    rate = 0.0 if link is None else float(link.completed["market.rate_per_hour"])
    return f"{rate:.3g}" if rate > 0.0 and math.isfinite(rate) else _FALLBACK_RATE


def rate_steps(rate: str) -> tuple[str, ...]:
    """Steps of the rate slider, the current rate among them."""
    return tuple(sorted({*_RATES, rate}, key=float))


def price_age(catalogue: Catalogue, instance: str, live: Live | None) -> str:
    """How old the prices are, in words."""
    if live is not None:
        age = render.duration(max(1.0, live.age_seconds))
        asked = "asked for just now" if live.age_seconds < 90.0 else f"up to {age} old"
        return f"Live prices of {live.instance}, {asked}; bundled ones where none could be had."
    if instance not in instances(catalogue):
        return "Bundled prices."
    dates = sorted({offer.as_of for offer in catalogue.offers(instance) if offer.as_of})
    if not dates:
        return f"No price of {instance} is bundled."
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return f"Bundled prices of {instance}, as of {span}."
