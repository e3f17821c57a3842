"""Live prices of all providers together: what could be had, how old it is, and one line for each thing missing.

Nothing here raises for a provider's failure.  Each question (one region, one type, one price list) is answered from
the cache while that is fresh, else by the provider, else by the cache however old, else not at all; the plan goes on
with the bundled snapshot where nothing better is known, and the snapshot's date shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.clock import Clock, SystemClock
from harness.errors import ExternalServiceError, InvalidInputError
from planner.bands import Band
from planner.catalogue import Catalogue, Instance, Price
from planner.prices import aws, azure, gcp, spot_advisor
from planner.prices.cache import Answer, AnswerCache, default_cache_directory
from planner.prices.history import zone_histories
from planner.prices.records import Missing, PlacementScore, PriceChange, utc
from planner.prices.transport import Transport, UrllibTransport

FRESH_SECONDS = 3600.0
"""Spot prices change a few times a day: an answer of the last hour is not asked for again."""

SNAPSHOT_STANDS_IN = "the bundled snapshot stands in"

_WORKERS = 8
_SPOT_SOURCE = "AWS DescribeSpotPriceHistory"
_ON_DEMAND_SOURCE = "AWS Price List API"
_AWS_REMEDY = "set AWS_PROFILE or log in, with ec2:DescribeSpotPriceHistory and pricing:GetProducts"
_GCP_REMEDY = "set PLANNER_GCP_API_KEY to a key of the Cloud Billing API"


@dataclass(frozen=True, slots=True)
class Sources:
    """How the providers are reached; each part has a fake.  `aws_clients` is called once, when AWS is first needed."""

    aws_clients: Callable[[], aws.Clients]
    transport: Transport
    clock: Clock
    cache: AnswerCache
    gcp_api_key: str | None = None
    azure_url: str = azure.URL
    gcp_url: str = gcp.URL
    advisor_url: str = spot_advisor.URL
    fresh_seconds: float = FRESH_SECONDS

    @classmethod
    def default(cls, *, fresh_seconds: float = FRESH_SECONDS) -> Sources:
        """The real ones."""
        clock = SystemClock()
        return cls(
            aws_clients=aws.boto_clients,
            transport=UrllibTransport(clock),
            clock=clock,
            cache=AnswerCache(default_cache_directory(), clock),
            gcp_api_key=os.environ.get("PLANNER_GCP_API_KEY") or None,
            fresh_seconds=fresh_seconds,
        )


@dataclass(frozen=True, slots=True)
class LivePrices:
    """What was had.  `oldest_seconds` is the age of the oldest answer in it (0: all asked now)."""

    prices: tuple[Price, ...] = ()
    changes: tuple[PriceChange, ...] = ()
    scores: tuple[PlacementScore, ...] = ()
    bands: tuple[Band, ...] | None = None
    missing: tuple[Missing, ...] = ()
    oldest_seconds: float = 0.0

    def catalogue(self, snapshot: Catalogue) -> Catalogue:
        """The snapshot with these prices in place of its own where there are any."""
        return snapshot.with_prices(self.prices)


@dataclass(slots=True)
class _Collector:
    """What one call gathers, question by question."""

    sources: Sources
    prices: list[Price] = field(default_factory=list)
    changes: list[PriceChange] = field(default_factory=list)
    scores: list[PlacementScore] = field(default_factory=list)
    bands: tuple[Band, ...] | None = None
    missing: list[Missing] = field(default_factory=list)
    oldest_seconds: float = 0.0

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.sources.clock.wall(), tz=UTC)

    def answers(self, questions: Sequence[_Question], *, unreachable: Missing | None = None) -> list[_Got]:
        """The answers that can be had, asked in parallel; what cannot becomes Missing.

        With `unreachable` nobody is asked: the cache answers however old it is, and that is the one line about it.
        """
        fresh_seconds = self.sources.fresh_seconds
        stored = {question.key: self.sources.cache.get(question.key) for question in questions}
        got, asked = [], []
        for question in questions:
            answer = stored[question.key]
            if answer is not None and (answer.age_seconds <= fresh_seconds or unreachable is not None):
                got.append(self._from_cache(question, answer))
            else:
                asked.append(question)
        if unreachable is not None:
            if got and self.oldest_seconds > fresh_seconds:
                age = f"using answers of up to {self.oldest_seconds / 3600.0:.1f} h ago"
                unreachable = replace(unreachable, why=f"{unreachable.why}; {age}")
            if asked or self.oldest_seconds > fresh_seconds:
                self.missing.append(unreachable)
            return got
        for question, outcome in zip(asked, _ask_all(asked), strict=True):
            answer = stored[question.key]
            if not isinstance(outcome, ExternalServiceError):
                self.sources.cache.put(question.key, outcome)
                got.append(_Got(question, outcome, self.now.date().isoformat()))
                continue
            why = str(outcome).removeprefix(f"{question.what}: ")
            if answer is None:
                self.missing.append(Missing(question.what, why, SNAPSHOT_STANDS_IN))
            else:
                got.append(self._from_cache(question, answer))
                age = f"{answer.age_seconds / 3600.0:.1f} h"
                self.missing.append(Missing(question.what, why, f"using the answer of {age} ago"))
        return got

    def _from_cache(self, question: _Question, answer: Answer) -> _Got:
        self.oldest_seconds = max(self.oldest_seconds, answer.age_seconds)
        given = self.now - timedelta(seconds=answer.age_seconds)
        return _Got(question, answer.document, given.date().isoformat())


def _ask_all(questions: Sequence[_Question]) -> list[Any]:
    """Each question's answer, or the ExternalServiceError that came instead; other errors are bugs and raise."""
    if not questions:
        return []
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        futures = [pool.submit(question.ask) for question in questions]
        try:
            return [_outcome(future) for future in futures]
        except BaseException:  # Ctrl-C: what has not begun need not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except ExternalServiceError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Question:
    """One thing to ask: a key that names it in the cache, words for it, and how to ask (JSON values come back)."""

    key: str
    what: str
    ask: Callable[[], Any]
    context: str = ""


