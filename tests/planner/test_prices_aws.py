"""AWS prices through botocore's Stubber: real captured rows, pages, failures, Price List documents, scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from harness.errors import ExternalServiceError
from planner.prices import aws
from planner.prices.history import price_series_hours, zone_histories
from planner.prices.records import PriceChange, utc

# Captured by describe-spot-price-history in 2020 (stanford-futuredata/training_on_a_dime, logs/aws/cost, MIT).
CAPTURED = """\
2020-03-22T11:27:15.000Z,us-west-2a,p3.2xlarge,0.995000
2020-03-22T17:43:27.000Z,us-west-2a,p3.2xlarge,0.994100
2020-03-22T23:01:54.000Z,us-west-2a,p3.2xlarge,0.993500
2020-03-23T06:08:12.000Z,us-west-2a,p3.2xlarge,0.993100
2020-03-23T13:06:48.000Z,us-west-2a,p3.2xlarge,0.993400
2020-03-22T11:27:15.000Z,us-west-2c,p3.2xlarge,0.996600
2020-03-22T18:41:41.000Z,us-west-2c,p3.2xlarge,1.000500
2020-03-21T00:42:03.000Z,us-west-2b,p3.16xlarge,7.344000
2020-03-22T00:42:10.000Z,us-west-2b,p3.16xlarge,7.344000
"""
START, END = utc("2020-03-22T00:00:00Z"), utc("2020-03-24T00:00:00Z")
NAMES = ["p3.2xlarge", "p3.16xlarge"]


def captured_rows() -> list[dict[str, Any]]:
    """The rows as the API returns them: newest first, the price a string."""
    rows = []
    for line in CAPTURED.splitlines():
        time, zone, instance, price = line.split(",")
        rows.append(
            {
                "AvailabilityZone": zone,
                "InstanceType": instance,
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": price,
                "Timestamp": utc(time),
            }
        )
    return sorted(rows, key=lambda row: row["Timestamp"], reverse=True)


def make_client(service: str = "ec2", region: str = "us-west-2") -> Any:
    """A client that never leaves the machine: the Stubber answers for it."""
    return boto3.client(service, region_name=region, aws_access_key_id="test", aws_secret_access_key="test")


@contextmanager
def stubbed(client: Any) -> Iterator[Stubber]:
    """Answers in order; fails when one was not asked for."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def history_page(rows: list[dict[str, Any]], token: str = "") -> dict[str, Any]:
    """One page of DescribeSpotPriceHistory."""
    return {"SpotPriceHistory": rows, "NextToken": token}


ZONES = {
    "AvailabilityZones": [
        {"ZoneName": "us-west-2a", "ZoneId": "usw2-az2"},
        {"ZoneName": "us-west-2b", "ZoneId": "usw2-az1"},
    ]
}


def test_pages_are_joined_and_names_get_their_ids() -> None:
    """Two pages; rows without zone ids are looked up once; a zone without an id keeps its name, apart from it."""
    client = make_client()
    rows = captured_rows()
    with stubbed(client) as stubber:
        expected = {
            "InstanceTypes": NAMES,
            "ProductDescriptions": list(aws.PRODUCTS),
            "StartTime": START,
            "EndTime": END,
        }
        stubber.add_response("describe_spot_price_history", history_page(rows[:4], "more"), expected)
        stubber.add_response("describe_spot_price_history", history_page(rows[4:]), {**expected, "NextToken": "more"})
        stubber.add_response("describe_availability_zones", ZONES, {})
        changes = aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    assert len(changes) == 9
    zones = {(change.zone_name, change.zone_id, change.zone) for change in changes}
    assert zones == {
        ("us-west-2a", "usw2-az2", "usw2-az2"),
        ("us-west-2b", "usw2-az1", "usw2-az1"),
        ("us-west-2c", None, "us-west-2c"),
    }


def test_ids_in_the_rows_need_no_lookup() -> None:
    """A row that has its zone id is taken at its word: one call in all."""
    client = make_client()
    row = {**captured_rows()[0], "AvailabilityZoneId": "usw2-az9"}
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page([row]), ANY_PARAMETERS)
        (change,) = aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    assert (change.zone_id, change.zone_name, change.usd_per_hour) == ("usw2-az9", "us-west-2a", 0.9934)


ANY_PARAMETERS = {"InstanceTypes": ANY, "ProductDescriptions": ANY, "StartTime": ANY, "EndTime": ANY}


def test_lookup_that_is_not_permitted_keeps_names() -> None:
    """DescribeAvailabilityZones refused: prices are still there, by the account's names."""
    client = make_client()
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page(captured_rows()), ANY_PARAMETERS)
        stubber.add_client_error("describe_availability_zones", "UnauthorizedOperation", http_status_code=403)
        changes = aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    assert {change.zone for change in changes} == {"us-west-2a", "us-west-2b", "us-west-2c"}


