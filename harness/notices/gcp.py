"""Google Cloud: the ``preempted`` value of the metadata server.

Source: Google Cloud documentation, "Preemptible VM instances: detecting preemption" and "Query VM metadata".
A Spot VM has 30 seconds from the signal to power-off on best effort: a fixed poll of some seconds would waste a good
part of them, so each poll asks the server to answer as soon as the value changes.
"""

from __future__ import annotations

from harness.clock import Clock, SystemClock
from harness.notices.base import Notice, NoticeSourceError, http_request

ADDRESS = "http://metadata.google.internal"


class GcpSource:
    """Asks once, then waits for the change inside the request (at most `wait_seconds`)."""

    name = "gcp"

    def __init__(
        self,
        address: str | None = None,
        *,
        clock: Clock | None = None,
        notice_seconds: float = 30.0,
        wait_seconds: int = 5,
        timeout_seconds: float = 2.0,
    ) -> None:
        self._base = (address or ADDRESS).rstrip("/")
        self._clock = clock or SystemClock()
        self._notice_seconds = notice_seconds
        self._wait_seconds = wait_seconds
        self._timeout = timeout_seconds
        self._etag: str | None = None

    def poll(self) -> Notice | None:
        """A reclaim notice once ``preempted`` is TRUE."""
        url = f"{self._base}/computeMetadata/v1/instance/preempted"
        timeout = self._timeout
        if self._etag is not None:
            url += f"?wait_for_change=true&timeout_sec={self._wait_seconds}&last_etag={self._etag}"
            timeout += self._wait_seconds
        response = http_request(url, headers={"Metadata-Flavor": "Google"}, timeout_seconds=timeout)
        if response.status != 200:
            raise NoticeSourceError(f"{url}: HTTP {response.status}")
        if response.headers.get("Metadata-Flavor") != "Google":
            raise NoticeSourceError(f"{url}: the answer does not come from a Google metadata server")
        value = response.body.strip().upper()
        if value not in {b"TRUE", b"FALSE"}:
            raise NoticeSourceError(f"{url}: {response.body[:20]!r} is neither TRUE nor FALSE")
        etag = response.headers.get("ETag") or ""
        self._etag = etag if etag.isalnum() else None
        if value == b"FALSE":
            return None
        return Notice(self.name, "reclaim", self._clock.wall() + self._notice_seconds, "instance/preempted is TRUE")
