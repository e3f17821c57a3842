"""Prices over HTTP, against a real server on loopback: pages, 500s, truncated bodies, silence, other forms."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.clock import FakeClock
from harness.errors import ExternalServiceError
from planner.catalogue import load_catalogue
from planner.prices import azure, gcp, spot_advisor
from planner.prices.transport import FakeTransport, Response, UrllibTransport, get_json
from tests.planner.http_server import Reply, serving

CATALOGUE = load_catalogue()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is asked directly, whatever the machine's proxies are."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def as_json(document: object, **reply: Any) -> Reply:
    """A reply with a JSON body."""
    return Reply(json.dumps(document).encode(), **reply)


def fetch(url: str, clock: FakeClock, **options: Any) -> object:
    """One document through the real transport; waits move the fake clock."""
    return get_json(UrllibTransport(), url, what="test list", clock=clock, **options)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_server_errors_are_tried_again_with_growing_waits(status: int) -> None:
    """Two failures, then the document: 0.5 s and 1 s were waited, three requests made."""
    clock = FakeClock()
    with serving(Reply(status=status), Reply(status=status), as_json({"a": 1})) as server:
        assert fetch(server.url, clock) == {"a": 1}
        assert (len(server.requests), server.faults_fired) == (3, 2)
    assert clock.monotonic() == 1.5


def test_servers_own_wait_is_kept_up_to_a_limit() -> None:
    """Retry-After: 7 is waited for; an hour is not."""
    clock = FakeClock()
    replies = [Reply(status=429, headers={"Retry-After": after}) for after in ("7", "3600")]
    with serving(*replies, as_json([])) as server:
        assert fetch(server.url, clock) == []
        assert server.faults_fired == 2
    assert clock.monotonic() == 37.0


def test_truncated_body_is_tried_again_and_never_used() -> None:
    """Half of a valid list must not pass for a short one: the second, whole answer counts."""
    whole = as_json(list(range(1000)))
    with serving(Reply(whole.body, cut=500), whole) as server:
        assert fetch(server.url, FakeClock()) == list(range(1000))
        assert server.faults_fired == 1
    with serving(Reply(whole.body, cut=500)) as server:
        with pytest.raises(ExternalServiceError, match=r"ended 500 bytes early \(4 attempts\)"):
            fetch(server.url, FakeClock())
        assert server.faults_fired == 4


def test_whole_answers_that_are_no_json_fail_in_one_line() -> None:
    """A captive portal's page with status 200."""
    with (
        serving(Reply(b"<html>sign in</html>")) as server,
        pytest.raises(ExternalServiceError, match=r"^test list: the answer is not valid JSON \(4 attempts\)$"),
    ):
        fetch(server.url, FakeClock())


def test_refusal_is_not_tried_again() -> None:
    """403 stays 403."""
    with serving(Reply(status=403)) as server:
        with pytest.raises(ExternalServiceError, match="HTTP status 403"):
            fetch(server.url, FakeClock())
        assert len(server.requests) == 1


def test_silent_server_is_given_up() -> None:
    """A server that accepts and says nothing: a short timeout, then one line."""
    with serving(Reply(silent=True)) as server:
        with pytest.raises(ExternalServiceError, match=r"no (whole )?answer"):
            fetch(server.url, FakeClock(), attempts=2, timeout_seconds=0.05)
        assert server.wait_for_faults(2)


def test_drip_of_bytes_is_bounded_as_a_whole() -> None:
    """Each read is quick, but the clock says that the whole took longer than allowed."""

    class Hurrying(FakeClock):
        def monotonic(self) -> float:
            self.advance(15.0)
            return super().monotonic()

    with (
        serving(as_json({"a": "b" * 200_000})) as server,
        pytest.raises(ExternalServiceError, match="no whole answer within 20 s"),
    ):
        get_json(UrllibTransport(Hurrying()), server.url, what="t", clock=FakeClock(), attempts=1)


def test_nobody_listening_is_one_line() -> None:
    """A closed port."""
    with serving(Reply()) as server:
        url = server.url
    with pytest.raises(ExternalServiceError, match="refused"):
        fetch(url, FakeClock(), attempts=1)


def test_redirects_are_not_followed() -> None:
    """Another host must not be sent the key that travels in a header."""
    with (
        serving(as_json({"stolen": True})) as other,
        serving(Reply(status=302, headers={"Location": other.url})) as server,
    ):
        with pytest.raises(ExternalServiceError, match="HTTP status 302"):
            fetch(server.url, FakeClock(), headers={"X-Goog-Api-Key": "secret"})
        assert server.faults_fired == 1
        assert other.requests == []