def test_one_of_two_product_names_counts() -> None:
    """Where a zone has Linux/UNIX and its VPC name, the first; where only the VPC name, that."""
    client = make_client()
    both = captured_rows()[0]
    vpc = {**both, "ProductDescription": "Linux/UNIX (Amazon VPC)", "SpotPrice": "9.0"}
    alone = {**vpc, "AvailabilityZone": "us-west-2d"}
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page([both, vpc, alone]), ANY_PARAMETERS)
        stubber.add_response("describe_availability_zones", ZONES, {})
        changes = aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    assert {change.zone_name: change.usd_per_hour for change in changes} == {"us-west-2a": 0.9934, "us-west-2d": 9.0}


def test_empty_market_is_an_empty_answer() -> None:
    """A region without the type: no rows, no error, no lookup."""
    client = make_client()
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page([]), ANY_PARAMETERS)
        assert aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END) == ()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AuthFailure", "the credentials were refused (AuthFailure)"),
        ("UnauthorizedOperation", "not permitted for these credentials"),
        ("RequestLimitExceeded", "throttled, retries included"),
        ("OptInRequired", "the region is not enabled"),
        ("InternalError", "InternalError: told why"),
    ],
)
def test_failure_on_a_later_page_fails_the_whole_answer(code: str, expected: str) -> None:
    """Half a history is none: one line says which region and why.  The second page did fail."""
    client = make_client()
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page(captured_rows(), "more"), ANY_PARAMETERS)
        stubber.add_client_error("describe_spot_price_history", code, "told why")
        with pytest.raises(ExternalServiceError) as caught:
            aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    assert str(caught.value).startswith("AWS spot prices in us-west-2: ")
    assert expected in str(caught.value)


def test_no_network_is_one_line_without_an_address() -> None:
    """The same words in every region, so that many regions make one line."""

    class Unreachable:
        def get_paginator(self, name: str) -> Any:
            raise EndpointConnectionError(endpoint_url="https://ec2.us-west-2.amazonaws.com")

    with pytest.raises(ExternalServiceError, match=r"no connection to AWS \(EndpointConnectionError\)$"):
        aws.spot_price_changes(Unreachable(), "us-west-2", NAMES, start=START, end=END)


def test_no_credentials_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing in the environment, no files, no metadata service asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ExternalServiceError, match="no AWS credentials found"):
        aws.boto_clients()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    assert aws.boto_clients()("ec2", "eu-west-1").meta.region_name == "eu-west-1"
    with pytest.raises(ExternalServiceError, match="AWS ec2 client for not a region"):
        aws.boto_clients()("ec2", "not a region")
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(ExternalServiceError, match="not-there"):
        aws.boto_clients()


def changes_of(*rows: tuple[str, float], zone: str = "usw2-az2") -> list[PriceChange]:
    """Changes in one zone at the given times."""
    return [PriceChange("p3.2xlarge", "us-west-2", zone, None, utc(time), usd) for time, usd in rows]


def test_history_is_filled_forward() -> None:
    """Between changes the earlier price holds; before the first nothing is known; duplicates are one step."""
    (history,) = zone_histories(
        changes_of(
            ("2020-03-22T12:00:00Z", 2.0),
            ("2020-03-22T00:00:00Z", 1.0),
            ("2020-03-22T06:00:00Z", 1.0),
            ("2020-03-23T00:00:00Z", 4.0),
        )
    )
    assert history.usd_per_hour == (1.0, 2.0, 4.0)
    assert history.at(utc("2020-03-22T11:59:59Z")) == 1.0
    assert history.at(utc("2020-03-22T12:00:00Z")) == 2.0
    assert history.at(utc("2020-03-21T23:00:00Z")) is None
    start, end = utc("2020-03-22T00:00:00Z"), utc("2020-03-24T00:00:00Z")
    assert history.mean(start, end) == pytest.approx((12 * 1 + 12 * 2 + 24 * 4) / 48)
    assert history.mean(start - timedelta(days=1), end) == pytest.approx((12 * 1 + 12 * 2 + 24 * 4) / 48)
    assert history.lowest_and_highest(utc("2020-03-22T13:00:00Z"), end) == (2.0, 4.0)


def test_price_in_force_at_the_start_is_kept() -> None:
    """The API also returns the last change before StartTime: it is the price at hour 0 of a simulated job."""
    (history,) = zone_histories(changes_of(("2020-03-20T00:00:00Z", 1.0), ("2020-03-22T03:00:00Z", 2.0)))
    assert price_series_hours(history, START) == ([0.0, 3.0], [1.0, 2.0])
    assert price_series_hours(history, utc("2020-03-19T21:00:00Z")) == ([0.0, 54.0], [1.0, 2.0])


