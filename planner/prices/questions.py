"""Asking providers: each question is answered from the cache while that is fresh, else by the provider, else by the
cache however old, else not at all.  What could not be had becomes `Missing`; a provider's failure raises nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.clock import Clock, SystemClock
from harness.errors import ExternalServiceError
from planner.bands import Band
from planner.catalogue import Price
from planner.prices import aws, azure, gcp, spot_advisor
from planner.prices.cache import Answer, AnswerCache, default_cache_directory
from planner.prices.records import Missing, PlacementScore, PriceChange
from planner.prices.transport import Transport, UrllibTransport

FRESH_SECONDS = 3600.0
"""Spot prices change a few times a day: an answer of the last hour is not asked for again."""

SNAPSHOT_STANDS_IN = "the bundled snapshot stands in"

_WORKERS = 8


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
class Question:
    """One thing to ask: a key that names it in the cache, words for it, and how to ask (JSON values come back)."""

    key: str
    what: str
    ask: Callable[[], Any]
    context: str = ""
    otherwise: str = SNAPSHOT_STANDS_IN
    """What happens without an answer."""


@dataclass(frozen=True, slots=True)
class Got:
    """An answer and the day (UTC) on which it was given."""

    question: Question
    document: Any
    as_of: str


@dataclass(slots=True)
class Collector:
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

    def answers(self, questions: Sequence[Question], *, unreachable: Missing | None = None) -> list[Got]:
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
                got.append(Got(question, outcome, self.now.date().isoformat()))
                continue
            why = str(outcome).removeprefix(f"{question.what}: ")
            if answer is None:
                self.missing.append(Missing(question.what, why, question.otherwise))
            else:
                got.append(self._from_cache(question, answer))
                age = f"{answer.age_seconds / 3600.0:.1f} h"
                self.missing.append(Missing(question.what, why, f"using the answer of {age} ago"))
        return got

    def _from_cache(self, question: Question, answer: Answer) -> Got:
        self.oldest_seconds = max(self.oldest_seconds, answer.age_seconds)
        given = self.now - timedelta(seconds=answer.age_seconds)
        return Got(question, answer.document, given.date().isoformat())


def _ask_all(questions: Sequence[Question]) -> list[Any]:
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
