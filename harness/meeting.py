"""What launches and a running fleet tell each other through the rendezvous store (torch's TCPStore).

    harness/<run_id>/launch     number of the launch that is open: with the run id it makes the rdzv_id
    harness/<rdzv_id>/closed    that launch is over: its rendezvous takes nobody any more
    harness/<rdzv_id>/beat      raised every second by a fleet that trains and has room
    harness/<rdzv_id>/join      raised by each newcomer, before it enters the rendezvous
    harness/<rdzv_id>/saved     raised to a newcomer's number once a checkpoint is durable for its sake

torchrun stops the workers of a running fleet as soon as a newcomer has entered the rendezvous, and gives them 30 s,
whatever is configured.  Asking first means that what they could lose by then is seconds of work, not an interval.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from harness.clock import Clock
from harness.notices import Notice
from harness.preflight import split_endpoint

_log = logging.getLogger("harness")

BEAT_SECONDS = 1.0
_ANSWER_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 60.0


class Meeting:
    """A client of the store at `host`:`port`.  Raises torch's DistError or RuntimeError where it is gone."""

    def __init__(self, host: str, port: int, *, timeout_seconds: float) -> None:
        self._store = TCPStore(
            host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout_seconds)
        )

    def hand_out_id(self, run_id: str) -> str:
        """``run_id-N`` of the launch that is open; the next one when that is over.  All nodes get the same."""
        key = f"harness/{run_id}/launch"
        number = int(self._store.compare_set(key, "", "1"))
        while self._store.check([_key(f"{run_id}-{number}", "closed")]):
            number = int(self._store.compare_set(key, str(number), str(number + 1)))
        return f"{run_id}-{number}"

    def close_id(self, rdzv_id: str) -> None:
        """The launch with this id is over, finished or failed."""
        self._store.set(_key(rdzv_id, "closed"), "1")

    def beat(self, rdzv_id: str) -> int:
        """Say that the fleet trains and has room; the number of newcomers that asked so far."""
        self._store.add(_key(rdzv_id, "beat"), 1)
        return self._store.add(_key(rdzv_id, "join"), 0)

    def answer(self, rdzv_id: str, number: int) -> None:
        """A checkpoint is durable: newcomer `number`, and those before it, may enter."""
        key = _key(rdzv_id, "saved")
        self._store.add(key, number - self._store.add(key, 0))

    def ask_to_join(self, rdzv_id: str, *, timeout_seconds: float) -> bool | None:
        """Ask a running fleet to save, and wait until it has.

        None when no fleet with room is training; False when it did not answer in time: the newcomer enters anyway.
        """
        before = self._store.add(_key(rdzv_id, "beat"), 0)
        if before == 0 or not self._until(
            lambda: self._store.add(_key(rdzv_id, "beat"), 0) > before, 2.5 * BEAT_SECONDS
        ):
            return None
        number = self._store.add(_key(rdzv_id, "join"), 1)
        return self._until(lambda: self._store.add(_key(rdzv_id, "saved"), 0) >= number, timeout_seconds)

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= end:
                return False
            time.sleep(_ANSWER_POLL_SECONDS)
        return True


def enter(endpoint: str, *, rdzv_id: str, hand_out_for: str | None, join_seconds: float | None) -> str:
    """What a node does before it enters the rendezvous at `endpoint`; returns the rdzv_id to use.

    With `hand_out_for`, a run id, the store hands the rdzv_id out.  With `join_seconds`, a running fleet is asked to
    save, and gets that long.  Raises torch's DistError or RuntimeError where the store does not answer.
    """
    meeting = Meeting(*split_endpoint(endpoint), timeout_seconds=_CONNECT_SECONDS)
    if hand_out_for is not None:
        rdzv_id = meeting.hand_out_id(hand_out_for)
        _log.info("rendezvous %s", rdzv_id)
    if join_seconds is not None:
        saved = meeting.ask_to_join(rdzv_id, timeout_seconds=join_seconds)
        if saved is not None:
            _log.info("joining a running fleet, %s", "which has saved" if saved else "which did not answer")
    return rdzv_id


def _key(rdzv_id: str, name: str) -> str:
    return f"harness/{rdzv_id}/{name}"


class JoinWatcher:
    """On rank 0 of a fleet with room: hears newcomers, asks for an early save, and lets them in once it is durable.

    `hear` takes the hint; `durable_step` gives the newest durable step that is known.  A store that is gone ends the
    watch: torchrun's agents notice that, too.
    """

    def __init__(
        self,
        meeting: Callable[[], Meeting],
        rdzv_id: str,
        *,
        hear: Callable[[Notice], None],
        durable_step: Callable[[], int | None],
        clock: Clock,
    ) -> None:
        self._meeting, self._rdzv_id = meeting, rdzv_id
        self._hear, self._durable_step, self._clock = hear, durable_step, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="harness-join", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a daemon thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a thread inside a call to the store ends by itself."""
        self._stop.set()
        self._thread.join(0.2)

    def _loop(self) -> None:
        try:
            meeting = self._meeting()
            # Who asked an attempt before this one has been let in, or has given up waiting.
            answered = meeting.beat(self._rdzv_id)
            pending: tuple[int, int | None] | None = None
            while not self._stop.is_set():
                asked = meeting.beat(self._rdzv_id)
                if pending is None and asked > answered:
                    pending = (asked, self._durable_step())
                    self._hear(Notice("join", "rebalance", detail="a node wants to join: saving first"))
                if pending is not None and self._durable_step() != pending[1]:
                    answered = pending[0]
                    meeting.answer(self._rdzv_id, answered)
                    pending = None
                self._clock.wait(self._stop, BEAT_SECONDS if pending is None else _ANSWER_POLL_SECONDS)
        except (dist.DistError, RuntimeError, ValueError) as error:
            _log.info("newcomers cannot announce themselves: %s", " ".join(str(error).split())[:120])
