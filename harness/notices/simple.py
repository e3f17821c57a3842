"""Sources for other providers, schedulers and tests: a file that appears, a URL that answers 200."""

from __future__ import annotations

import json
from pathlib import Path

from harness.clock import Clock, SystemClock
from harness.notices.base import Notice, NoticeSourceError, http_request


class FileSource:
    """A notice from the moment on that a file exists; its content may be ``{"seconds": 30}``."""

    name = "file"

    def __init__(self, address: str, *, clock: Clock | None = None, notice_seconds: float | None = None) -> None:
        self._path = Path(address)
        self._clock = clock or SystemClock()
        self._notice_seconds = notice_seconds

    def poll(self) -> Notice | None:
        """A reclaim notice when the file is there."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise NoticeSourceError(f"{self._path}: {error}") from None
        return _from_body(self.name, text, self._clock, self._notice_seconds, f"{self._path} exists")


class HttpSource:
    """A notice from the moment on that a URL answers 200 (404 and 204: none); same optional body as the file."""

    name = "http"

    def __init__(
        self,
        address: str,
        *,
        clock: Clock | None = None,
        notice_seconds: float | None = None,
        timeout_seconds: float = 2.0,
    ) -> None:
        self._url = address
        self._clock = clock or SystemClock()
        self._notice_seconds = notice_seconds
        self._timeout = timeout_seconds

    def poll(self) -> Notice | None:
        """A reclaim notice when the URL answers 200."""
        response = http_request(self._url, timeout_seconds=self._timeout)
        if response.status in {204, 404}:
            return None
        if response.status != 200:
            raise NoticeSourceError(f"{self._url}: HTTP {response.status}")
        text = response.body.decode("utf-8", "replace")
        return _from_body(self.name, text, self._clock, self._notice_seconds, f"{self._url} answered 200")


def _from_body(name: str, text: str, clock: Clock, default_seconds: float | None, detail: str) -> Notice:
    """An empty or foreign body is a notice without a time of its own."""
    seconds = default_seconds
    try:
        document = json.loads(text)
        if isinstance(document, dict) and isinstance(document.get("seconds"), int | float):
            seconds = float(document["seconds"])
    except ValueError:
        pass  # the file's or answer's existence is the notice; its text is free
    return Notice(name, "reclaim", None if seconds is None else clock.wall() + seconds, detail)
