"""AWS: spot price history, on-demand prices and placement scores, by boto3 clients that are handed in.

Needs the permissions ec2:DescribeSpotPriceHistory, pricing:GetProducts and ec2:GetSpotPlacementScores.  Every failure
becomes an ExternalServiceError of one line; a page that fails makes its whole answer missing, never half of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from harness.errors import ExternalServiceError
from planner.prices.records import PlacementScore, PriceChange, utc

PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
"""Both names of the same market; the first one counts where a zone has both."""

LONGEST_HISTORY_DAYS = 90

Clients = Callable[[str, str], Any]
"""(service, region) → client."""

_REFUSED = {
    "AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException",
    "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException",
}  # fmt: skip
_NOT_PERMITTED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
_THROTTLED = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"}


def boto_clients() -> Clients:
    """Clients with the credentials of the environment, short timeouts and the SDK's own retries.

    Raises ExternalServiceError when there are no credentials.  Make clients in one thread; each may then be used in
    another.
    """
    import boto3
    from botocore.config import Config

    with _mapped("AWS credentials"):
        session = boto3.session.Session()
        if session.get_credentials() is None:
            raise ExternalServiceError("no AWS credentials found")
    config = Config(
        connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=4
    )

    def make(service: str, region: str) -> Any:
        with _mapped(f"AWS {service} client for {region}"):
            return session.client(service, region_name=region, config=config)

    return make


def spot_price_changes(
    client: Any, region: str, instances: Sequence[str], *, start: datetime, end: datetime
) -> tuple[PriceChange, ...]:
    """Every price change of `instances` in `region` within [start, end], and the prices in force at `start`.

    Source: EC2 DescribeSpotPriceHistory, all pages.  Rows without a zone id get it from DescribeAvailabilityZones
    where that is permitted.
    """
    with _mapped(f"AWS spot prices in {region}"):
        pages = client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(instances), ProductDescriptions=list(PRODUCTS), StartTime=start, EndTime=end
        )
        rows = [row for page in pages for row in page["SpotPriceHistory"]]
        preferred = {_zone_key(row) for row in rows if row["ProductDescription"] == PRODUCTS[0]}
        rows = [row for row in rows if row["ProductDescription"] == PRODUCTS[0] or _zone_key(row) not in preferred]
        ids = _zone_ids(client) if any(not row.get("AvailabilityZoneId") for row in rows) else {}
        return tuple(_change(row, region, ids) for row in rows)


def _zone_key(row: dict[str, Any]) -> tuple[str, str]:
    return row["InstanceType"], row.get("AvailabilityZoneId") or row["AvailabilityZone"]


def _change(row: dict[str, Any], region: str, ids: dict[str, str]) -> PriceChange:
    name = row.get("AvailabilityZone")
    moment = row["Timestamp"]
    return PriceChange(
        instance=row["InstanceType"],
        region=region,
        zone_id=row.get("AvailabilityZoneId") or ids.get(name or ""),
        zone_name=name,
        time=utc(moment.isoformat() if isinstance(moment, datetime) else moment),
        usd_per_hour=float(row["SpotPrice"]),
    )


def _zone_ids(client: Any) -> dict[str, str]:
    """This account's zone names → zone ids; empty when it may not be asked (the names are kept then)."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.describe_availability_zones()
    except (BotoCoreError, ClientError):
        return {}
    return {zone["ZoneName"]: zone["ZoneId"] for zone in answer["AvailabilityZones"] if zone.get("ZoneId")}


def on_demand_prices(client: Any, instance: str) -> dict[str, float]:
    """USD per hour of one instance type, Linux, by region.  `client` is a pricing client (endpoint us-east-1).

    Source: Price List GetProducts, all pages.  Without the market option, types such as p4d and p5 also match
    Capacity Blocks; without the location type, Local Zones.  A region with two different prices is left out.
    """
    filters = {
        "instanceType": instance,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "locationType": "AWS Region",
    }
    with _mapped(f"AWS on-demand prices of {instance}"):
        pages = client.get_paginator("get_products").paginate(
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()],
        )
        found: dict[str, set[float]] = {}
        for page in pages:
            for text in page["PriceList"]:
                product = json.loads(text)
                attributes = product["product"]["attributes"]
                if attributes.get("marketoption", "OnDemand") == "OnDemand" and "regionCode" in attributes:
                    found.setdefault(attributes["regionCode"], set()).update(_hourly_usd(product))
    return {region: next(iter(prices)) for region, prices in found.items() if len(prices) == 1}


def _hourly_usd(product: dict[str, Any]) -> Iterator[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for rate in term["priceDimensions"].values():
            usd = float(rate["pricePerUnit"].get("USD", "0"))
            if rate.get("unit", "Hrs") == "Hrs" and usd > 0.0:
                yield usd


def placement_scores(
    client: Any, instances: Sequence[str], nodes: int, regions: Sequence[str]
) -> tuple[PlacementScore, ...]:
    """Scores of the zones in `regions` for `nodes` instances of any of `instances`, best first.

    Source: EC2 GetSpotPlacementScores.  AWS says that a request for fewer than three types always scores low.
    """
    with _mapped("AWS spot placement scores"):
        pages = client.get_paginator("get_spot_placement_scores").paginate(
            InstanceTypes=list(instances), TargetCapacity=nodes, SingleAvailabilityZone=True, RegionNames=list(regions)
        )
        scores = [
            PlacementScore(row["Region"], row.get("AvailabilityZoneId"), int(row["Score"]))
            for page in pages
            for row in page["SpotPlacementScores"]
        ]
    return tuple(sorted(scores, key=lambda score: (-score.score, score.region, score.zone_id or "")))


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """The SDK's errors, and answers that lack what they must have, as one ExternalServiceError that names `what`."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NoConnectionError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        message = error.response.get("Error", {}).get("Message", "")
        raise ExternalServiceError(f"{what}: {_explained(code, message)}") from error
    except (
        NoConnectionError,
        HTTPClientError,
    ) as error:  # no route, no name, no answer in time: the texts differ by region, the cause not
        raise ExternalServiceError(f"{what}: no connection to AWS ({type(error).__name__})") from error
    except BotoCoreError as error:
        raise ExternalServiceError(f"{what}: {' '.join(str(error).split())[:200]}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExternalServiceError(f"{what}: an answer without {error}") from error


def _explained(code: str, message: str) -> str:
    if code in _REFUSED:
        return f"the credentials were refused ({code})"
    if code in _NOT_PERMITTED:
        return f"not permitted for these credentials ({code})"
    if code in _THROTTLED:
        return f"throttled, retries included ({code})"
    if code == "OptInRequired":
        return "the region is not enabled for this account (OptInRequired)"
    return f"{code}: {' '.join(message.split())[:160]}"