@dataclass(frozen=True, slots=True)
class _Got:
    """An answer and the day (UTC) on which it was given."""

    question: _Question
    document: Any
    as_of: str


def fetch_live(
    instances: Sequence[Instance],
    *,
    regions: Sequence[str],
    sources: Sources,
    history_days: float = 0.0,
    nodes_for_scores: int | None = None,
    bands: bool = True,
) -> LivePrices:
    """Prices of `instances` now, in `regions` (AWS region names; Azure and Google Cloud answer for all of theirs).

    `history_days` (0 to 90) adds the price changes of that long; `nodes_for_scores` adds AWS's placement scores for so
    many nodes; `bands` the Spot Advisor's.  Raises InvalidInputError for a history that the API does not have.
    """
    if not 0.0 <= history_days <= aws.LONGEST_HISTORY_DAYS:
        raise InvalidInputError("--history", history_days, f"0 to {aws.LONGEST_HISTORY_DAYS} days")
    collector = _Collector(sources)
    by_provider = {name: [row for row in instances if row.provider == name] for name in ("aws", "azure", "gcp")}
    if by_provider["aws"]:
        _aws(collector, [row.name for row in by_provider["aws"]], regions, history_days, nodes_for_scores)
        if bands:
            _advisor(collector)
    if by_provider["azure"]:
        _azure(collector, by_provider["azure"])
    if by_provider["gcp"]:
        _gcp(collector, by_provider["gcp"])
    return LivePrices(
        prices=tuple(collector.prices),
        changes=tuple(collector.changes),
        scores=tuple(collector.scores),
        bands=collector.bands,
        missing=tuple(collector.missing),
        oldest_seconds=collector.oldest_seconds,
    )


def _aws(
    collector: _Collector, names: list[str], regions: Sequence[str], history_days: float, nodes: int | None
) -> None:
    clients = _Clients(collector.sources.aws_clients, [("pricing", "us-east-1"), *(("ec2", name) for name in regions)])
    now = collector.now
    start = now - timedelta(days=history_days)
    types = ",".join(sorted(names))

    def spot(region: str) -> Callable[[], Any]:
        def ask() -> Any:
            client = clients.client("ec2", region)
            return [_plain(change) for change in aws.spot_price_changes(client, region, names, start=start, end=now)]

        return ask

    def on_demand(name: str) -> Callable[[], Any]:
        return lambda: aws.on_demand_prices(clients.client("pricing", "us-east-1"), name)

    spots = [
        _Question(f"aws spot {region} {types} {history_days:g}d", f"AWS spot prices in {region}", spot(region), region)
        for region in regions
    ]
    on_demands = [
        _Question(f"aws on-demand {name}", f"AWS on-demand prices of {name}", on_demand(name), name) for name in names
    ]
    unreachable = None if clients.error is None else Missing("AWS prices", str(clients.error), _AWS_REMEDY)
    got = collector.answers([*spots, *on_demands], unreachable=unreachable)
    for answer in got:
        if answer.question in on_demands:
            collector.prices += [
                Price("aws", answer.question.context, region, None, "on-demand", usd, answer.as_of, _ON_DEMAND_SOURCE)
                for region, usd in answer.document.items()
            ]
            continue
        changes = [_change(row) for row in answer.document]
        collector.changes += changes
        collector.prices += _current(changes, now, answer.as_of)
        if not changes:
            collector.missing.append(Missing(answer.question.what, f"no spot market there for {types}"))
    if nodes is not None and regions and clients.error is None:
        what = "AWS spot placement scores"
        try:
            collector.scores += aws.placement_scores(clients.client("ec2", regions[0]), names, nodes, regions)
        except ExternalServiceError as error:
            collector.missing.append(Missing(what, str(error).removeprefix(f"{what}: ")))


