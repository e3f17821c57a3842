"""Azure: Scheduled Events.

Source: Azure documentation, "Scheduled Events for Linux VMs".  At least 30 seconds between a Preempt event and the
eviction; the first request of a VM's life may take two minutes, because it is what turns the service on.
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

from harness.clock import Clock, SystemClock
from harness.notices.base import Notice, NoticeSourceError, Response, http_request, on_own_clock

ADDRESS = "http://169.254.169.254"
FIRST_CALL_SECONDS = 130.0


class AzureSource:
    """Polls ``scheduledevents`` for a Preempt or Terminate event that names this VM."""

    name = "azure"

    def __init__(
        self,
        address: str | None = None,
        *,
        clock: Clock | None = None,
        notice_seconds: float = 30.0,
        timeout_seconds: float = 2.0,
        first_call_seconds: float = FIRST_CALL_SECONDS,
    ) -> None:
        self._base = (address or ADDRESS).rstrip("/")
        self._clock = clock or SystemClock()
        self._notice_seconds = notice_seconds
        self._timeout = timeout_seconds
        self._events_timeout = first_call_seconds
        self._vm_name: str | None = None

    def poll(self) -> Notice | None:
        """A reclaim notice when an event for this VM is scheduled (the service lists other VMs' events too)."""
        try:
            return self._poll()
        except NoticeSourceError:
            self._vm_name = None  # a service that answers nonsense may have told a wrong name: ask again
            raise

    def _poll(self) -> Notice | None:
        if self._vm_name is None:
            self._vm_name = self._ask("/metadata/instance/compute/name?api-version=2021-02-01&format=text").body.decode(
                "utf-8", "replace"
            )
        path = "/metadata/scheduledevents?api-version=2020-07-01"
        url = self._base + path
        answer = self._ask(path, timeout_seconds=self._events_timeout)
        self._events_timeout = self._timeout
        try:
            events = json.loads(answer.body)["Events"]
            mine = [e for e in events if e["EventType"] in {"Preempt", "Terminate"} and self._vm_name in e["Resources"]]
            notice = self._notice(mine[0], answer) if mine else None
        except (ValueError, TypeError, KeyError) as error:
            raise NoticeSourceError(f"{url}: not a list of scheduled events ({error})") from None
        return notice

    def _notice(self, event: dict[str, str], answer: Response) -> Notice:
        not_before = event.get("NotBefore") or ""
        if not_before:
            deadline = on_own_clock(parsedate_to_datetime(not_before).timestamp(), answer, self._clock)
        else:  # already started
            deadline = self._clock.wall() + self._notice_seconds
        return Notice(self.name, "reclaim", deadline, f"scheduled event {event['EventType']} {event['EventId']}")

    def _ask(self, path: str, *, timeout_seconds: float | None = None) -> Response:
        url = self._base + path
        response = http_request(url, headers={"Metadata": "true"}, timeout_seconds=timeout_seconds or self._timeout)
        if response.status != 200:
            raise NoticeSourceError(f"{url}: HTTP {response.status}")
        return response
