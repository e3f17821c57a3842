"""HTTP as one method, so that tests put a fake in its place: GET, whole bodies only, a deadline for all of it."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.clock import Clock, SystemClock
from harness.errors import ExternalServiceError

MAX_BODY_BYTES = 256 * 2**20
_CHUNK_BYTES = 64 * 1024
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers (lower-case names) and the whole body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """How a URL is fetched."""

    def get(self, url: str, headers: Mapping[str, str], timeout_seconds: float) -> Response:
        """The answer, whatever its status; OSError when there is none, or only part of one, in time."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: following it would carry keys in headers to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


class UrllibTransport:
    """The standard library's client.  `timeout_seconds` bounds the whole exchange, not only each read."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._opener = urllib.request.build_opener(_NoRedirects)

    def get(self, url: str, headers: Mapping[str, str], timeout_seconds: float) -> Response:
        if not url.startswith(("https://", "http://")):
            raise OSError(f"not an http address: {url}")
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  the scheme is checked above
        deadline = self._clock.monotonic() + timeout_seconds
        try:
            with self._opener.open(request, timeout=timeout_seconds) as answer:
                names = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, self._whole_body(answer, deadline), names)
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, b"", {name.lower(): value for name, value in error.headers.items()})
        except http.client.HTTPException as error:  # a truncated body, a line that is no status line
            raise OSError(f"{type(error).__name__}: {error}") from error

    def _whole_body(self, answer: http.client.HTTPResponse, deadline: float) -> bytes:
        chunks = []
        total = 0
        while True:
            chunk = answer.read1(_CHUNK_BYTES)
            if not chunk:
                break
            total += len(chunk)
            if total > MAX_BODY_BYTES:
                raise OSError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            if self._clock.monotonic() > deadline:
                raise TimeoutError("the answer took too long")
            chunks.append(chunk)
        if answer.length:  # read1 ends without an error where the connection closed before Content-Length
            raise OSError(f"the answer ended {answer.length} bytes early")
        return b"".join(chunks)


class FakeTransport:
    """Answers from a script: per address prefix, one answer after the other (the last one repeats).

    Each answer is a Response or an exception to raise.  `requests` records what was asked.
    """

    def __init__(self, script: Mapping[str, Sequence[Response | Exception]]) -> None:
        self._script = {prefix: list(answers) for prefix, answers in script.items()}
        self.requests: list[tuple[str, Mapping[str, str]]] = []

    def get(self, url: str, headers: Mapping[str, str], timeout_seconds: float) -> Response:
        del timeout_seconds
        self.requests.append((url, headers))
        matching = [prefix for prefix in self._script if url.startswith(prefix)]
        if not matching:
            raise OSError(f"nothing answers at {url}")
        answers = self._script[max(matching, key=len)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def get_json(
    transport: Transport,
    url: str,
    *,
    what: str,
    clock: Clock,
    headers: Mapping[str, str] | None = None,
    attempts: int = 4,
    timeout_seconds: float = 20.0,
) -> object:
    """The JSON document at `url`, tried `attempts` times with growing waits (0.5 s doubled, or as the server asks).

    Raises ExternalServiceError, naming `what`, when no attempt gives a whole, valid document; at once for an answer
    that another try cannot change (such as 403).  Headers (keys, tokens) never appear in the message.
    """
    reason = ""
    for attempt in range(attempts):
        wait_seconds = 0.5 * 2.0**attempt
        try:
            response = transport.get(url, headers or {}, timeout_seconds)
        except TimeoutError:
            reason = f"no whole answer within {timeout_seconds:g} s"
        except OSError as error:
            reason = _reason(error)
        else:
            if response.status == 200:
                try:
                    return json.loads(response.body)
                except ValueError:
                    reason = "the answer is not valid JSON"
            elif response.status in _RETRIED_STATUS:
                reason = f"HTTP status {response.status}"
                wait_seconds = _asked_wait(response) or wait_seconds
            else:
                raise ExternalServiceError(f"{what}: HTTP status {response.status}")
        if attempt + 1 < attempts:
            clock.wait(threading.Event(), min(wait_seconds, _LONGEST_WAIT_SECONDS))
    raise ExternalServiceError(f"{what}: {reason} ({attempts} attempts)")


def _reason(error: OSError) -> str:
    inner = getattr(error, "reason", None)  # urllib wraps what really happened
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    return " ".join(str(inner if inner is not None else error).split())[:160]


def _asked_wait(response: Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else None
