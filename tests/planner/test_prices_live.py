"""Live prices together: what is had, what is missing, what the cache answers, and that the plan goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner

from harness.clock import FakeClock
from harness.errors import ExternalServiceError, InvalidInputError
from planner import catalogue as flags
from planner.catalogue import Catalogue, load_catalogue
from planner.commands import prices as command_module
from planner.prices import azure, gcp, spot_advisor
from planner.prices.cache import AnswerCache
from planner.prices.live import LivePrices, Sources, default_regions, fetch_live
from planner.prices.records import Missing, grouped
from planner.prices.transport import FakeTransport, Response
from tests.planner.test_prices_aws import price_list_item
from tests.planner.test_prices_http import A2_PARTS, ADVISOR, azure_item

SCHEMA = json.loads(
    (Path(command_module.__file__).parent.parent / "schemas" / "prices.json").read_text(encoding="utf-8")
)
NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
SNAPSHOT = load_catalogue()
P4D = SNAPSHOT.instance("p4d.24xlarge")


class FakeAws:
    """Stubbed clients per (service, region); counts how often credentials were looked for."""

    def __init__(self) -> None:
        self.clients: dict[tuple[str, str], Any] = {}
        self.stubbers: list[Stubber] = []
        self.looked = 0
        self.fail: ExternalServiceError | None = None

    def __call__(self) -> Callable[[str, str], Any]:
        self.looked += 1
        if self.fail is not None:
            raise self.fail
        return lambda service, region: self.clients[service, region]

    def stub(self, service: str, region: str) -> Stubber:
        """A fresh client for that place, and its stubber."""
        client = boto3.client(service, region_name=region, aws_access_key_id="test", aws_secret_access_key="test")
        self.clients[service, region] = client
        stubber = Stubber(client)
        stubber.activate()
        self.stubbers.append(stubber)
        return stubber

    def spot(self, region: str, *rows: tuple[str, float]) -> None:
        """One page: p4d in zones (ids) at prices, changed an hour before NOW."""
        self.stub("ec2", region).add_response(
            "describe_spot_price_history",
            {
                "SpotPriceHistory": [
                    {
                        "AvailabilityZone": f"{region}x",
                        "AvailabilityZoneId": zone,
                        "InstanceType": "p4d.24xlarge",
                        "ProductDescription": "Linux/UNIX",
                        "SpotPrice": str(usd),
                        "Timestamp": datetime(2026, 11, 24, 14, tzinfo=UTC),
                    }
                    for zone, usd in rows
                ],
                "NextToken": "",
            },
        )

    def scores(self, region: str, *rows: tuple[str, int]) -> None:
        """Placement scores of zones (ids), to be asked for after the prices there."""
        (stubber,) = [row for row in self.stubbers if row.client is self.clients["ec2", region]]
        answer = [{"Region": region, "AvailabilityZoneId": zone, "Score": score} for zone, score in rows]
        stubber.add_response("get_spot_placement_scores", {"SpotPlacementScores": answer})

    def on_demand(self, **usd_by_region: str) -> None:
        """The price list of p4d."""
        items = [price_list_item(region.replace("_", "-"), usd) for region, usd in usd_by_region.items()]
        self.stub("pricing", "us-east-1").add_response("get_products", {"PriceList": items})

    def all_used(self) -> None:
        """Every scripted answer was asked for."""
        for stubber in self.stubbers:
            stubber.assert_no_pending_responses()


@pytest.fixture
def aws() -> FakeAws:
    """No client yet."""
    return FakeAws()


@pytest.fixture
def sources(aws: FakeAws, tmp_path: Path) -> Sources:
    """Everything faked; nothing answers over HTTP unless a test says so."""
    clock = FakeClock(NOW.timestamp())
    return Sources(
        aws_clients=aws, transport=FakeTransport({}), clock=clock, cache=AnswerCache(tmp_path / "cache", clock)
    )


def advance(sources: Sources, hours: float) -> None:
    """Time passes."""
    clock = sources.clock
    assert isinstance(clock, FakeClock)
    clock.advance(hours * 3600.0)


def spot_offers(catalogue: Catalogue, region: str) -> dict[str | None, tuple[float | None, str]]:
    """Zone → (spot price, date) of p4d in one region."""
    return {o.zone: (o.spot_usd_per_hour, o.as_of) for o in catalogue.offers("p4d.24xlarge") if o.region == region}


def test_live_prices_replace_the_snapshot_where_they_are(aws: FakeAws, sources: Sources) -> None:
    """us-east-1 is new and dated today; us-west-2, not asked, keeps its snapshot and is flagged as old."""
    aws.spot("us-east-1", ("use1-az1", 9.0), ("use1-az2", 8.0), ("use1-az6", 3.0))
    aws.on_demand(us_east_1="20.0")
    found = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    aws.all_used()
    assert (found.missing, found.oldest_seconds) == ((), 0.0)
    catalogue = found.catalogue(SNAPSHOT)
    assert spot_offers(catalogue, "us-east-1") == {
        "use1-az1": (9.0, "2026-11-24"),
        "use1-az2": (8.0, "2026-11-24"),
        "use1-az6": (3.0, "2026-11-24"),
    }
    here = {o.zone: o for o in catalogue.offers("p4d.24xlarge")}
    assert here["use1-az1"].on_demand_usd_per_hour == 20.0
    assert flags.FAR_BELOW_SIBLINGS in here["use1-az6"].flags
    assert flags.OLD_PRICE in here["usw2-az1"].flags
    assert flags.OLD_PRICE not in here["use1-az1"].flags


def test_a_region_that_fails_is_named_and_keeps_its_snapshot(aws: FakeAws, sources: Sources) -> None:
    """us-west-2 throttles, us-east-1 answers: one line about the one, the other is used."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.stub("ec2", "us-west-2").add_client_error("describe_spot_price_history", "RequestLimitExceeded")
    aws.on_demand(us_east_1="20.0")
    found = fetch_live([P4D], regions=["us-east-1", "us-west-2"], sources=sources, bands=False)
    aws.all_used()
    (gap,) = found.missing
    assert gap.what == "AWS spot prices in us-west-2"
    assert gap.why == "throttled, retries included (RequestLimitExceeded)"
    assert gap.remedy == "the bundled snapshot stands in"
    catalogue = found.catalogue(SNAPSHOT)
    assert spot_offers(catalogue, "us-west-2") == spot_offers(SNAPSHOT, "us-west-2")
    assert spot_offers(catalogue, "us-east-1") == {"use1-az2": (8.0, "2026-11-24")}


