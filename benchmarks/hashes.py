"""Final weights of an interrupted run against the uninterrupted one, by sequence of world sizes and rule.

    python -m benchmarks hashes

Each row trains a small network on gloo ranks of one thread each, through the sizes of its sequence: every fleet but the
last is interrupted by SIGTERM after three more steps; the next one goes on from the checkpoint.  The reference is an
uninterrupted run at the first size, with the same rule.  "equal": the SHA-256 of the weights is the same; else the
largest difference of any weight (AdamW moves weights by about 0.01 a step here).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.harness.elastic_support import Ended, Job, train_fleet
from tests.harness.run_support import write_config

CUT = 3
STEPS_LEFT = 3
"""After the last change."""


@dataclass(frozen=True)
class Rule:
    """What the config says about a world that changes, and which dropout the model has."""

    name: str
    dropout: str
    sections: dict[str, Any]
    batch: int = 12


RULES = (
    Rule("constant batch, per-rank dropout", "rank", {}),
    Rule("constant batch, no dropout", "none", {}),
    Rule("constant batch, per-sample streams", "rank", {"data": {"randomness": "per-sample"}}),
    Rule("constant batch, SampleDropout", "sample", {"data": {"randomness": "per-sample"}}),
    Rule("constant batch of 13, SampleDropout", "sample", {"data": {"randomness": "per-sample"}}, batch=13),
    Rule("batch follows, linear rate", "none", {"elastic": {"batch": "follow-world", "learning_rate": "linear"}}),
    Rule("batch follows, square-root rate", "none", {"elastic": {"batch": "follow-world", "learning_rate": "sqrt"}}),
    Rule("buckets not pinned, no dropout", "none", {"elastic": {"pin_buckets": False}}),
)
SEQUENCES = ((1, 1), (2, 2), (3, 3), (4, 4), (2, 1, 2), (4, 2, 4), (3, 2, 1))


def through(folder: Path, sizes: tuple[int, ...], job: Job, sections: dict[str, Any]) -> Ended:
    """Train through `sizes`; rank 0's end."""
    config = write_config(folder, checkpoint={"interval": {"steps": 1_000_000}}, **sections)
    ends: list[Ended] = []
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        # Heard in the body of a step, agreed on and left one step later.
        interrupt = None if last else (size - 1, CUT * (index + 1) - 2)
        ends = train_fleet(folder, config, size, replace(job, interrupt=interrupt))
        if [end.code for end in ends] != [0 if last else 75] * size:
            raise RuntimeError(f"{sizes}: exit codes {[end.code for end in ends]}")
    return ends[0]


def rows() -> Iterator[tuple[str, str, str]]:
    """(sequence, rule, result) of each."""
    with tempfile.TemporaryDirectory() as temporary:
        for number, sizes in enumerate(SEQUENCES):
            for index, rule in enumerate(RULES):
                folder = Path(temporary) / f"{number}-{index}"
                job = Job(
                    steps=CUT * (len(sizes) - 1) + STEPS_LEFT,
                    batch=rule.batch,
                    dropout=rule.dropout,
                    nodes=f"1:{max(sizes)}",
                )
                whole = through(folder / "whole", sizes[:1], job, rule.sections)
                cut = through(folder / "cut", sizes, job, rule.sections)
                equal = cut.weights == whole.weights
                difference = float(np.abs(np.subtract(cut.flat, whole.flat)).max())
                yield " → ".join(map(str, sizes)), rule.name, "equal" if equal else f"{difference:.1e}"


def main(arguments: list[str]) -> None:
    """Print the table as Markdown; there are no arguments."""
    del arguments
    print("| Sizes | Rule | Weights |\n|---|---|---|", flush=True)
    for sequence, rule, result in rows():
        print(f"| {sequence} | {rule} | {result} |", flush=True)


if __name__ == "__main__":
    main([])
