"""One of two live incarnations of a run, as a process of its own: ``python -m tests.harness.live_incarnation``.

Arguments: 0 (saves until it is fenced) or 1 (takes over from it once it has saved), and the directory of the race.
Prints, as JSON, the step and fingerprint of each of its durable saves, and how it ended.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from pathlib import Path

import torch

from harness.checkpoint import Progress
from harness.errors import FencedError
from tests.harness.checkpoint_support import Job, make_config, single

MOST_STEPS = 500
WAIT_SECONDS = 150.0
"""For the other one's first saves; then this one gives up, saying so."""


def main(number: int, root: Path) -> tuple[list[tuple[int, str]], str]:
    """((step, fingerprint) of the durable saves, how it ended)."""
    saved_twice = root / "saved-twice"
    if number == 1:
        give_up = time.monotonic() + WAIT_SECONDS
        while not saved_twice.exists():
            if time.monotonic() > give_up:
                raise AssertionError(f"the other incarnation has not saved twice within {WAIT_SECONDS:.0f} s")
            time.sleep(0.02)
    # Each on a node of its own, with the durable target in common.
    config = make_config(root / f"machine{number}", str(root / "bucket"), keep_last=2)
    job, checkpointer = Job(), single(config, attempt=f"incarnation-{number}")
    restored = checkpointer.restore(job.components)
    step = restored.step if restored else 0
    durable: list[tuple[int, str]] = []
    while step < MOST_STEPS and (number == 0 or len(durable) < 5):
        job.train(1)
        step += 1
        try:
            checkpointer.save(job.components, Progress(step=step))
            checkpointer.wait()
        except FencedError as error:
            return durable, str(error)
        durable.append((step, job.fingerprint()))
        if len(durable) == 2:
            saved_twice.touch()
    checkpointer.close()
    return durable, "done"


if __name__ == "__main__":
    faulthandler.enable()
    torch.set_num_threads(1)
    print(json.dumps(main(int(sys.argv[1]), Path(sys.argv[2]))))