def test_a_client_that_cannot_be_made_fails_alone(aws: FakeAws, sources: Sources) -> None:
    """A region name that the SDK refuses: the other region answers."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")

    def clients() -> Callable[[str, str], Any]:
        def make(service: str, region: str) -> Any:
            if region == "us-east 9":
                raise ExternalServiceError("AWS ec2 client for us-east 9: invalid region name")
            return aws.clients[service, region]

        return make

    asking = replace(sources, aws_clients=clients)
    found = fetch_live([P4D], regions=["us-east-1", "us-east 9"], sources=asking, bands=False)
    aws.all_used()
    assert len(found.prices) == 2
    assert [gap.what for gap in found.missing] == ["AWS spot prices in us-east 9"]


def test_no_credentials_is_one_line_for_all_regions(aws: FakeAws, sources: Sources) -> None:
    """Three regions and a price list are not asked; the snapshot is the plan."""
    aws.fail = ExternalServiceError("no AWS credentials found")
    found = fetch_live([P4D], regions=["us-east-1", "us-west-2", "eu-west-1"], sources=sources, bands=False)
    (gap,) = found.missing
    assert str(gap).startswith("AWS prices: no AWS credentials found (set AWS_PROFILE")
    assert aws.looked == 1
    assert found.prices == ()
    marked = found.catalogue(SNAPSHOT).offers("p4d.24xlarge")
    assert [replace(o, flags=()) for o in marked] == [replace(o, flags=()) for o in SNAPSHOT.offers("p4d.24xlarge")]
    assert all(flags.SNAPSHOT_PRICE in o.flags for o in marked if o.spot_usd_per_hour is not None)


def test_fresh_answers_are_not_asked_for_again(aws: FakeAws, sources: Sources) -> None:
    """Half an hour later the cache answers, with the age; after more than an hour AWS is asked again."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")
    first = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    advance(sources, 0.5)
    again = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    assert again.prices == first.prices
    assert again.oldest_seconds == 1800.0
    advance(sources, 0.6)
    aws.spot("us-east-1", ("use1-az2", 7.0))
    aws.on_demand(us_east_1="20.0")
    newer = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    aws.all_used()
    assert {price.usd_per_hour for price in newer.prices} == {7.0, 20.0}


