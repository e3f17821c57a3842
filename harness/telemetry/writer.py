"""Append events to this node's telemetry file, and copy it to the durable target so that it survives the node.

Telemetry never disturbs training: a full disk or a target that is gone is logged once and training goes on; what
could not be written is written when the disk takes it again.
Every event is one `write` of one whole line to a file opened for appending, so the processes of a node may share it
and a kill can tear at most the last line, which the reader tolerates and the next writer closes off.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from harness.clock import Clock, SystemClock
from harness.errors import InvalidInputError
from harness.telemetry.schema import build_event

_log = logging.getLogger("harness.telemetry")

TARGET_PREFIX = "telemetry/"
UNCLAIMED = "unclaimed"
"""Attempt id of events of a process that ended before the attempt had one."""


MOST_UNWRITTEN = 1000
"""Events kept in memory while the disk refuses them; older ones are lost."""


class BytesTarget(Protocol):
    """The part of a checkpoint target that telemetry needs."""

    def put_bytes(self, key: str, data: bytes) -> object:
        """Store `data` under `key`, replacing what was there."""


def telemetry_file(directory: Path, node: int) -> Path:
    """This node's file in `directory`, the same for all of its processes; a new name after the disk was replaced.

    The name carries a random part that is drawn once per life of the directory: a replaced node starts another file
    instead of overwriting, on the durable target, what its predecessor left there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / f".node-{node:04d}.id"
    if not marker.exists():
        draft = directory / f".node-{node:04d}.{os.getpid()}.{secrets.token_hex(4)}"
        draft.write_text(secrets.token_hex(4), encoding="ascii")
        try:
            os.link(draft, marker)  # appears with its content, or not at all: a sibling process may be doing the same
        except FileExistsError:
            pass  # the sibling's identity is as good as ours; it is read below
        finally:
            draft.unlink()
    identity = marker.read_text(encoding="ascii").strip()
    if not identity.isalnum():
        raise InvalidInputError("telemetry.directory", marker, "an identity written by an earlier run", "delete it")
    return directory / f"node-{node:04d}-{identity}.jsonl"


class TelemetryWriter:
    """Thread-safe writer of one node's events.

    `emit` never raises: what cannot be written or is not a valid event is logged once per cause.
    """

    def __init__(
        self,
        directory: Path,
        *,
        run_id: str,
        node: int,
        rank: int,
        world_size: int,
        clock: Clock | None = None,
    ) -> None:
        self.path = telemetry_file(directory, node)
        self._clock = clock or SystemClock()
        self._common: dict[str, Any] = {"run_id": run_id, "node": node, "rank": rank, "world_size": world_size}
        self._attempt_id: str | None = None
        self._generation: int | None = None
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._step = 0
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque(maxlen=MOST_UNWRITTEN)
        self._torn = False
        """The last write was cut short: a newline has to come before the next."""
        self._complained: set[str] = set()
        self.companions: str | None = None
        """Pattern of other files of this directory that are copied along."""
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._close_torn_line()

    def claim(self, attempt_id: str, generation: int | None) -> None:
        """Every event carries this attempt and generation, those that came before too: they were held back."""
        with self._lock:
            self._attempt_id, self._generation = attempt_id, generation
            held, self._held = self._held, []
        for name, document in held:
            self._write(name, document)

    def at_step(self, step: int) -> None:
        """The step that events carry which do not name their own."""
        self._step = step

    def emit(self, name: str, *, step: int | None = None, **fields: Any) -> None:
        """Write the event `name` with its payload, stamped with both clocks."""
        document = {
            **fields,
            **self._common,
            "wall_time": self._clock.wall(),
            "monotonic_seconds": self._clock.monotonic(),
            "step": self._step if step is None else step,
        }
        with self._lock:
            if self._attempt_id is None:
                self._held.append((name, document))
                return
        self._write(name, document)

    def _write(self, name: str, document: dict[str, Any]) -> None:
        identity = {"attempt_id": self._attempt_id or UNCLAIMED, "generation": self._generation}
        try:
            event = build_event(name, {**document, **identity})
        except ValidationError as report:
            self._complain(f"event {name}", str(report.errors(include_url=False)[0]))
            return
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._lock:
            if self._descriptor < 0:
                return
            self._unwritten.append(line)
            self._write_out()

    def _write_out(self) -> None:
        """Write what is waiting, for as long as the disk takes it."""
        while self._unwritten:
            data = (b"\n" if self._torn else b"") + self._unwritten[0]
            try:
                written = os.write(self._descriptor, data)
            except OSError as error:
                self._complain("writing", str(error))
                return
            self._torn = written < len(data)
            if written < len(data) - 1:  # a disk that is full takes a part; the reader passes over a cut line
                self._complain("writing", "the disk took only a part of a line")
                return
            self._unwritten.popleft()
        self._complained.discard("writing")

    def on_event(self, name: str, fields: Mapping[str, object]) -> None:
        """`emit` in the shape that the checkpointer calls back with: `step` may be among the fields."""
        payload = dict(fields)
        step = payload.pop("step", None)
        self.emit(name, step=step if isinstance(step, int) else None, **payload)

    def upload(self, target: BytesTarget) -> bool:
        """Copy the file as it is now to the durable target; False (logged once) when that fails."""
        try:
            beside = self.path.parent.glob(self.companions) if self.companions else ()
            for path in (self.path, *sorted(beside)):
                target.put_bytes(TARGET_PREFIX + path.name, path.read_bytes())
        except Exception as error:  # noqa: BLE001  whatever a target raises, training must not notice
            self._complain("uploading", str(error))
            return False
        self._complained.discard("uploading")
        return True

    def close(self) -> None:
        """Write what is held back (an attempt that ended before it was claimed); later events are dropped."""
        if self._attempt_id is None:
            self.claim(UNCLAIMED, None)
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _complain(self, cause: str, detail: str) -> None:
        if cause not in self._complained:
            self._complained.add(cause)
            _log.warning("telemetry: %s failed, training goes on: %s", cause, detail)

    def _close_torn_line(self) -> None:
        """A line that a kill cut short gets its newline, so that it damages no other."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


class BackgroundUploader:
    """Copies the telemetry file to the target on request, in a thread of its own, at most one copy waiting."""

    def __init__(self, writer: TelemetryWriter, target: BytesTarget) -> None:
        self._writer, self._target = writer, target
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="harness-telemetry", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Ask for a copy of what is written by now; returns at once."""
        self._idle.clear()
        self._wanted.set()

    def flush(self, timeout_seconds: float) -> bool:
        """Ask for a copy and wait for it; False when the target took longer than `timeout_seconds`."""
        self.request()
        return self._idle.wait(timeout_seconds)

    def close(self, timeout_seconds: float) -> bool:
        """A last copy, then the thread ends; False when that did not fit into `timeout_seconds`."""
        done = self.flush(timeout_seconds)
        self._closing = True
        self._wanted.set()
        self._thread.join(1.0 if done else 0.0)
        return done

    def _loop(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            self._writer.upload(self._target)
            if not self._wanted.is_set():
                self._idle.set()
