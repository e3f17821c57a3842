"""`recommend --live` and `compare --live`: today's prices where providers answer, the snapshot marked where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.clock import FakeClock
from harness.errors import ExternalServiceError
from planner.documents import schema_path
from planner.prices import spot_advisor
from planner.prices.cache import AnswerCache
from planner.prices.live import Sources
from planner.prices.transport import FakeTransport
from tests.planner.conftest import Outcome
from tests.planner.test_cli import loaded_modules
from tests.planner.test_prices_http import ADVISOR
from tests.planner.test_prices_live import NOW, FakeAws, document

Planner = Callable[..., Outcome]
FAST = ("--runs", "200", "--interval-seconds", "1800")
JOB = ("--instance", "p4d.24xlarge", "--work-hours", "20", "--checkpoint-gib", "50", *FAST)


class Providers:
    """What answers: AWS's stubs, and the Spot Advisor where `advisor` is set."""

    def __init__(self, folder: Path) -> None:
        self.aws = FakeAws()
        self.transport = FakeTransport({spot_advisor.URL: [OSError("no route")]})
        self._clock = FakeClock(NOW.timestamp())
        self._cache = AnswerCache(folder, self._clock)

    def sources(self) -> Sources:
        """All of them; a region that was not stubbed refuses."""
        return Sources(aws_clients=self._clients, transport=self.transport, clock=self._clock, cache=self._cache)

    def _clients(self) -> Callable[[str, str], Any]:
        self.aws()

        def make(service: str, region: str) -> Any:
            if (service, region) not in self.aws.clients:
                raise ExternalServiceError("not permitted (UnauthorizedOperation)")
            return self.aws.clients[service, region]

        return make


@pytest.fixture
def providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Providers:
    """Fakes in place of the clouds."""
    made = Providers(tmp_path / "cache")
    monkeypatch.setattr(Sources, "default", lambda **_: made.sources())
    return made


def checked(name: str, outcome: Outcome) -> dict[str, Any]:
    """The document, valid by its published schema, of a command that ended well."""
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    jsonschema.validate(found, json.loads(schema_path(name).read_text(encoding="utf-8")))
    return found


def prices(found: dict[str, Any]) -> dict[str, tuple[float, str, bool]]:
    """Zone → (spot price, date, whether it is the snapshot's)."""
    return {
        row["zone"]: (row["spot_usd_per_hour"], row["price_as_of"], "snapshot-price" in row["flags"])
        for row in found["candidates"]
    }


def test_live_prices_decide_and_the_rest_is_marked(planner: Planner, providers: Providers) -> None:
    """us-east-1 answers with the cheapest zone; every other region keeps its snapshot, says so, and warns in a line."""
    providers.aws.spot("us-east-1", ("use1-az1", 3.0), ("use1-az2", 1.9), ("use1-az6", 3.1))
    providers.aws.on_demand(us_east_1="20.0")
    found = checked("recommend", planner("recommend", *JOB, "--live", "--json"))
    providers.aws.all_used()
    best = found["recommendation"]
    assert (best["zone"], best["spot_usd_per_hour"], best["on_demand_usd_per_hour"]) == ("use1-az2", 1.9, 20.0)
    by_zone = prices(found)
    assert by_zone["use1-az1"] == (3.0, "2026-11-24", False)
    others = {zone: row for zone, row in by_zone.items() if not zone.startswith("use1-")}
    assert len(others) > 5
    assert all(snapshot and as_of == "2026-07" for _, as_of, snapshot in others.values())
    assert found["live"]["prices"] == 4
    (region_gap,) = [line for line in found["live"]["missing"] if "AWS spot prices in" in line]
    assert region_gap.endswith("not permitted (UnauthorizedOperation) (the bundled snapshot stands in)")
    assert f"not had live: {region_gap}" in found["warnings"]
    assert "snapshot-price" not in best["flags"]


def test_only_the_wanted_region_is_asked(planner: Planner, providers: Providers) -> None:
    """A zone or a region narrows what is asked: no other region is named as missing."""
    for narrowed in (("--region", "us-east-1"), ("--zone", "use1-az2")):
        if not providers.aws.clients:
            providers.aws.spot("us-east-1", ("use1-az2", 1.9))
            providers.aws.scores("us-east-1", ("use1-az2", 3))
            providers.aws.on_demand(us_east_1="20.0")
        found = checked("recommend", planner("recommend", *JOB, *narrowed, "--live", "--json"))
        assert prices(found) == {"use1-az2": (1.9, "2026-11-24", False)}
        assert [line.split(":")[0] for line in found["live"]["missing"]] == ["AWS Spot Instance Advisor"]


def test_without_credentials_the_plan_is_the_offline_one(planner: Planner, providers: Providers) -> None:
    """Exit 0; the same candidates as offline, all of them marked; the reason is among the warnings."""
    providers.aws.fail = ExternalServiceError("no AWS credentials found")
    live = checked("recommend", planner("recommend", *JOB, "--region", "us-east-1", "--live", "--json"))
    offline = checked("recommend", planner("recommend", *JOB, "--region", "us-east-1", "--json"))
    assert providers.aws.looked == 1
    assert offline["live"] is None
    assert live["live"]["prices"] == 0
    assert {zone: row[:2] for zone, row in prices(live).items()} == {z: row[:2] for z, row in prices(offline).items()}
    assert {row[2] for row in prices(live).values()} == {True}
    assert {row[2] for row in prices(offline).values()} == {False}
    assert live["recommendation"]["cost_usd"] == offline["recommendation"]["cost_usd"]
    assert any(line.startswith("not had live: AWS prices: no AWS credentials found (set ") for line in live["warnings"])
    assert any("the bundled one stands in" in line for line in live["warnings"])


