"""Metadata services of AWS, GCP and Azure on loopback, with the notice under your control.

    python -m harness fake-metadata aws --port 8111                     # then, from anywhere on this machine:
    curl -X POST localhost:8111/control/notice -d '{"seconds": 120}'

or in a test: ``with FakeAwsMetadata() as metadata: metadata.announce(seconds=120)``.  Point the source's ``address`` at
``metadata.url``.  Besides notices it can misbehave like the real ones: refuse tokens, fail, answer slowly or with
garbage.  Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

from harness.errors import InvalidInputError

Misbehaviour = Literal["none", "error", "garbage", "half", "slow", "unauthorized", "missing"]
MISBEHAVIOURS: tuple[str, ...] = ("none", "error", "garbage", "half", "slow", "unauthorized", "missing")
SLOW_SECONDS = 3.0


@dataclass(frozen=True)
class Announcement:
    """What is announced and until when the node has."""

    kind: str
    deadline_wall: float
    action: str = "terminate"


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of one answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class FakeMetadata:
    """What the three services share: an HTTP server on 127.0.0.1, a schedule, a log of what was asked."""

    provider = ""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Condition()
        self._announced: dict[str, Announcement] = {}
        self._misbehaviour: Misbehaviour = "none"
        self.requests: list[tuple[str, str, int]] = []
        """(method, path, status) of every answer, oldest first."""
        self.arrivals: list[str] = []
        """Paths as they were asked for, answered or not."""
        self.delivered: list[str] = []
        """Kinds of announcements in the order in which a client first read them."""
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        except OSError as error:
            raise InvalidInputError("port", port, "a free port on 127.0.0.1", str(error)) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What to give a notice source as its address."""
        return f"http://127.0.0.1:{self.port}"

    def announce(self, *, seconds: float = 120.0, kind: str = "reclaim", action: str = "terminate") -> float:
        """Announce a reclaim (or a ``rebalance``) in `seconds`; returns its deadline (Unix seconds)."""
        if kind not in {"reclaim", "rebalance"}:
            raise InvalidInputError("kind", kind, "reclaim or rebalance")
        deadline = time.time() + seconds
        with self._lock:
            self._announced[kind] = Announcement(kind, deadline, action)
            self._lock.notify_all()
        return deadline

    def withdraw(self) -> None:
        """Announce nothing any more."""
        with self._lock:
            self._announced.clear()
            self._lock.notify_all()

    def misbehave(self, how: Misbehaviour) -> None:
        """From now on answer like a service that is broken in this way; ``none`` heals it."""
        if how not in MISBEHAVIOURS:
            raise InvalidInputError("misbehaviour", how, f"one of {', '.join(MISBEHAVIOURS)}")
        self._misbehaviour = how

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def announced(self, kind: str) -> Announcement | None:
        """What is announced now, noting that a client has seen it."""
        with self._lock:
            found = self._announced.get(kind)
            if found and kind not in self.delivered:
                self.delivered.append(kind)
            return found

    def wait_for_announcement(self, kind: str, seconds: float) -> None:
        """Block (a long poll does) until `kind` is announced or `seconds` have passed."""
        with self._lock:
            self._lock.wait_for(lambda: kind in self._announced, timeout=seconds)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """The provider's own protocol; header names in lower case."""
        raise NotImplementedError

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer to one request, misbehaviour and control included."""
        if urlsplit(path).path.startswith("/control/"):
            return self._control(method, urlsplit(path).path.removeprefix("/control/"), body)
        how = self._misbehaviour
        if how == "error":
            return Answer(503, b"try again")
        if how == "unauthorized":
            return Answer(401)
        if how == "missing":
            return Answer(404)
        if how == "slow":
            time.sleep(SLOW_SECONDS)
        answer = self.answer(method, path, headers)
        if how == "garbage":
            return Answer(200, b"\x00\xff<html>captive portal</html>", answer.headers)
        if how == "half":
            return Answer(200, answer.body[: len(answer.body) // 2] or b'{"act', answer.headers)
        return answer

    def _control(self, method: str, what: str, body: bytes) -> Answer:
        if method != "POST":
            return Answer(405, b"POST to /control/notice, /control/withdraw or /control/misbehave\n")
        try:
            document = json.loads(body or b"{}")
            if what == "notice":
                seconds = float(document.get("seconds", 120.0))
                self.announce(
                    seconds=seconds, kind=document.get("kind", "reclaim"), action=document.get("action", "terminate")
                )
            elif what == "withdraw":
                self.withdraw()
            elif what == "misbehave":
                self.misbehave(document.get("how", "none"))
            else:
                return Answer(404, b"notice, withdraw or misbehave\n")
        except (ValueError, TypeError, AttributeError, InvalidInputError) as error:
            return Answer(400, f"{error}\n".encode())
        return Answer(200, b"ok\n")


class FakeAwsMetadata(FakeMetadata):
    """IMDSv2: a token first, then 404 until something is announced."""

    provider = "aws"

    def __init__(self, port: int = 0) -> None:
        self._tokens: set[str] = set()
        super().__init__(port)

    def expire_tokens(self) -> None:
        """Every token that was handed out is refused from now on, as after its time to live."""
        self._tokens.clear()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """Tokens by PUT; instance-action and rebalance by GET with one."""
        if path == "/latest/api/token":
            ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if method != "PUT" or not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
                return Answer(400)
            token = secrets.token_urlsafe(24)
            self._tokens.add(token)
            return Answer(200, token.encode())
        if headers.get("x-aws-ec2-metadata-token") not in self._tokens:
            return Answer(401)
        if path == "/latest/meta-data/spot/instance-action" and (notice := self.announced("reclaim")):
            return _json({"action": notice.action, "time": _iso(notice.deadline_wall)})
        if path == "/latest/meta-data/events/recommendations/rebalance" and (notice := self.announced("rebalance")):
            return _json({"noticeTime": _iso(time.time())})
        return Answer(404)


class FakeGcpMetadata(FakeMetadata):
    """``instance/preempted``, at once or when it changes."""

    provider = "gcp"

    def answer(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """FALSE, then TRUE; the required header as the real one checks it."""
        url = urlsplit(path)
        if method != "GET" or headers.get("metadata-flavor") != "Google":
            return Answer(403)
        if url.path != "/computeMetadata/v1/instance/preempted":
            return Answer(404)
        query = parse_qs(url.query)
        if query.get("wait_for_change") == ["true"] and query.get("last_etag") == ["f0"]:
            self.wait_for_announcement("reclaim", min(float(query.get("timeout_sec", ["60"])[0]), 60.0))
        taken = self.announced("reclaim") is not None
        headers_out = (("Metadata-Flavor", "Google"), ("ETag", "f1" if taken else "f0"))
        return Answer(200, b"TRUE" if taken else b"FALSE", headers_out)


class FakeAzureMetadata(FakeMetadata):
    """Scheduled Events of a scale set: another VM's event is always in the list."""

    provider = "azure"
    vm_name = "vm_0"

    def answer(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """The name of this VM, and the list of events."""
        url = urlsplit(path)
        if method != "GET" or headers.get("metadata") != "true":
            return Answer(400)
        if url.path == "/metadata/instance/compute/name":
            return Answer(200, self.vm_name.encode())
        if url.path != "/metadata/scheduledevents":
            return Answer(404)
        events = [_azure_event("other", "vm_1", time.time() + 60)]
        if notice := self.announced("reclaim"):
            events.append(_azure_event("mine", self.vm_name, notice.deadline_wall))
        return _json({"DocumentIncarnation": len(events), "Events": events})


FAKES: dict[str, type[FakeMetadata]] = {
    fake.provider: fake for fake in (FakeAwsMetadata, FakeGcpMetadata, FakeAzureMetadata)
}


def _azure_event(event_id: str, vm: str, deadline_wall: float) -> dict[str, object]:
    return {
        "EventId": event_id,
        "EventType": "Preempt",
        "ResourceType": "VirtualMachine",
        "Resources": [vm],
        "EventStatus": "Scheduled",
        "NotBefore": format_datetime(datetime.fromtimestamp(deadline_wall, UTC), usegmt=True),
    }


def _json(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode(), (("Content-Type", "application/json"),))


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _handler(metadata: FakeMetadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(min(length, 65_536))
            headers = {name.lower(): value for name, value in self.headers.items()}
            metadata.arrivals.append(self.path)
            answer = metadata.handle(self.command, self.path, headers, body)
            metadata.requests.append((self.command, self.path, answer.status))
            with contextlib.suppress(OSError):  # the client went away, as one with a short timeout does
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_PUT = do_POST = _respond  # noqa: N815  names that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
            """Requests are in `FakeMetadata.requests`; nothing is printed."""

    return Handler
