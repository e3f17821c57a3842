"""A web server on loopback that answers from a script, faults included, and records what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer.  `cut` ends the body early under a Content-Length that promises all; `silent` never answers."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    silent: bool = False


class ScriptedServer:
    """Replies in order (the last one repeats); `requests` holds (path with query, headers)."""

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults_fired = 0
        self._release = threading.Event()
        self._fault = threading.Condition()
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.requests.append((self.path, dict(self.headers)))
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                # Counted before anything is sent: the client may be done before this thread runs on.
                if reply.silent or reply.cut > 0 or reply.status != 200:
                    script._count_fault()
                if reply.silent:
                    script._release.wait(30)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) - reply.cut])

            def log_message(self, *arguments: object) -> None:
                """Nothing on the test's screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/prices"

    def _count_fault(self) -> None:
        with self._fault:
            self.faults_fired += 1
            self._fault.notify_all()

    def wait_for_faults(self, count: int) -> bool:
        """True once `count` faults have fired: a client may give up before the server has even read its request."""
        with self._fault:
            return self._fault.wait_for(lambda: self.faults_fired >= count, timeout=30)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Stop serving; silent replies end."""
        self._release.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(*replies: Reply) -> Iterator[ScriptedServer]:
    """A server for the length of a with block."""
    server = ScriptedServer(list(replies))
    thread = threading.Thread(target=server._serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)