def test_captured_rows_make_the_histories_that_a_person_reads_off() -> None:
    """us-west-2a at midnight of 23 March cost 0.9935; p3.16xlarge's daily repeats of 7.344 are one step."""
    client = make_client()
    with stubbed(client) as stubber:
        stubber.add_response("describe_spot_price_history", history_page(captured_rows()), ANY_PARAMETERS)
        stubber.add_response("describe_availability_zones", ZONES, {})
        changes = aws.spot_price_changes(client, "us-west-2", NAMES, start=START, end=END)
    histories = {(h.instance, h.zone): h for h in zone_histories(changes)}
    assert histories["p3.2xlarge", "usw2-az2"].at(utc("2020-03-23T00:00:00Z")) == 0.9935
    assert histories["p3.16xlarge", "usw2-az1"].usd_per_hour == (7.344,)


def price_list_item(region: str, usd: str, *, option: str = "OnDemand", unit: str = "Hrs") -> str:
    """A product as GetProducts returns it: a JSON string."""
    return json.dumps(
        {
            "product": {
                "attributes": {"regionCode": region, "instanceType": "p4d.24xlarge", "marketoption": option},
                "sku": "S",
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {"S.T": {"priceDimensions": {"S.T.R": {"unit": unit, "pricePerUnit": {"USD": usd}}}}}
            },
        }
    )


def test_on_demand_prices_of_all_pages_and_only_on_demand() -> None:
    """Capacity Blocks, zero prices and ambiguous regions are left out; the market option is asked for."""
    client = make_client("pricing", "us-east-1")
    first = [
        price_list_item("us-east-1", "21.9576420000"),
        price_list_item("us-east-1", "11.0", option="CapacityBlock"),
        price_list_item("eu-west-1", "0.0000000000"),
    ]
    second = [
        price_list_item("us-west-2", "21.9576400000"),
        price_list_item("ap-south-1", "1.0"),
        price_list_item("ap-south-1", "2.0"),
    ]
    wanted = {"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": ANY}
    asked: list[dict[str, Any]] = []
    client.meta.events.register("provide-client-params.pricing.GetProducts", lambda params, **_: asked.append(params))
    with stubbed(client) as stubber:
        stubber.add_response("get_products", {"PriceList": first, "NextToken": "2"}, wanted)
        stubber.add_response("get_products", {"PriceList": second}, {**wanted, "NextToken": "2"})
        assert aws.on_demand_prices(client, "p4d.24xlarge") == {"us-east-1": 21.957642, "us-west-2": 21.95764}
    filters = {(f["Field"], f["Value"]) for f in asked[0]["Filters"]}
    assert {("marketoption", "OnDemand"), ("locationType", "AWS Region"), ("instanceType", "p4d.24xlarge")} <= filters


def test_price_list_of_another_form_is_an_external_failure() -> None:
    """Text that is no JSON, a product without attributes: one line, no KeyError."""
    for text in (
        "{",
        '{"product": {}}',
        '{"product": {"attributes": {"regionCode": "r"}}, "terms": {"OnDemand": {"x": {}}}}',
    ):
        client = make_client("pricing", "us-east-1")
        with stubbed(client) as stubber:
            stubber.add_response("get_products", {"PriceList": [text]})
            with pytest.raises(ExternalServiceError, match=r"AWS on-demand prices of p4d\.24xlarge: an answer without"):
                aws.on_demand_prices(client, "p4d.24xlarge")


def test_placement_scores_best_first() -> None:
    """All pages, sorted by score; asked per zone for the wanted capacity."""
    client = make_client()
    wanted = {
        "InstanceTypes": ["p4d.24xlarge"],
        "TargetCapacity": 4,
        "SingleAvailabilityZone": True,
        "RegionNames": ["us-east-1", "us-west-2"],
    }
    with stubbed(client) as stubber:
        rows = [{"Region": "us-east-1", "AvailabilityZoneId": "use1-az1", "Score": 1}]
        stubber.add_response("get_spot_placement_scores", {"SpotPlacementScores": rows, "NextToken": "n"}, wanted)
        rows = [{"Region": "us-west-2", "AvailabilityZoneId": "usw2-az2", "Score": 9}]
        stubber.add_response("get_spot_placement_scores", {"SpotPlacementScores": rows}, {**wanted, "NextToken": "n"})
        scores = aws.placement_scores(client, ["p4d.24xlarge"], 4, ["us-east-1", "us-west-2"])
    assert [(score.zone_id, score.score) for score in scores] == [("usw2-az2", 9), ("use1-az1", 1)]


def test_times_of_any_zone_become_utc() -> None:
    """A naive time is UTC; an offset is converted."""
    assert utc("2020-01-01T01:00:00+01:00") == datetime(2020, 1, 1, tzinfo=UTC) == utc("2020-01-01T00:00:00")