class _Clients:
    """Clients made at once in the calling thread (boto3 sessions are not safe to share).

    `error` is set when none can be made (no credentials); one that cannot be made alone fails when it is asked for.
    """

    def __init__(self, factory: Callable[[], aws.Clients], wanted: Iterable[tuple[str, str]]) -> None:
        self._made: dict[tuple[str, str], Any] = {}
        self.error: ExternalServiceError | None = None
        try:
            make = factory()
        except ExternalServiceError as error:
            self.error = error
            return
        for service, region in wanted:
            try:
                self._made.setdefault((service, region), make(service, region))
            except ExternalServiceError as error:
                self._made[service, region] = error

    def client(self, service: str, region: str) -> Any:
        made = self._made[service, region]
        if isinstance(made, ExternalServiceError):
            raise made
        return made


def _current(changes: Sequence[PriceChange], now: datetime, as_of: str) -> list[Price]:
    prices = []
    for history in zone_histories(changes):
        usd = history.at(now)
        if usd is not None and usd > 0.0:
            row = (history.instance, history.region, history.zone)
            prices.append(Price("aws", *row, "spot", usd, as_of, _SPOT_SOURCE))
    return prices


def _advisor(collector: _Collector) -> None:
    sources = collector.sources

    def ask() -> Any:
        found = spot_advisor.fetch_bands(sources.transport, clock=sources.clock, url=sources.advisor_url)
        return [asdict(band) for band in found]

    for answer in collector.answers([_Question("aws advisor", spot_advisor.SOURCE, ask)]):
        collector.bands = tuple(Band(**row) for row in answer.document)


def _azure(collector: _Collector, instances: Sequence[Instance]) -> None:
    sources, today = collector.sources, collector.now.date().isoformat()

    def asking(name: str) -> Callable[[], Any]:
        def ask() -> Any:
            url = sources.azure_url
            found = azure.fetch_prices(sources.transport, name, as_of=today, clock=sources.clock, url=url)
            return [asdict(price) for price in found]

        return ask

    questions = [
        _Question(f"azure {row.name}", f"Azure prices of {row.name}", asking(row.name), row.name) for row in instances
    ]
    for answer in collector.answers(questions):
        collector.prices += [Price(**row) for row in answer.document]
        if not answer.document:
            collector.missing.append(Missing(answer.question.what, "the price list has none", SNAPSHOT_STANDS_IN))


def _gcp(collector: _Collector, instances: Sequence[Instance]) -> None:
    sources, today = collector.sources, collector.now.date().isoformat()

    def ask() -> Any:
        assert sources.gcp_api_key is not None
        skus = gcp.fetch_skus(sources.transport, sources.gcp_api_key, clock=sources.clock, url=sources.gcp_url)
        answers: dict[str, Any] = {}
        for row in instances:
            prices, missing = gcp.machine_prices(skus, row, as_of=today)
            answers[row.name] = {
                "prices": [asdict(price) for price in prices],
                "missing": [asdict(gap) for gap in missing],
            }
        return answers

    what = "Google Cloud prices"
    no_key = None if sources.gcp_api_key else Missing(what, "no API key", _GCP_REMEDY)
    key = "gcp " + ",".join(sorted(row.name for row in instances))
    for got in collector.answers([_Question(key, what, ask)], unreachable=no_key):
        for answer in got.document.values():
            collector.prices += [Price(**row) for row in answer["prices"]]
            collector.missing += [Missing(**row) for row in answer["missing"]]


def _plain(change: PriceChange) -> dict[str, Any]:
    return {**asdict(change), "time": change.time.isoformat()}


def _change(row: dict[str, Any]) -> PriceChange:
    return PriceChange(**{**row, "time": utc(row["time"])})


def default_regions(catalogue: Catalogue, instances: Iterable[Instance]) -> tuple[str, ...]:
    """The AWS regions that the snapshot knows `instances` in, without those of separate partitions."""
    regions = {
        offer.region for row in instances if row.provider == "aws" for offer in catalogue.offers(row.name, row.provider)
    }
    return tuple(sorted(name for name in regions if not name.startswith(("us-gov-", "cn-", "us-iso"))))
