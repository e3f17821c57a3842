"""Prove from ledgers that a run used every sample exactly once per epoch.  Needs no torch.

An attempt (generation) is in the run's history from the step it began with to the step with which a later one began:
what it did beyond that was rolled back.  In each step of the history, the shares of all ranks, one after the other, are
the samples at the next positions; n positions are one epoch of n samples.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from harness.errors import InvalidInputError
from harness.validation import StrictModel

LEDGER_PATTERN = "ledger-g*-r*.jsonl"


class LedgerHead(StrictModel):
    """First line of a ledger."""

    ledger_version: Literal[1] = 1
    run_id: str
    generation: int
    rank: int
    world_size: int
    samples: int
    """Of the dataset."""
    start_step: int
    start_position: int
    """Samples used before, over all ranks."""
    global_batch_samples: int


class Stretch(StrictModel):
    """One attempt's part of the history."""

    generation: int
    world_size: int
    first_step: int
    steps: int
    rolled_back_steps: int
    """Done by it, and done again by a later attempt."""


class LedgerProof(StrictModel):
    """What the ledgers say."""

    schema_version: Literal[1] = 1
    proven: bool
    problems: tuple[str, ...]
    run_id: str
    samples: int
    steps: int
    samples_used: int
    samples_skipped: int = 0
    """Passed over because `data.skip` asked for it; an epoch is complete without them."""
    epochs_complete: int
    history: tuple[Stretch, ...]


_NOTHING = np.empty(0, dtype=np.int64)

_SKIPPED = -1
"""In the place of a sample that was passed over on request."""

Ledger = tuple[LedgerHead, dict[int, npt.NDArray[np.int64]], dict[int, int]]
"""Head, sample indices by step, samples that were skipped by the step before which they were."""


def prove(paths: Sequence[Path]) -> LedgerProof:
    """Check the ledgers below `paths` (copies of one file count once); InvalidInputError when there are none."""
    ledgers = _read(paths)
    heads = [head for head, _, _ in ledgers]
    for field in ("run_id", "samples"):
        values = sorted({str(getattr(head, field)) for head in heads})
        if len(values) > 1:
            raise InvalidInputError("ledgers", f"{field} {', '.join(values)}", "the ledgers of one run")
    by_generation = {
        generation: list(group)
        for generation, group in itertools.groupby(
            sorted(ledgers, key=lambda ledger: (ledger[0].generation, ledger[0].rank)),
            lambda ledger: ledger[0].generation,
        )
    }
    problems: list[str] = []
    history: list[Stretch] = []
    used: list[npt.NDArray[np.int64]] = []
    next_step, position, skipped_samples = 0, 0, 0
    generations = sorted(by_generation)
    for index, generation in enumerate(generations):
        group = by_generation[generation]
        head = group[0][0]
        later = [by_generation[g][0][0].start_step for g in generations[index + 1 :]]
        done = 1 + max((max(steps, default=head.start_step - 1) for _, steps, _ in group), default=head.start_step - 1)
        stop = min([done, *later])
        if stop <= head.start_step:
            history.append(_stretch(head, 0, done))
            continue
        if head.start_step != next_step or head.start_position != position:
            problems.append(
                f"generation {generation} began at step {head.start_step}, position {head.start_position}; the history "
                f"before it ends at step {next_step}, position {position}"
            )
        missing = sorted(set(range(head.world_size)) - {h.rank for h, _, _ in group})
        if missing:
            problems.append(f"generation {generation}: no ledger of rank {', '.join(map(str, missing))}")
        passed = 0
        for step in range(head.start_step, stop):
            skips = {skipped.get(step, 0) for _, _, skipped in group}
            if len(skips) > 1:
                problems.append(f"generation {generation}, step {step}: not every rank skipped the same before it")
            used.append(np.full(max(skips), _SKIPPED, dtype=np.int64))
            passed += max(skips)
            shares = [steps.get(step) for _, steps, _ in group]
            if any(share is None for share in shares):
                problems.append(f"generation {generation}, step {step}: not written down by every rank")
            step_samples = np.concatenate([_NOTHING, *(share for share in shares if share is not None)])
            if (found := len(step_samples)) != (wanted := head.global_batch_samples):
                problems.append(f"generation {generation}, step {step}: {found} samples, not {wanted}")
            used.append(step_samples)
        history.append(_stretch(head, stop - head.start_step, done))
        next_step = stop
        position = head.start_position + (stop - head.start_step) * head.global_batch_samples + passed
        skipped_samples += passed
    samples = heads[0].samples
    everything = np.concatenate([_NOTHING, *used])
    problems += _check_epochs(everything, samples)
    return LedgerProof(
        proven=not problems and bool(used),
        problems=tuple(problems[:20]) if used else ("no step was written down",),
        run_id=heads[0].run_id,
        samples=samples,
        steps=next_step,
        samples_used=len(everything) - skipped_samples,
        samples_skipped=skipped_samples,
        epochs_complete=len(everything) // samples,
        history=tuple(history),
    )


