"""What a chaos run proves: samples, weights, lost steps, and that nothing of it is left."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.chaos.interruptions import HARMLESS, Interruption
from harness.chaos.network import can_bind
from harness.errors import SpotPlannerError
from harness.processes import descendants, is_running, kill_tree, wait_gone
from harness.report import report_document
from harness.telemetry.reader import FILE_PATTERN, read_telemetry
from harness.telemetry.schema import Left
from harness.telemetry.summary import summarize_run
from harness.validation import StrictModel

_LEFTOVERS = (".writing-*", ".restoring-*", ".discarded-*", ".probe-*", ".status.json.*")


class Happened(StrictModel):
    """One interruption of the schedule, and whether it took place."""

    interruption: Interruption
    fired: bool
    step: int | None = None
    """The furthest step of the node's telemetry when it began."""
    noticed_seconds: float | None = None
    """A cut: until the others knew; None where it was over before."""


class Verdict(StrictModel):
    """What a chaos run proved; `passed` only without `problems`."""

    schema_version: Literal[1] = 1
    passed: bool
    problems: tuple[str, ...]
    happened: tuple[Happened, ...]
    not_reached: int
    """Interruptions of a schedule that was longer than the run."""
    network: str
    """namespaces, or processes that share loopback."""
    launches: int
    sizes: tuple[int, ...]
    """World size of each attempt that trained, in order."""
    membership_changes: int
    """Attempts that trained with other nodes than the one before: one fewer than their number."""
    lost_steps: int
    lost_steps_bound: int
    """Two intervals per loss without (or with too late a) notice, one for the steps since the save and one for the
    upload in flight; three for a split brain, whose older half is told by its next save."""
    weights_difference: float | None
    """Largest difference of any weight from the uninterrupted run's; 0 when equal bit for bit."""
    samples_proven: bool | None
    """From the ledgers; None where nothing was written down."""
    orphans: int
    wall_seconds: float


@dataclass(frozen=True)
class Evidence:
    """Where to look."""

    folder: Path
    """With ``bucket`` in it."""
    reference: Path
    """Durable target of the uninterrupted run."""
    disks: tuple[Path, ...]
    interval_steps: int
    tolerance: float
    launches: int
    network: str
    not_reached: int
    ports: tuple[int, ...]


def judge(evidence: Evidence, happened: Sequence[Happened], problems: Sequence[str], *, began: float) -> Verdict:
    """The verdict; writes ``report.json`` and ends what was left running."""
    problems, folder = list(problems), evidence.folder
    came_to_its_end = not problems
    there = [path for path in (folder / "bucket", *evidence.disks) if path.exists()]
    wrote = any(True for path in there for _ in path.rglob(FILE_PATTERN))
    summary = summarize_run(read_telemetry(*there).events if wrote else ())
    if wrote:
        (folder / "report.json").write_text(
            report_document(there, folder / "harness.yaml").model_dump_json(indent=2), encoding="utf-8"
        )
    bound, lost = lost_steps_bound(happened, evidence.interval_steps), summary.profile.lost_steps
    if lost > bound:
        problems.append(f"{lost} steps lost, more than the {bound} that these interruptions may cost")
    difference = samples = None
    if not problems:
        difference = weights_difference(folder / "bucket", evidence.reference)
        if difference > evidence.tolerance:
            problems.append(f"weights differ from the uninterrupted run's by {difference:g}")
        samples = _prove_samples(there, problems)
    # Killed trees are adopted by this process: those that have ended are no orphans, only not yet waited for.
    orphans = [pid for pid in descendants(os.getpid()) if is_running(pid)]
    if orphans:
        problems.append(f"{len(orphans)} processes were left behind: {', '.join(map(str, orphans))}")
        for pid in orphans:
            kill_tree(pid)
        wait_gone(orphans, 5.0)
    problems += [f"port {port} is still in use" for port in evidence.ports if not can_bind(port)]
    # A run that was given up is killed where it stands.
    leaked = [path for pattern in _LEFTOVERS for path in folder.rglob(pattern)] if came_to_its_end else []
    problems += [f"left behind: {path}" for path in leaked[:5]]
    trained = [attempt for attempt in summary.attempts if attempt.last_step > attempt.start_step]
    return Verdict(
        passed=not problems,
        problems=tuple(problems),
        happened=tuple(happened),
        not_reached=evidence.not_reached,
        network=evidence.network,
        launches=evidence.launches,
        sizes=tuple(attempt.world_size for attempt in trained),
        membership_changes=max(0, len(trained) - 1),
        lost_steps=lost,
        lost_steps_bound=bound,
        weights_difference=difference,
        samples_proven=samples,
        orphans=len(orphans),
        wall_seconds=time.monotonic() - began,
    )