def test_tables_say_which_price_is_live(planner: Planner, providers: Providers) -> None:
    """Snapshot prices carry a mark that is explained; live ones none; nothing is wider than 80 columns."""
    providers.aws.spot("us-east-1", ("use1-az1", 3.0), ("use1-az2", 1.9))
    providers.aws.on_demand(us_east_1="20.0")
    for arguments in (("recommend", *JOB), ("compare", *JOB, "--all")):
        outcome = planner(*arguments, "--live")
        assert outcome.code == 0
        assert " use1-az2 " in outcome.out
        assert "use2-az2^ " in outcome.out
        words = " ".join(outcome.out.split())
        assert "^ no live price: that of the bundled snapshot, of 2026-07" in words
        assert "3 live prices, " in words
        assert "not had live: AWS spot prices in" in words
        assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80
        assert "live" not in planner(*arguments).out.replace("not had live", "")


def test_compare_takes_live_prices(planner: Planner, providers: Providers) -> None:
    """The same prices, marks and lines as in recommend, valid by compare's schema."""
    providers.aws.spot("us-east-1", ("use1-az2", 1.9))
    providers.aws.on_demand(us_east_1="20.0")
    found = checked("compare", planner("compare", *JOB, "--live", "--json"))
    assert found["candidates"][0]["zone"] == "use1-az2"
    assert prices(found)["use2-az2"][2]
    assert found["live"]["prices"] == 2
    assert any(line.startswith("not had live: ") for line in found["warnings"])


def test_live_bands_replace_the_bundled_ones(planner: Planner, providers: Providers) -> None:
    """The Advisor moves p4d in us-east-1 from 10-15 % to over 20 %: the rate follows; offline it stays."""
    advisor = {**ADVISOR, "spot_advisor": {"us-east-1": {"Linux": {"p4d.24xlarge": {"s": 60, "r": 4}}}}}
    providers.transport = FakeTransport({spot_advisor.URL: [document(advisor)]})
    providers.aws.spot("us-east-1", ("use1-az2", 1.9))
    providers.aws.scores("us-east-1", ("use1-az2", 3))
    providers.aws.on_demand(us_east_1="20.0")
    narrowed = (*JOB, "--zone", "use1-az2", "--hazard", "spot-advisor", "--json")
    live = checked("recommend", planner("recommend", *narrowed, "--live"))
    offline = checked("recommend", planner("recommend", *narrowed))
    assert live["live"]["missing"] == []
    assert live["recommendation"]["rate_per_hour"] > 1.5 * offline["recommendation"]["rate_per_hour"]


def test_mistakes_are_told_before_anybody_is_asked(planner: Planner, providers: Providers) -> None:
    """A type that does not exist, a job without work: exit 2, no provider contacted."""
    for arguments in (("--instance", "p4d.24xlarg", "--work-hours", "20"), ("--instance", "p4d.24xlarge")):
        assert planner("recommend", *arguments, "--live").code == 2
    assert providers.aws.looked == 0
    assert providers.transport.requests == []


def test_boto3_is_loaded_only_for_aws_prices_that_are_asked_for() -> None:
    """Neither compare nor recommend loads a cloud library without --live."""
    loaded = loaded_modules("compare", *JOB, "--zone", "use1-az2", "--json")
    assert "numba" in loaded
    assert not loaded & {"boto3", "botocore"}


def test_jobs_are_planned_on_live_prices_too(planner: Planner, providers: Providers, tmp_path: Path) -> None:
    """Each job of a file asks for its own place; what is not answered is the snapshot, with its warning."""
    providers.aws.spot("us-east-1", ("use1-az2", 1.9))
    file = tmp_path / "jobs.yaml"
    fleet = "fleet: {instance: p4d.24xlarge, zone: %s}"
    job = "job: {work_hours: 20, checkpoint_gib: 50}, " + fleet
    file.write_text("".join(f"- {{name: {zone}, {job % zone}}}\n" for zone in ("use1-az2", "usw2-az1")))
    found = checked("jobs", planner("recommend", "--jobs", str(file), "--live", *FAST, "--json"))
    answered, refused = found["jobs"]
    assert answered["recommendation"]["spot_usd_per_hour"] == 1.9
    assert "snapshot-price" not in answered["recommendation"]["flags"]
    assert "snapshot-price" in refused["recommendation"]["flags"]
    assert any("us-west-2" in warning for warning in refused["warnings"])


def test_placement_scores_become_waits(planner: Planner, providers: Providers) -> None:
    """Two zones of one region with scores 1 and 9: the wait of each follows its own, named as an assumption."""
    providers.aws.spot("us-east-1", ("use1-az2", 1.9), ("use1-az6", 2.5))
    providers.aws.scores("us-east-1", ("use1-az6", 9), ("use1-az2", 1))
    providers.aws.on_demand(us_east_1="20.0")
    narrowed = (*JOB, "--region", "us-east-1", "--live", "--json")
    found = checked("recommend", planner("recommend", *narrowed))
    done = {row["zone"]: row["makespan_hours"]["mean"] for row in found["candidates"]}
    # 0.1 h + 0.25 h x (1 / p - 1) with p = 0.05 and 0.85, at least once: 4.8 h against 0.14 h.
    assert done["use1-az2"] > done["use1-az6"] + 4.0
    (wait,) = [row for row in found["assumptions"] if row["name"] == "provision_hours"]
    assert "1 of 10" in wait["source"]
    assert "assumption" in wait["source"]
    # A wait that the user gives needs no score: none is asked for (the stub has no second answer).
    given = checked("recommend", planner("recommend", *narrowed, "--provision-hours", "0.2"))
    assert not any("placement" in line for line in given["live"]["missing"])