def test_stale_answers_stand_in_with_their_age_and_date(aws: FakeAws, sources: Sources) -> None:
    """Ten hours later AWS refuses, across midnight: yesterday's answer, dated yesterday, and the line says so."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")
    fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    advance(sources, 10.0)
    aws.stub("ec2", "us-east-1").add_client_error("describe_spot_price_history", "AuthFailure")
    aws.stub("pricing", "us-east-1").add_client_error("get_products", "ExpiredTokenException")
    found = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    aws.all_used()
    assert {price.as_of for price in found.prices} == {"2026-11-24"}
    assert found.oldest_seconds == 36_000.0
    assert [gap.remedy for gap in found.missing] == ["using the answer of 10.0 h ago"] * 2
    aws.fail = ExternalServiceError("no AWS credentials found")
    offline = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    assert offline.prices == found.prices
    (gap,) = offline.missing
    assert "using answers of up to 10.0 h ago" in str(gap)


def test_damaged_or_unwritable_cache_is_no_cache(aws: FakeAws, sources: Sources, tmp_path: Path) -> None:
    """Garbage on disk is asked for again; a folder that cannot be made costs the cache, not the plan."""
    for _ in range(2):
        aws.spot("us-east-1", ("use1-az2", 8.0))
        aws.on_demand(us_east_1="20.0")
        assert len(fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False).prices) == 2
        files = list((tmp_path / "cache").iterdir())
        assert len(files) == 2
        assert not [path for path in files if path.suffix != ".json"]
        for path in files:
            path.write_bytes(b'{"cache_version": 1, "question"')
    aws.all_used()
    (tmp_path / "file").write_text("in the way")
    blocked = replace(sources, cache=AnswerCache(tmp_path / "file" / "cache", sources.clock))
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")
    assert len(fetch_live([P4D], regions=["us-east-1"], sources=blocked, bands=False).prices) == 2


def test_region_without_a_market_is_said(aws: FakeAws, sources: Sources) -> None:
    """An empty answer is not a price of nothing."""
    aws.spot("us-east-1")
    aws.on_demand(us_east_1="20.0")
    found = fetch_live([P4D], regions=["us-east-1"], sources=sources, bands=False)
    assert [str(gap) for gap in found.missing] == [
        "AWS spot prices in us-east-1: no spot market there for p4d.24xlarge"
    ]


def test_history_keeps_the_changes_and_asks_for_the_days(aws: FakeAws, sources: Sources) -> None:
    """30 days of changes, through the cache and back, with their times."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")
    asked: list[Any] = []
    aws.clients["ec2", "us-east-1"].meta.events.register(
        "provide-client-params.ec2.DescribeSpotPriceHistory", lambda params, **_: asked.append(params)
    )
    first = fetch_live([P4D], regions=["us-east-1"], sources=sources, history_days=30.0, bands=False)
    assert (asked[0]["EndTime"] - asked[0]["StartTime"]).days == 30
    assert first.changes[0].time == datetime(2026, 11, 24, 14, tzinfo=UTC)
    again = fetch_live([P4D], regions=["us-east-1"], sources=sources, history_days=30.0, bands=False)
    assert again.changes == first.changes
    with pytest.raises(InvalidInputError, match="0 to 90 days"):
        fetch_live([P4D], regions=["us-east-1"], sources=sources, history_days=91.0)


def test_scores_are_asked_for_when_wanted(aws: FakeAws, sources: Sources) -> None:
    """A refusal is a line, the prices are still there; then they are had."""
    for refused in (True, False):
        fresh = replace(sources, fresh_seconds=-1.0)
        aws.spot("us-east-1", ("use1-az2", 8.0))
        stubber = aws.stubbers[-1]
        if refused:
            stubber.add_client_error("get_spot_placement_scores", "UnauthorizedOperation")
        else:
            rows = [{"Region": "us-east-1", "AvailabilityZoneId": "use1-az2", "Score": 3}]
            stubber.add_response("get_spot_placement_scores", {"SpotPlacementScores": rows})
        aws.on_demand(us_east_1="20.0")
        found = fetch_live([P4D], regions=["us-east-1"], sources=fresh, nodes_for_scores=4, bands=False)
        aws.all_used()
        assert len(found.prices) == 2
        assert [score.score for score in found.scores] == ([] if refused else [3])
        assert [gap.what for gap in found.missing] == (["AWS spot placement scores"] if refused else [])


def http_script(**answers: Response | Exception) -> FakeTransport:
    """One answer per provider."""
    urls = {"azure": azure.URL, "gcp": gcp.URL, "advisor": spot_advisor.URL}
    return FakeTransport({urls[name]: [answer] for name, answer in answers.items()})


