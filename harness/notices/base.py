"""What a notice is, and what a source of notices has to do."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Literal, Protocol

from harness.clock import Clock
from harness.errors import ExternalServiceError

MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Notice:
    """One announcement.

    `deadline_wall` is when the node goes (seconds since the Unix epoch), None when the source does not say.
    A ``rebalance`` is a hint that a reclaim has become likely; only a ``reclaim`` makes the node leave.
    """

    source: str
    kind: Literal["reclaim", "rebalance"] = "reclaim"
    deadline_wall: float | None = None
    detail: str = ""


class NoticeSourceError(ExternalServiceError):
    """A source could not be asked, or its answer makes no sense.  Logged once per cause; training goes on."""


class PolledSource(Protocol):
    """A place that is asked again and again."""

    name: str

    def poll(self) -> Notice | None:
        """The notice that is announced now, or None.  NoticeSourceError when the source cannot tell."""


# A metadata address must never be reached through a proxy that the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an HTTP answer (404 and 401 are answers, not failures)."""

    status: int
    body: bytes
    headers: Message


def http_request(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 2.0,
) -> Response:
    """Ask a metadata service.

    Raises NoticeSourceError when nothing answers in time, and for 5xx, redirects and bodies over 64 KiB.
    """
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310  operator's address
    try:
        try:
            with _OPENER.open(request, timeout=timeout_seconds) as answer:
                response = Response(answer.status, answer.read(MAX_BODY_BYTES + 1), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                response = Response(error.code, error.read(MAX_BODY_BYTES + 1), error.headers)
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise NoticeSourceError(f"{url}: no answer ({cause})") from None
    if response.status >= 500 or 300 <= response.status < 400:
        raise NoticeSourceError(f"{url}: HTTP {response.status}")
    if len(response.body) > MAX_BODY_BYTES:
        raise NoticeSourceError(f"{url}: an answer of more than {MAX_BODY_BYTES} bytes")
    return response


_DATE_NOISE_SECONDS = 2.0


def on_own_clock(deadline_wall: float, response: Response, clock: Clock) -> float:
    """`deadline_wall`, given by the service's clock, on this node's.

    The answer's Date says what time the service thinks it is: a node whose clock is off by minutes (nobody has set it
    yet) would otherwise think that it is gone, or that it has hours.  Dates have whole seconds, so less than
    two of them are no difference.
    """
    try:
        service = parsedate_to_datetime(response.headers.get("Date") or "").timestamp()
    except ValueError:
        return deadline_wall
    ahead = service - clock.wall()
    return deadline_wall if abs(ahead) < _DATE_NOISE_SECONDS else deadline_wall - ahead


def parse_utc(text: object, *, url: str) -> float:
    """An ISO 8601 time as seconds since the Unix epoch; NoticeSourceError when it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise NoticeSourceError(f"{url}: {str(text)[:40]!r} is no ISO 8601 time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