def test_only_http_addresses_are_fetched() -> None:
    """file:///etc/passwd is no price list."""
    with pytest.raises(ExternalServiceError, match="not an http address"):
        fetch("file:///etc/passwd", FakeClock(), attempts=1)


# --- Azure


def azure_item(region: str, sku: str, price: float, **other: object) -> dict[str, object]:
    """An item of the retail price list, in the documented shape."""
    return {
        "currencyCode": "USD",
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "effectiveStartDate": "2026-06-01T00:00:00Z",
        "productName": "Virtual Machines ND A100 v4 Series",
        "skuName": sku,
        "armSkuName": "Standard_ND96asr_v4",
        "serviceName": "Virtual Machines",
        "type": "Consumption",
        **other,
    }


def test_azure_reads_all_pages_and_keeps_linux_spot_and_on_demand() -> None:
    """Windows, Low Priority, reservations and zero prices are left out; the row that took effect last counts."""
    first = [
        azure_item("eastus", "ND96asr v4", 27.197),
        azure_item("eastus", "ND96asr v4 Spot", 9.0, effectiveStartDate="2025-01-01T00:00:00Z"),
        azure_item("eastus", "ND96asr v4 Spot", 5.4, effectiveStartDate="2026-01-01T00:00:00Z"),
        azure_item("eastus", "ND96asr v4 Low Priority", 1.0),
    ]
    second = [
        azure_item("eastus", "ND96asr v4", 31.6, productName="Virtual Machines ND A100 v4 Series Windows"),
        azure_item("eastus", "ND96asr v4", 9.9, type="Reservation"),
        azure_item("westus2", "ND96asr v4 Spot", 0.0),
        azure_item("westus2", "ND96asr v4", 28.0),
    ]
    with serving(Reply()) as server:
        server.replies[:] = [
            as_json({"Items": first, "NextPageLink": f"{server.url}?page=2"}),
            as_json({"Items": second, "NextPageLink": None}),
        ]
        prices = azure.fetch_prices(
            UrllibTransport(), "Standard_ND96asr_v4", as_of="2026-11-24", clock=FakeClock(), url=server.url
        )
        asked = parse_qs(urlsplit(server.requests[0][0]).query)
    assert {(price.region, price.market, price.usd_per_hour) for price in prices} == {
        ("eastus", "on-demand", 27.197),
        ("eastus", "spot", 5.4),
        ("westus2", "on-demand", 28.0),
    }
    assert all(price.zone is None and price.as_of == "2026-11-24" for price in prices)
    assert "armSkuName eq 'Standard_ND96asr_v4'" in asked["$filter"][0]
    assert len(asked["api-version"][0]) > 5


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([as_json({"Items": [], "NextPageLink": "https://elsewhere.example/steal"})], "lies on another host"),
        ([as_json({"Rows": []})], "another form"),
        ([as_json([])], "another form"),
        ([as_json({"Items": [{"skuName": "x"}]})], "another form"),
        ([as_json({"Items": [azure_item("r", "x", 1.0, retailPrice="dear")]})], "another form"),
    ],
)
def test_azure_answers_of_another_form_are_failures(pages: list[Reply], expected: str) -> None:
    """One line, and nothing of the answer is used."""
    with serving(*pages) as server, pytest.raises(ExternalServiceError, match=expected):
        azure.fetch_prices(UrllibTransport(), "Standard_ND96asr_v4", as_of="d", clock=FakeClock(), url=server.url)


def test_azure_second_page_failing_fails_all() -> None:
    """Half a list is none."""
    with serving(Reply()) as server:
        page = {"Items": [azure_item("eastus", "ND96asr v4", 27.0)], "NextPageLink": f"{server.url}?page=2"}
        server.replies[:] = [as_json(page), Reply(status=503)]
        with pytest.raises(ExternalServiceError, match=r"HTTP status 503 \(4 attempts\)"):
            azure.fetch_prices(UrllibTransport(), "Standard_ND96asr_v4", as_of="d", clock=FakeClock(), url=server.url)
        assert server.faults_fired == 4


def test_azure_pages_without_end_are_given_up() -> None:
    """A next link that leads to itself."""
    answer = Response(200, json.dumps({"Items": [], "NextPageLink": "http://azure.example/p?x"}).encode())
    transport = FakeTransport({"http://azure.example/p": [answer]})
    with pytest.raises(ExternalServiceError, match="more than 50 pages"):
        azure.fetch_prices(transport, "T", as_of="d", clock=FakeClock(), url="http://azure.example/p")