def document(body: object) -> Response:
    """Status 200 with a JSON body."""
    return Response(200, json.dumps(body).encode())


def test_three_providers_at_once_one_of_them_down(aws: FakeAws, sources: Sources) -> None:
    """AWS and Google Cloud answer, Azure gives 500s, the Advisor is unreachable: two lines, the rest is used."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    aws.on_demand(us_east_1="20.0")
    transport = http_script(azure=Response(500, b""), gcp=document({"skus": A2_PARTS}), advisor=OSError("no route"))
    everything = replace(sources, transport=transport, gcp_api_key="k")
    instances = [P4D, SNAPSHOT.instance("Standard_ND96asr_v4"), SNAPSHOT.instance("a2-highgpu-1g")]
    found = fetch_live(instances, regions=["us-east-1"], sources=everything)
    assert {(price.provider, price.market) for price in found.prices} == {
        ("aws", "spot"),
        ("aws", "on-demand"),
        ("gcp", "on-demand"),
    }
    assert [gap.what for gap in found.missing] == ["AWS Spot Instance Advisor", "Azure prices of Standard_ND96asr_v4"]
    assert found.bands is None
    asked = [url for url, _ in transport.requests if url.startswith(azure.URL)]
    assert len(asked) == 4


def test_azure_and_the_advisor_answer(sources: Sources) -> None:
    """Prices and bands, and again from the cache with HTTP gone."""
    item = azure_item("eastus", "ND96asr v4 Spot", 5.4)
    transport = http_script(azure=document({"Items": [item]}), advisor=document(ADVISOR))
    answering = replace(sources, transport=transport)
    nd = SNAPSHOT.instance("Standard_ND96asr_v4")
    found = fetch_live([nd], regions=[], sources=answering)
    assert [(price.region, price.market, price.usd_per_hour) for price in found.prices] == [("eastus", "spot", 5.4)]
    assert fetch_live([nd], regions=[], sources=sources) == replace(found, oldest_seconds=0.0)
    trn2 = SNAPSHOT.instance("trn2.48xlarge")
    aws_only = fetch_live([trn2], regions=[], sources=replace(answering, aws_clients=_no_credentials))
    assert aws_only.bands is not None
    assert len(aws_only.bands) == 2


def _no_credentials() -> Any:
    raise ExternalServiceError("no AWS credentials found")


def test_gcp_without_a_key_says_how_to_get_one(sources: Sources) -> None:
    """Nothing is asked without a key."""
    found = fetch_live([SNAPSHOT.instance("a2-highgpu-1g")], regions=[], sources=sources)
    assert [str(gap) for gap in found.missing] == [
        "Google Cloud prices: no API key (set PLANNER_GCP_API_KEY to a key of the Cloud Billing API)"
    ]


def test_bugs_are_not_missing_prices(sources: Sources) -> None:
    """Only a provider's failure becomes a line; anything else raises."""
    with pytest.raises(AssertionError, match="a bug"):
        fetch_live([P4D], regions=["us-east-1"], sources=replace(sources, aws_clients=_buggy), bands=False)


def _buggy() -> Any:
    raise AssertionError("a bug")


def test_default_regions_leave_out_separate_partitions() -> None:
    """us-gov-west-1 needs other credentials; Azure's regions are not AWS's."""
    regions = default_regions(SNAPSHOT, [P4D, SNAPSHOT.instance("Standard_ND96asr_v4")])
    assert "us-east-1" in regions
    assert not [name for name in regions if name.startswith("us-gov") or name == "eastus"]


def test_many_gaps_with_one_reason_are_one_line() -> None:
    """Five regions without a network."""
    gaps = [Missing(f"AWS spot prices in r{i}", "no connection") for i in range(5)] + [Missing("x", "other")]
    assert [str(gap) for gap in grouped(gaps)] == [
        "AWS spot prices in r0, AWS spot prices in r1 and 3 more: no connection",
        "x: other",
    ]


# --- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, sources: Sources) -> Callable[..., Any]:
    """`planner prices` with faked providers."""
    monkeypatch.setattr(command_module.Sources, "default", lambda **_: sources)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(command_module.command, list(arguments), standalone_mode=False)


