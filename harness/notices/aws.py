"""AWS: the spot interruption notice and the rebalance recommendation, by IMDSv2.

Source: Amazon EC2 User Guide, "Spot Instance interruption notices" and "EC2 instance rebalance recommendations".
The notice comes two minutes ahead on best effort (``hibernate`` begins at once).  From inside a container the
instance's metadata hop limit must be 2.
"""

from __future__ import annotations

import json

from harness.clock import Clock, SystemClock
from harness.notices.base import Notice, NoticeSourceError, Response, http_request, on_own_clock, parse_utc

ADDRESS = "http://169.254.169.254"
TOKEN_SECONDS = 21_600
_ACTIONS = {"terminate", "stop", "hibernate"}


class AwsSource:
    """Polls ``spot/instance-action`` first and ``events/recommendations/rebalance`` after it."""

    name = "aws"

    def __init__(self, address: str | None = None, *, clock: Clock | None = None, timeout_seconds: float = 2.0) -> None:
        self._base = (address or ADDRESS).rstrip("/")
        self._clock = clock or SystemClock()
        self._timeout = timeout_seconds
        self._token: str | None = None
        self._token_until = 0.0

    def poll(self) -> Notice | None:
        """The reclaim notice if there is one, else the rebalance recommendation if there is one, else None."""
        return self._instance_action() or self._rebalance()

    def _instance_action(self) -> Notice | None:
        path = "/latest/meta-data/spot/instance-action"
        found = self._get(path)
        if found is None:
            return None
        body, response = found
        action = body.get("action")
        if action not in _ACTIONS:
            raise NoticeSourceError(f"{self._base}{path}: unknown action {str(action)[:40]!r}")
        if action == "hibernate":
            deadline = self._clock.wall()
        else:
            deadline = on_own_clock(parse_utc(body.get("time"), url=self._base + path), response, self._clock)
        return Notice(self.name, "reclaim", deadline, f"spot/instance-action: {action}")

    def _rebalance(self) -> Notice | None:
        found = self._get("/latest/meta-data/events/recommendations/rebalance")
        if found is None:
            return None
        return Notice(self.name, "rebalance", None, f"rebalance recommended at {str(found[0].get('noticeTime'))[:40]}")

    def _get(self, path: str) -> tuple[dict[str, object], Response] | None:
        """The JSON object at `path`; None for 404.  A token that expired or was refused is renewed once."""
        response = None
        for attempt in range(2):
            token = self._fresh_token(renew=attempt > 0)
            response = http_request(
                self._base + path, headers={"X-aws-ec2-metadata-token": token}, timeout_seconds=self._timeout
            )
            if response.status != 401:
                break
        assert response is not None
        if response.status == 404:
            return None
        if response.status != 200:
            raise NoticeSourceError(f"{self._base}{path}: HTTP {response.status}")
        try:
            document = json.loads(response.body)
        except ValueError:
            raise NoticeSourceError(f"{self._base}{path}: the answer is not JSON") from None
        if not isinstance(document, dict):
            raise NoticeSourceError(f"{self._base}{path}: the answer is not a JSON object")
        return document, response

    def _fresh_token(self, *, renew: bool) -> str:
        now = self._clock.monotonic()
        if renew or self._token is None or now >= self._token_until:
            url = f"{self._base}/latest/api/token"
            response = http_request(
                url,
                method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
                timeout_seconds=self._timeout,
            )
            text = response.body.decode("latin-1").strip()
            if response.status != 200 or not text.isprintable() or not text:
                raise NoticeSourceError(f"{url}: no token (HTTP {response.status})")
            # Renewed when 5 % of its life is left: a token must not expire between two requests.
            self._token, self._token_until = text, now + 0.95 * TOKEN_SECONDS
        return self._token
