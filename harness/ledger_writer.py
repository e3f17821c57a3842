"""Write down which samples each step used (``data: {ledger: true}``): one file per rank and attempt.

It lies beside the node's telemetry and travels to the durable target with it, so it survives the node.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.attempt import Attempt
from harness.errors import InvalidInputError
from harness.ledger import LedgerHead
from harness.position import Position

_log = logging.getLogger("harness.telemetry")


class LedgerWriter:
    """This rank's ledger of this attempt.  A disk that refuses is logged once, and shows up as a gap in the proof."""

    def __init__(self, path: Path, head: LedgerHead) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._failed = self._torn = False
        self._write(head.model_dump_json())

    def record(self, step: int, indices: npt.NDArray[np.int64]) -> None:
        """Step number `step` is done with these samples."""
        self._write(json.dumps({"step": step, "indices": indices.tolist()}, separators=(",", ":")))

    def skipped(self, step: int, samples: int) -> None:
        """Before step number `step`, so many samples were passed over on request."""
        self._write(json.dumps({"skipped_before": step, "samples": samples}, separators=(",", ":")))

    def close(self) -> None:
        """Nothing follows."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, line: str) -> None:
        if self._descriptor < 0:
            return
        data = (b"\n" if self._torn else b"") + line.encode() + b"\n"
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._complain(str(error))
            return
        self._torn = written < len(data)  # a line that was cut short must not damage the next one
        if self._torn:
            self._complain("the disk took only a part of a line")

    def _complain(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("ledger: writing failed, training goes on: %s", why)


def open_ledger(attempt: Attempt, position: Position) -> LedgerWriter | None:
    """This rank's ledger from here on, when the config asks for one; InvalidInputError for a stream."""
    if not attempt.config.data.ledger:
        return None
    if position.samples is None:
        raise InvalidInputError("data.ledger", "true", "false for a stream, whose samples have no index")
    assert position.batch is not None, "steps() sets the batch"
    generation = attempt.identity.generation or 0
    prefix = f"ledger-g{generation:06d}-"
    attempt.telemetry.companions = f"{prefix}r*.jsonl"
    head = LedgerHead(
        run_id=attempt.config.run_id,
        generation=generation,
        rank=attempt.placement.rank,
        world_size=attempt.placement.world_size,
        samples=position.samples,
        start_step=position.step,
        start_position=position.samples_seen,
        global_batch_samples=position.batch,
    )
    name = f"{prefix}r{attempt.placement.rank:05d}.jsonl"
    return LedgerWriter(attempt.config.telemetry.directory / name, head)