# --- Google Cloud


def sku(
    description: str, usd: float, usage: str = "OnDemand", unit: str = "h", region: str = "us-central1"
) -> dict[str, Any]:
    """A SKU of the billing catalogue, in its documented shape."""
    units, nanos = divmod(round(usd * 1e9), 10**9)
    money = {"currencyCode": "USD", "units": str(units), "nanos": nanos}
    return {
        "skuId": description,
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": [region],
        "pricingInfo": [
            {
                "effectiveTime": "2026-08-01T00:00:00Z",
                "pricingExpression": {"usageUnit": unit, "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}]},
            }
        ],
    }


# On-demand parts of a2-highgpu-1g in us-central1 as Google lists them; their sum is its published 3.673385 USD/h.
A2_PARTS = [
    sku("A2 Instance Core running in Americas", 0.031611),
    sku("A2 Instance Ram running in Americas", 0.004237, unit="GiBy.h"),
    sku("Nvidia Tesla A100 GPU running in Americas", 2.933908),
]


def skus_of(*raw: dict[str, Any]) -> tuple[gcp.Sku, ...]:
    """Through the reader, as from the wire."""
    transport = FakeTransport({gcp.URL: [Response(200, json.dumps({"skus": raw}).encode())]})
    return gcp.fetch_skus(transport, "key", clock=FakeClock())


def test_gcp_machine_is_the_sum_of_its_parts() -> None:
    """12 vCPUs, 85 GiB and one A100: 3.673385 USD/h, which is also the bundled table's price."""
    row = CATALOGUE.instance("a2-highgpu-1g")
    prices, missing = gcp.machine_prices(skus_of(*A2_PARTS), row, as_of="2026-11-24")
    (price,) = prices
    assert (price.market, price.region, missing) == ("on-demand", "us-central1", ())
    assert price.usd_per_hour == pytest.approx(3.673385, abs=1e-6)
    bundled = [o for o in CATALOGUE.offers("a2-highgpu-1g") if o.region == "us-central1"]
    assert price.usd_per_hour == pytest.approx(bundled[0].on_demand_usd_per_hour or 0.0, abs=1e-4)


def test_gcp_spot_parts_are_preemptible_and_described_differently() -> None:
    """Spot needs its own descriptions and usage type; bundled local disks are billed by the month."""
    raw = [
        sku("Spot Preemptible A2 Instance Core running in Americas", 0.01, "Preemptible"),
        sku("Spot Preemptible A2 Instance Ram running in Americas", 0.001, "Preemptible", "GiBy.h"),
        sku("Nvidia Tesla A100 80GB GPU attached to Spot Preemptible VMs running in Americas", 1.5, "Preemptible"),
        sku("SSD backed Local Storage attached to Spot Preemptible VMs", 0.073, "Preemptible", "GiBy.mo"),
        sku("Commitment v1: Nvidia Tesla A100 80GB GPU running in Americas for 1 Year", 0.5, "Commit1Yr"),
    ]
    prices, missing = gcp.machine_prices(skus_of(*raw), CATALOGUE.instance("a2-ultragpu-1g"), as_of="d")
    (price,) = prices
    assert (price.market, missing) == ("spot", ())
    assert price.usd_per_hour == pytest.approx(12 * 0.01 + 170 * 0.001 + 1.5 + 375 * 0.073 / 730, abs=1e-6)


def test_gcp_part_without_a_sku_is_no_price() -> None:
    """The accelerator alone is not the machine: the region is named with what lacks."""
    prices, missing = gcp.machine_prices(
        skus_of(A2_PARTS[0], A2_PARTS[2]), CATALOGUE.instance("a2-highgpu-1g"), as_of="d"
    )
    assert prices == ()
    assert str(missing[0]) == "Google Cloud on-demand price of a2-highgpu-1g in us-central1: no price for memory"


def test_gcp_two_prices_for_one_part_are_no_price() -> None:
    """The cheaper duplicate is not taken."""
    other = sku("A2 Instance Core running in Iowa", 0.01)
    prices, missing = gcp.machine_prices(skus_of(*A2_PARTS, other), CATALOGUE.instance("a2-highgpu-1g"), as_of="d")
    assert prices == ()
    assert "two prices for vCPUs" in str(missing[0])


def test_gcp_type_whose_parts_are_unknown_is_missing() -> None:
    """Attachable accelerators and A4: said, not guessed."""
    for name in ("n1+1xV100", "a4-highgpu-8g"):
        prices, missing = gcp.machine_prices(skus_of(*A2_PARTS), CATALOGUE.instance(name), as_of="d")
        assert prices == ()
        assert name in str(missing[0])


def test_gcp_pages_and_the_key_travel_as_they_should() -> None:
    """All pages by token; the key in a header, never in an address (addresses end up in logs)."""
    with serving(Reply()) as server:
        server.replies[:] = [as_json({"skus": A2_PARTS[:2], "nextPageToken": "t2"}), as_json({"skus": A2_PARTS[2:]})]
        found = gcp.fetch_skus(UrllibTransport(), "secret-key", clock=FakeClock(), url=server.url)
        assert len(found) == 3
        assert "pageToken=t2" in server.requests[1][0]
        for path, headers in server.requests:
            assert "secret-key" not in path
            assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == "secret-key"


@pytest.mark.parametrize(
    "body",
    [
        {"skus": [{"description": "x"}]},
        {},
        [],
        {"skus": [{**A2_PARTS[0], "pricingInfo": [{"pricingExpression": {"tieredRates": [{}]}}]}]},
    ],
)
def test_gcp_answers_of_another_form_are_failures(body: object) -> None:
    """A SKU without its fields, no list, no object."""
    with serving(as_json(body)) as server:
        if body == {"skus": [{"description": "x"}]}:  # a SKU without a price is skipped, not a failure
            assert gcp.fetch_skus(UrllibTransport(), "k", clock=FakeClock(), url=server.url) == ()
            return
        with pytest.raises(ExternalServiceError, match="another form"):
            gcp.fetch_skus(UrllibTransport(), "k", clock=FakeClock(), url=server.url)


def test_gcp_price_in_another_currency_is_a_failure() -> None:
    """Euros must not pass for dollars."""
    foreign = json.loads(json.dumps(A2_PARTS[0]).replace('"USD"', '"EUR"'))
    with pytest.raises(ExternalServiceError, match="EUR"):
        skus_of(foreign)


# --- Spot Advisor

ADVISOR = {
    "global_rate": "<10%",
    "ranges": [
        {"index": index, "label": label, "dots": index, "max": most}
        for index, (label, most) in enumerate(
            [("<5%", 5), ("5-10%", 11), ("10-15%", 16), ("15-20%", 22), (">20%", 100)]
        )
    ],
    "instance_types": {"p3.16xlarge": {"emr": True, "cores": 64, "ram_gb": 488.0}},
    "spot_advisor": {
        "us-east-1": {"Linux": {"p3.16xlarge": {"s": 83, "r": 4}}, "Windows": {"p3.16xlarge": {"s": 40, "r": 0}}},
        "ca-central-1": {"Linux": {"p5.48xlarge": {"s": -62, "r": 0}}},
    },
}


def test_advisor_reads_linux_bands_and_negative_savings() -> None:
    """Linux only; savings may be negative; dated by the clock."""
    with serving(as_json(ADVISOR)) as server:
        bands = spot_advisor.fetch_bands(UrllibTransport(), clock=FakeClock(1_790_000_000.0), url=server.url)
    assert {(band.instance, band.region, band.label, band.savings_percent) for band in bands} == {
        ("p3.16xlarge", "us-east-1", ">20%", 83.0),
        ("p5.48xlarge", "ca-central-1", "<5%", -62.0),
    }
    assert {band.as_of for band in bands} == {"2026-09-21"}
    assert not any(band.looks_like_no_data for band in bands)


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": ADVISOR["ranges"][:4]},  # type: ignore[index]
        {"ranges": [{"index": 0, "label": "<3%"}]},
        {"spot_advisor": {"us-east-1": {"Linux": {"p3.16xlarge": {"s": 83, "r": 7}}}}},
        {"spot_advisor": []},
        {"spot_advisor": {"us-east-1": {"Linux": {"p3.16xlarge": {}}}}},
    ],
)
def test_advisor_with_other_bands_is_not_read_as_the_old_one(change: dict[str, object]) -> None:
    """A renumbered or extended band would silently change every rate."""
    with (
        serving(as_json({**ADVISOR, **change})) as server,
        pytest.raises(ExternalServiceError, match="Spot Instance Advisor"),
    ):
        spot_advisor.fetch_bands(UrllibTransport(), clock=FakeClock(), url=server.url)
