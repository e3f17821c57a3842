"""`status.json`: how this node's part of a run stands or ended, for schedulers and for those who run plain torchrun.

torchrun itself exits 1 for a reclaim as for a bug; this file tells them apart.  It lies beside the telemetry and is
replaced atomically.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE
from harness.validation import StrictModel

FILE_NAME = "status.json"

State = Literal["running", "finished", "interrupted", "failed", "fenced", "bad-input"]

EXIT_CODES: dict[State, int] = {
    "running": EXIT_BUG,  # read after the end: whoever wrote it was killed before it could say more
    "finished": EXIT_DONE,
    "interrupted": EXIT_INTERRUPTED_RESUMABLE,
    "failed": EXIT_BUG,
    "fenced": EXIT_BUG,
    "bad-input": EXIT_BAD_INPUT,
}


class Status(StrictModel):
    """The content of `status.json`."""

    schema_version: Literal[1] = 1
    state: State
    exit_code: int
    """What `harness launch` exits with: 0 finished, 75 interrupted and resumable, 2 bad input, 1 anything else."""
    resumable: bool
    """Launching the run again goes on from the last durable checkpoint."""
    reason: str | None = None
    """notice, below-minimum, re-forming, stopped, peer-lost, fenced, failed, bad-input."""
    message: str | None = None
    run_id: str
    launch_id: str
    """Which start of the job on this node wrote this."""
    attempt_id: str | None = None
    generation: int | None = None
    node: int = 0
    rank: int = 0
    step: int = 0
    world_size: int = 1
    durable_step: int | None = None
    """Step of the newest durable checkpoint that this attempt knows of."""
    wall_time: float
    pid: int


def build_status(
    state: State,
    *,
    run_id: str,
    launch_id: str,
    reason: str | None = None,
    message: str | None = None,
    attempt_id: str | None = None,
    generation: int | None = None,
    node: int = 0,
    rank: int = 0,
    step: int = 0,
    world_size: int = 1,
    durable_step: int | None = None,
) -> Status:
    """A status with what follows from its state filled in."""
    return Status(
        state=state,
        exit_code=EXIT_CODES[state],
        resumable=state in {"running", "interrupted"},
        reason=reason,
        message=message,
        run_id=run_id,
        launch_id=launch_id,
        attempt_id=attempt_id,
        generation=generation,
        node=node,
        rank=rank,
        step=step,
        world_size=world_size,
        durable_step=durable_step,
        wall_time=time.time(),
        pid=os.getpid(),
    )


def write_status(directory: Path, status: Status) -> None:
    """Replace `directory`/status.json.

    What other processes of the node say after a failure does not hide it, be it an interruption that follows from it
    or a checkpoint that became durable: ``failed`` and ``bad-input`` of the same attempt stay.
    """
    if status.state in {"interrupted", "running"}:
        known = read_status(directory)
        same = known is not None and known.attempt_id == status.attempt_id and known.launch_id == status.launch_id
        if known is not None and same and known.state in {"failed", "bad-input", "fenced"}:
            return
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{FILE_NAME}.{os.getpid()}"
    draft.write_text(status.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    draft.replace(directory / FILE_NAME)


def read_status(directory: Path) -> Status | None:
    """The status in `directory`; None when there is none or it is not one of ours."""
    try:
        return Status.model_validate_json((directory / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
