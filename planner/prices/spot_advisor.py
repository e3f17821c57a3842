"""AWS's Spot Instance Advisor, as the public file behind its page: interruption bands and savings, no key needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from harness.clock import Clock
from harness.errors import ExternalServiceError
from planner.bands import LABELS, Band
from planner.prices.transport import Transport, get_json

URL = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"
SOURCE = "AWS Spot Instance Advisor"


def fetch_bands(transport: Transport, *, clock: Clock, url: str = URL) -> tuple[Band, ...]:
    """Every Linux entry of the file, dated now.

    Raises ExternalServiceError when it cannot be had or is not the file that this reader knows: another set of bands
    must not be read as the old one.
    """
    document = get_json(transport, url, what=SOURCE, clock=clock)
    as_of = datetime.fromtimestamp(clock.wall(), tz=UTC).date().isoformat()
    try:
        return _bands(_mapping(document), as_of)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExternalServiceError(f"{SOURCE}: the file has another form than expected ({error!r})") from error


def _bands(document: Mapping[str, Any], as_of: str) -> tuple[Band, ...]:
    labels = {entry["index"]: entry["label"] for entry in document["ranges"]}
    if labels != dict(enumerate(LABELS)):
        raise ExternalServiceError(f"{SOURCE}: the bands are {sorted(labels.values())}, expected {list(LABELS)}")
    bands = []
    for region, systems in document["spot_advisor"].items():
        for instance, entry in _mapping(systems.get("Linux", {})).items():
            index = int(entry["r"])
            if index not in labels:
                raise ValueError(f"band {index}")
            bands.append(Band("aws", instance, region, index, float(entry["s"]), SOURCE, as_of))
    return tuple(bands)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where an object belongs")
    return value