def test_command_shows_the_snapshot_offline(run: Callable[..., Any]) -> None:
    """Prices per zone, cheapest first, the odd one noted; exit 0 and nothing asked."""
    result = run("--instance", "p4d.24xlarge", "--region", "us-east-1")
    assert result.return_value == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("p4d.24xlarge (aws)")
    assert [line.split()[0] for line in lines[3:7]] == ["use1-az1", "use1-az6", "use1-az2", "use1-az4"]
    assert "half the median" in result.stdout
    assert "bundled snapshot" in result.stdout
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_command_lists_all_types_with_their_cheapest_place(run: Callable[..., Any]) -> None:
    """One row per priced type; the unpriced are named; no price is cut at 80 columns."""
    result = run()
    assert "No price is known of trn2.3xlarge, trn2.48xlarge" in " ".join(result.stdout.split())
    assert "…" not in result.stdout
    document = json.loads(run("--json").stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert len(document["offers"]) == len(SNAPSHOT.all_offers())
    assert (document["schema_version"], document["live"], document["missing"]) == (1, False, [])


def test_command_live_json_and_plot(run: Callable[..., Any], aws: FakeAws, tmp_path: Path) -> None:
    """One JSON document with history and scores; a picture beside it."""
    aws.spot("us-east-1", ("use1-az2", 8.0))
    rows = [{"Region": "us-east-1", "AvailabilityZoneId": "use1-az2", "Score": 3}]
    aws.stubbers[-1].add_response("get_spot_placement_scores", {"SpotPlacementScores": rows})
    aws.on_demand(us_east_1="20.0")
    picture = tmp_path / "prices.png"
    result = run(
        "--instance", "p4d.24xlarge", "--region", "us-east-1", "--live", "--history", "30d", "--scores", "2",
        "--plot", str(picture), "--json",
    )  # fmt: skip
    aws.all_used()
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert result.return_value == 0
    assert [(o["zone"], o["spot_usd_per_hour"], o["as_of"]) for o in document["offers"]] == [
        ("use1-az2", 8.0, "2026-11-24")
    ]
    assert document["history"][0]["changes"] == [{"time": "2026-11-24T14:00:00+00:00", "usd_per_hour": 8.0}]
    assert document["scores"] == [{"region": "us-east-1", "zone_id": "use1-az2", "score": 3}]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.glob("*.png")] == ["prices.png"]


def test_command_live_without_anybody_answering(run: Callable[..., Any], aws: FakeAws) -> None:
    """The snapshot is shown, the reason too, and the exit code says that an external service failed."""
    aws.fail = ExternalServiceError("no AWS credentials found")
    result = run("--instance", "p4d.24xlarge", "--live")
    assert result.return_value == 3
    text = " ".join(result.stdout.split())
    assert "No provider answered: all prices are the bundled snapshot's." in text
    assert "Missing: AWS prices: no AWS credentials found" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--instance", "p4d.24xlage"], "did you mean 'p4d.24xlarge'"),
        (["--instance", "p4d.24xlarge", "--region", "us-east-9"], "--region: got 'us-east-9'"),
        (["--instance", "p4d.24xlarge", "--accelerator", "A100"], "not both"),
        (["--accelerator", "A100:x"], "NAME or NAME:COUNT"),
        (["--accelerator", "A100:7"], "a count per node"),
        (["--accelerator", "T4", "--provider", "asw"], "did you mean 'aws'"),
        (["--accelerator", "Trainium", "--provider", "gcp"], "a provider with Trainium"),
        (["--history", "30d"], "--live beside it"),
        (["--live", "--history", "month"], "a number of days"),
        (["--live", "--history", "91"], "0 to 90 days"),
        (["--scores", "4"], "beside --live"),
        (["--live", "--scores", "0"], "a whole number >= 1"),
        (["--plot", "prices.jpg"], "a file ending in .png"),
        (["--plot", "/no/such/folder/prices.png"], "an existing folder"),
        (["--instance", "trn1.2xlarge", "--region", "us-east-1", "--plot", "p.png"], "at least one spot price"),
        (["--instance", "trn2.48xlarge", "--plot", "p.png"], "at least one spot price"),
    ],
)
def test_command_bad_input(run: Callable[..., Any], tmp_path: Path, arguments: list[str], expected: str) -> None:
    """One line that names the flag and what would be right; no picture is left behind."""
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        result = run(*arguments)
    finally:
        os.chdir(before)
    assert isinstance(result.exception, InvalidInputError)
    assert expected in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_nothing_live_changes_no_price() -> None:
    """No prices, no change but the mark on each spot price."""
    for mine, bundled in zip(LivePrices().catalogue(SNAPSHOT).all_offers(), SNAPSHOT.all_offers(), strict=True):
        mark = () if bundled.spot_usd_per_hour is None else (flags.SNAPSHOT_PRICE,)
        assert mine == replace(bundled, flags=(*bundled.flags, *mark))
