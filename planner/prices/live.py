"""Live prices of all providers together: what could be had, how old it is, and one line for each thing missing.

A question is one region, one type or one price list (`planner.prices.questions` has them answered).  The plan goes on
with the bundled snapshot where nothing better is known, and the snapshot's date shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from harness.errors import ExternalServiceError, InvalidInputError
from planner.bands import Band
from planner.catalogue import Catalogue, Instance, Price
from planner.prices import aws, azure, gcp, spot_advisor
from planner.prices.history import zone_histories
from planner.prices.questions import FRESH_SECONDS, SNAPSHOT_STANDS_IN, Collector, Question, Sources
from planner.prices.records import Missing, PlacementScore, PriceChange, utc

MOST_SCORED_TYPES = 3

__all__ = ["FRESH_SECONDS", "LivePrices", "Sources", "default_regions", "fetch_live"]

_SPOT_SOURCE = "AWS DescribeSpotPriceHistory"
_ON_DEMAND_SOURCE = "AWS Price List API"
_AWS_REMEDY = "set AWS_PROFILE or log in, with ec2:DescribeSpotPriceHistory and pricing:GetProducts"
_GCP_REMEDY = "set PLANNER_GCP_API_KEY to a key of the Cloud Billing API"


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


def fetch_live(
    instances: Sequence[Instance],
    *,
    regions: Sequence[str],
    sources: Sources,
    history_days: float = 0.0,
    nodes_for_scores: int | None = None,
    scores_by_type: bool = False,
    bands: bool = True,
) -> LivePrices:
    """Prices of `instances` now, in `regions` (AWS region names; Azure and Google Cloud answer for all of theirs).

    `history_days` (0 to 90) adds the price changes of that long; `nodes_for_scores` adds AWS's placement scores for so
    many nodes (of any of the types, or type by type with `scores_by_type`); `bands` the Spot Advisor's.
    Raises InvalidInputError for a history that the API does not have.
    """
    if not 0.0 <= history_days <= aws.LONGEST_HISTORY_DAYS:
        raise InvalidInputError("--history", history_days, f"0 to {aws.LONGEST_HISTORY_DAYS} days")
    collector = Collector(sources)
    by_provider = {name: [row for row in instances if row.provider == name] for name in ("aws", "azure", "gcp")}
    if by_provider["aws"]:
        names = [row.name for row in by_provider["aws"]]
        clients = _aws(collector, names, regions, history_days)
        if nodes_for_scores is not None and regions and clients.error is None:
            _scores(collector, clients, names, regions, nodes_for_scores, scores_by_type)
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


def _aws(collector: Collector, names: list[str], regions: Sequence[str], history_days: float) -> _Clients:
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
        Question(f"aws spot {region} {types} {history_days:g}d", f"AWS spot prices in {region}", spot(region), region)
        for region in regions
    ]
    on_demands = [
        Question(f"aws on-demand {name}", f"AWS on-demand prices of {name}", on_demand(name), name) for name in names
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
    return clients


def _scores(
    collector: Collector, clients: _Clients, names: list[str], regions: Sequence[str], nodes: int, by_type: bool
) -> None:
    what = "AWS spot placement scores"
    if by_type and len(names) > MOST_SCORED_TYPES:
        why = f"asked for up to {MOST_SCORED_TYPES} types only: an account may ask for few configurations a day"
        collector.missing.append(Missing(what, why))
        return

    def asking(types: list[str]) -> Callable[[], Any]:
        def ask() -> Any:
            scores = aws.placement_scores(clients.client("ec2", regions[0]), types, nodes, regions)
            return [{"region": row.region, "zone_id": row.zone_id, "score": row.score} for row in scores]

        return ask

    asked = [[name] for name in names] if by_type else [names]
    questions = [
        Question(
            f"aws scores {','.join(sorted(types))} x{nodes} {','.join(regions)}",
            what,
            asking(types),
            types[0] if by_type else "",
            otherwise="",
        )
        for types in asked
    ]
    for got in collector.answers(questions):
        instance = got.question.context or None
        collector.scores += [PlacementScore(**row, instance=instance, as_of=got.as_of) for row in got.document]


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


def _advisor(collector: Collector) -> None:
    sources = collector.sources

    def ask() -> Any:
        found = spot_advisor.fetch_bands(sources.transport, clock=sources.clock, url=sources.advisor_url)
        return [asdict(band) for band in found]

    for answer in collector.answers([Question("aws advisor", spot_advisor.SOURCE, ask)]):
        collector.bands = tuple(Band(**row) for row in answer.document)


def _azure(collector: Collector, instances: Sequence[Instance]) -> None:
    sources, today = collector.sources, collector.now.date().isoformat()

    def asking(name: str) -> Callable[[], Any]:
        def ask() -> Any:
            url = sources.azure_url
            found = azure.fetch_prices(sources.transport, name, as_of=today, clock=sources.clock, url=url)
            return [asdict(price) for price in found]

        return ask

    questions = [
        Question(f"azure {row.name}", f"Azure prices of {row.name}", asking(row.name), row.name) for row in instances
    ]
    for answer in collector.answers(questions):
        collector.prices += [Price(**row) for row in answer.document]
        if not answer.document:
            collector.missing.append(Missing(answer.question.what, "the price list has none", SNAPSHOT_STANDS_IN))


def _gcp(collector: Collector, instances: Sequence[Instance]) -> None:
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
    for got in collector.answers([Question(key, what, ask)], unreachable=no_key):
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
