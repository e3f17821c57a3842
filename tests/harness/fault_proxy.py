"""An HTTP proxy on loopback that breaks chosen requests on their way to a store: a network with scripted faults."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal[
    "500", "503", "expired", "reset", "timeout", "stall", "truncate", "corrupt", "corrupt-upload", "lost-answer",
    "stale-list",
]  # fmt: skip
"""``500``/``503``/``expired`` (credentials): refused before it reaches the store.  ``reset``: the connection breaks.
``timeout``: no answer until the client gives up.  ``stall``: half of the answer's body, then nothing until then.
``truncate``/``corrupt``: the answer's body is cut short, or a byte of it flipped.  ``corrupt-upload``: a byte of the
request's body is flipped (moto takes it, whatever its checksum says).  ``lost-answer``: the store acts on the request,
and the connection breaks before the answer arrives.  ``stale-list``: a list as it
was when it was last asked for (nothing stale when it never was)."""

LONGEST_SILENCE_SECONDS = 60.0
"""Of a request that is not answered, for a client that would wait for ever."""

Script = Callable[[str, str], Fault | None]
"""(method, path with query) → what happens to this request."""


class FaultProxy:
    """Forwards to `upstream` except where `script` says otherwise; counts what it broke in `fired`."""

    def __init__(self, upstream: str, script: Script) -> None:
        self.script = script
        self.fired: list[tuple[Fault, str, str]] = []
        self._lists: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self._closing = threading.Event()
        self._upstream = urlsplit(upstream)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            """Headers and body are two writes: Nagle's algorithm would hold the second one back for the client's
            delayed acknowledgement, 40 ms at every answer."""

            def _handle(self) -> None:
                try:
                    proxy.handle(self)
                except ConnectionError:  # the client did not wait for its answer: it asks again
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = _read_body(request)
        fault = self.script(request.command, request.path)
        if fault:
            self.fired.append((fault, request.command, request.path))
        if fault in {"500", "503"}:
            self._answer(request, int(fault), {}, b"<Error><Code>InternalError</Code><Message>m</Message></Error>")
            return
        if fault == "expired":
            self._answer(request, 400, {}, b"<Error><Code>ExpiredToken</Code><Message>m</Message></Error>")
            return
        if fault == "reset":
            self._break(request)
            return
        if fault == "timeout":
            self._wait_until_client_gives_up(request)
            self._break(request)
            return
        if fault == "corrupt-upload" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        found = self._forward(request, body)
        if request.command == "GET" and "list-type=2" in request.path:
            before, self._lists[request.path] = self._lists.get(request.path, found), found
            found = before if fault == "stale-list" else found
        status, headers, answer = found
        if fault == "lost-answer":
            self._break(request)
        elif fault in {"truncate", "stall"}:
            self._answer(request, status, headers, answer, send=answer[: len(answer) // 2])
            if fault == "stall":
                self._wait_until_client_gives_up(request)
            self._break(request)
        else:
            if fault == "corrupt" and answer:
                answer = answer[:-1] + bytes([answer[-1] ^ 1])
            self._answer(request, status, headers, answer)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Content-Length"] = str(len(body))
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        if request.command == "HEAD" and (length := answer.getheader("Content-Length")):
            kept["Content-Length"] = length
        connection.close()
        return answer.status, kept, data

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        body: bytes,
        send: bytes | None = None,
    ) -> None:
        request.send_response_only(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if "Content-Length" not in headers and status not in {204, 304}:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body if send is None else send)

    def _wait_until_client_gives_up(self, request: BaseHTTPRequestHandler) -> None:
        """However long its own read timeout is: the fault does not depend on how fast this machine is."""
        request.connection.settimeout(0.05)
        end = time.monotonic() + LONGEST_SILENCE_SECONDS
        while not self._closing.is_set() and time.monotonic() < end:
            try:
                if not request.connection.recv(1, socket.MSG_PEEK):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _break(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        # Linger for no time: the peer gets a reset instead of an orderly end.
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Serve in a thread while the ``with`` block runs."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "expect"}


def _read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        request.send_response_only(100)
        request.end_headers()
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        chunks = []
        while size := int(request.rfile.readline().split(b";")[0], 16):
            chunks.append(request.rfile.read(size))
            request.rfile.readline()
        while request.rfile.readline().strip():
            pass
        return b"".join(chunks)
    return request.rfile.read(int(request.headers.get("Content-Length", 0)))