def render(proof: LedgerProof) -> str:
    """For a person's eye."""
    lines = [f"run {proof.run_id}: {proof.steps} steps, {proof.samples_used} samples used, of {proof.samples}"]
    for part in proof.history:
        again = f", {part.rolled_back_steps} rolled back" if part.rolled_back_steps else ""
        lines.append(
            f"  generation {part.generation}: {part.world_size} ranks, {part.steps} steps from {part.first_step}{again}"
        )
    if proof.proven:
        if proof.samples_skipped:
            lines.append(f"  {proof.samples_skipped} samples skipped on request")
        lines.append(
            f"proven: {proof.epochs_complete} complete epochs with every sample exactly once, and no sample twice since"
        )
    else:
        lines += [f"NOT PROVEN: {problem}" for problem in proof.problems]
    return "\n".join(lines)


def _stretch(head: LedgerHead, steps: int, done: int) -> Stretch:
    return Stretch(
        generation=head.generation,
        world_size=head.world_size,
        first_step=head.start_step,
        steps=steps,
        rolled_back_steps=max(0, done - head.start_step - steps),
    )


def _check_epochs(used: npt.NDArray[np.int64], samples: int) -> Iterable[str]:
    for epoch, begin in enumerate(range(0, len(used), samples)):
        part = used[begin : begin + samples]
        taken = part[part != _SKIPPED]
        distinct, counts = np.unique(taken, return_counts=True)
        if distinct.size and not 0 <= int(distinct[0]) <= int(distinct[-1]) < samples:
            yield f"epoch {epoch}: an index outside of the dataset"
        repeated = distinct[counts > 1]
        if repeated.size:
            yield f"epoch {epoch}: {repeated.size} samples more than once, {int(repeated[0])} for one"
        if len(part) == samples and distinct.size < taken.size:
            yield f"epoch {epoch}: {taken.size - distinct.size} samples not used"


def _read(paths: Sequence[Path]) -> list[Ledger]:
    files: dict[str, Path] = {}
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob(LEDGER_PATTERN))
        for file in found:
            # The node's own file and its copy on the durable target: the longer one has more to say.
            known = files.get(file.name)
            if known is None or file.stat().st_size > known.stat().st_size:
                files[file.name] = file
    if not files:
        raise InvalidInputError(
            "ledger", ", ".join(map(str, paths)), f"directories with {LEDGER_PATTERN}", "set data.ledger: true"
        )
    ledgers = [ledger for file in files.values() if (ledger := _read_file(file)) is not None]
    if not ledgers:
        raise InvalidInputError("ledger", next(iter(files.values())), "a ledger that is not cut off in its first line")
    return ledgers


def _read_file(path: Path) -> Ledger | None:
    """None for a file without a whole first line: its rank has no ledger."""
    first, *lines = path.read_bytes().split(b"\n")
    try:
        head = LedgerHead.model_validate_json(first)
    except ValidationError:
        if _is_cut(first):
            return None
        raise InvalidInputError("ledger", path, "a ledger: its first line says which run and rank it is of") from None
    steps: dict[int, npt.NDArray[np.int64]] = {}
    skipped: dict[int, int] = {}
    for number, line in enumerate(lines, 2):
        try:
            document = json.loads(line)
        except ValueError:  # empty, or cut by a kill or a full disk: its step is not written down
            continue
        try:
            if "skipped_before" in document:
                skipped[int(document["skipped_before"])] = int(document["samples"])
                continue
            steps[int(document["step"])] = np.array(document["indices"], dtype=np.int64)
        except (ValueError, KeyError, TypeError):
            raise InvalidInputError("ledger", f"{path} line {number}", "a step and its sample indices") from None
    return head, steps, skipped


def _is_cut(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