def noticed_seconds(disks: Sequence[Path], since_wall: float) -> float | None:
    """Seconds from `since_wall` until a node said that it had lost a peer; None where nobody did."""
    lost = [
        event.wall_time
        for event in read_telemetry(*[disk for disk in disks if disk.exists()]).events
        if isinstance(event, Left) and event.reason == "peer-lost" and event.wall_time >= since_wall
    ]
    return min(lost) - since_wall if lost else None


def lost_steps_bound(happened: Sequence[Happened], interval_steps: int) -> int:
    """The most steps that may have been done again."""
    intervals = dict.fromkeys(HARMLESS, 0) | {"split-brain": 3}
    return interval_steps * sum(intervals.get(item.interruption.kind, 2) for item in happened)


def _prove_samples(paths: Sequence[Path], problems: list[str]) -> bool | None:
    """From the ledgers of all nodes; None when the script's dataset leaves none."""
    from harness.ledger import LEDGER_PATTERN, prove

    if not any(True for path in paths for _ in path.rglob(LEDGER_PATTERN)):
        return None
    proof = prove(paths)
    problems += [f"samples: {problem}" for problem in proof.problems]
    return proof.proven


def weights_difference(bucket: Path, reference: Path) -> float:
    """Largest absolute difference between the newest models below two durable targets; 0 when equal bit for bit."""
    import torch

    from harness.checkpoint.export import export_checkpoint

    states = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for number, location in enumerate((bucket, reference)):
            output = Path(folder) / f"{number}.pt"
            export_checkpoint(location, output, component="model")
            states.append(torch.load(output, weights_only=True))
    first, second = states
    if first.keys() != second.keys():
        raise SpotPlannerError("the two runs have different models")
    largest = 0.0
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            # NaN and equal-looking values count too: only equal bits are 0.
            gap = (tensor.double() - second[name].double()).abs().max().item()
            largest = max(largest, gap if gap > 0.0 else float("inf"))
    return largest


def render(verdict: Verdict) -> str:
    """For a person's eye."""
    lines = []
    for item in verdict.happened:
        noticed = "" if item.noticed_seconds is None else f"; the others knew after {item.noticed_seconds:.1f} s"
        step = "" if item.step is None else f" (step {item.step}{noticed})"
        lines.append(f"{item.interruption.describe()}: {'happened' if item.fired else 'DID NOT HAPPEN'}{step}")
    if verdict.not_reached:
        lines.append(f"{verdict.not_reached} more of the schedule would come after the end of the run")
    lines.append(f"sizes: {' → '.join(map(str, verdict.sizes))} ({verdict.launches} launches, {verdict.network})")
    lines.append(f"lost steps: {verdict.lost_steps} (at most {verdict.lost_steps_bound})")
    if verdict.weights_difference is not None:
        equal = verdict.weights_difference == 0.0
        lines.append(f"weights: {'equal, bit for bit' if equal else f'differ by {verdict.weights_difference:g}'}")
    if verdict.samples_proven is not None:
        lines.append(f"every sample exactly once: {'proven' if verdict.samples_proven else 'NOT PROVEN'}")
    lines += [f"PROBLEM: {problem}" for problem in verdict.problems]
    lines.append(f"{'passed' if verdict.passed else 'FAILED'} in {verdict.wall_seconds:.0f} s")
    return "\n".join(lines)
