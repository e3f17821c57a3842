"""Run a job on several nodes of this machine, interrupt it until it has finished, and judge the result."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.chaos.fleet import (
    ChaosError,
    Node,
    can_bind,
    free_port,
    launch_command,
    one_machine,
    open_metadata,
    wait_until,
    write_config,
)
from harness.chaos.interruptions import Interruption
from harness.config import RunConfig
from harness.errors import EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE, InvalidInputError, SpotPlannerError
from harness.fakes.position import StepWatcher
from harness.processes import adopt_orphans, descendants, is_running, kill_tree, wait_gone
from harness.report import report_document
from harness.status import read_status
from harness.telemetry.reader import read_telemetry
from harness.telemetry.summary import summarize_run
from harness.validation import StrictModel

LIMIT_SECONDS = 300.0
_LEFTOVERS = (".writing-*", ".restoring-*", ".discarded-*", ".probe-*", ".status.json.*")


class Happened(StrictModel):
    """One interruption of the schedule, and whether it took place."""

    interruption: Interruption
    fired: bool
    step: int | None = None
    """The furthest step of the node's telemetry when it began."""


class Verdict(StrictModel):
    """What a chaos run proved; `passed` only without `problems`."""

    schema_version: Literal[1] = 1
    passed: bool
    problems: tuple[str, ...]
    happened: tuple[Happened, ...]
    launches: int
    lost_steps: int
    lost_steps_bound: int
    """Per kill and late notice: two intervals, one for the steps since the save and one for the upload in flight."""
    weights_difference: float | None
    """Largest difference of any weight from the uninterrupted run's; 0 when equal bit for bit."""
    samples_proven: bool | None
    """From the ledgers; None where nothing was written down."""
    orphans: int
    wall_seconds: float


@dataclass
class Chaos:
    """One chaos run below `folder`, which must be empty or absent."""

    config: RunConfig
    interruptions: Sequence[Interruption]
    script: Path
    arguments: Sequence[str]
    folder: Path
    nodes: int = 2
    interval_steps: int = 5
    tolerance: float = 0.0
    happened: list[Happened] = field(default_factory=list)

    def run(self) -> Verdict:
        """Interrupt, finish, run once more in peace, compare; writes ``verdict.json`` and ``report.json``."""
        self._check()
        adopt_orphans()
        began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        address, self._metadata = open_metadata(self.nodes)
        self._port = free_port()
        path = self.folder / "harness.yaml"
        self._run_config = one_machine(
            self.config,
            self.folder,
            nodes=self.nodes,
            interval_steps=self.interval_steps,
            port=self._port,
            metadata=address,
        )
        write_config(self._run_config, path)
        self._fleet = [
            Node(
                number,
                self.folder,
                launch_command(path, number, self.script, self.arguments),
                self.folder / "logs" / f"node-{number}.log",
            )
            for number in range(self.nodes)
        ]
        problems: list[str] = []
        try:
            self._start_all()
            for item in self.interruptions:
                self._interrupt(item)
            self._to_the_end()
            self._reference()
        except ChaosError as error:
            problems.append(str(error))
        finally:
            for node in self._fleet:
                node.close()
            for service in self._metadata:
                service.close()
        verdict = self._judge(problems, began)
        (self.folder / "verdict.json").write_text(verdict.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return verdict

    def _check(self) -> None:
        beyond = [item.node for item in self.interruptions if item.node >= self.nodes]
        if beyond:
            raise InvalidInputError("node", beyond[0], f"0 to {self.nodes - 1}: the run has {self.nodes} nodes")
        if not self.script.is_file():
            raise InvalidInputError("script", self.script, "an existing Python file")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InvalidInputError("--folder", self.folder, "an empty or a new folder")

    # ---- interrupting

    def _start_all(self) -> None:
        for node in self._fleet:
            point = next((h.during for h in self._ahead() if h.node == node.number and h.during), None)
            node.environment = {"HARNESS_FAULT": f"{point}@{self._trigger(node)}"} if point else {}
            node.start()

    def _ahead(self) -> Sequence[Interruption]:
        return self.interruptions[len(self.happened) :]

    def _trigger(self, node: Node) -> Path:
        return self.folder / f"fault-{node.number}"

    def _interrupt(self, item: Interruption) -> None:
        """Wait for the position, interrupt, and launch again what is left."""
        node = self._fleet[item.node]
        watcher = StepWatcher(node.disk / "telemetry")

        def reached_or_over() -> bool:
            return watcher.step() >= item.at_step or any(other.code is not None for other in self._fleet)

        wait_until(reached_or_over, item.describe(), LIMIT_SECONDS)
        codes = [other.code for other in self._fleet]
        if any(code is not None for code in codes):
            self.happened.append(Happened(interruption=item, fired=False))
            raise ChaosError(f"{item.describe()}: the run ended before (exit codes {codes})")
        step = watcher.step()
        fired = self._kill(node, item) if item.kind == "kill" else self._announce(node, item)
        self.happened.append(Happened(interruption=item, fired=fired, step=step))
        if not fired:
            raise ChaosError(f"{item.describe()}: it did not happen")
        self._collect(item)
        self._start_all()

    def _kill(self, node: Node, item: Interruption) -> bool:
        if item.during is not None:
            trigger = self._trigger(node)
            fired = trigger.with_name(f"{trigger.name}.fired")
            trigger.touch()
            wait_until(lambda: fired.exists() or node.code is not None, item.describe(), LIMIT_SECONDS)
            if not fired.exists():
                trigger.unlink(missing_ok=True)
                return False
            fired.unlink()
        ended = node.code is not None
        node.kill()
        return item.during is not None or not ended

    def _announce(self, node: Node, item: Interruption) -> bool:
        """Announce; the provider takes the node at its deadline, whatever it is doing."""
        service = self._metadata[node.number]
        promised = self._run_config.notices.notice_seconds
        left = promised if item.notice_seconds is None else item.notice_seconds
        service.announce(seconds=left if item.kind == "notice" else promised)
        deadline = time.monotonic() + left
        wait_until(lambda: node.code is not None or time.monotonic() >= deadline, item.describe(), left + LIMIT_SECONDS)
        delivered = service.delivered == ["reclaim"]
        node.kill()
        service.withdraw()
        service.delivered.clear()
        return delivered or item.kind == "late-notice"

    def _collect(self, item: Interruption) -> None:
        """All nodes have ended: as a fleet of fixed size does that has lost one."""
        node = self._fleet[item.node]
        for other in self._fleet:
            if other is not node:
                wait_until(lambda other=other: self._lost_a_node(other), "the others notice", LIMIT_SECONDS)  # type: ignore[misc]
                status = read_status(other.disk / "telemetry")
                if status is not None and status.reason == "peer-lost":
                    # It waits for a replacement, as a fleet of fixed size does; a job manager stops it.  Whoever leaves
                    # by itself is left alone: a signal in its last moments would hide how it ended.
                    other.terminate()
                wait_until(lambda other=other: other.code is not None, "the others end", LIMIT_SECONDS)  # type: ignore[misc]
                if node.number != 0 and other.code != EXIT_INTERRUPTED_RESUMABLE:
                    raise ChaosError(f"node {other.number} ended with {other.code}, not resumable; see {other.log}")

    def _lost_a_node(self, node: Node) -> bool:
        status = read_status(node.disk / "telemetry")
        return node.code is not None or (status is not None and status.state == "interrupted")

    def _to_the_end(self) -> None:
        wait_until(lambda: all(node.code is not None for node in self._fleet), "the end of the run", LIMIT_SECONDS)
        codes = [node.code for node in self._fleet]
        if any(code != EXIT_DONE for code in codes):
            raise ChaosError(f"the last launch ended with {codes}, not {EXIT_DONE}; see {self.folder / 'logs'}")

    def _reference(self) -> None:
        """The same run, never interrupted, all ranks on one node, below a folder of its own."""
        folder = self.folder / "reference"
        config = one_machine(
            self.config,
            folder,
            nodes=1,
            interval_steps=self.interval_steps,
            port=free_port(),
            metadata="http://127.0.0.1:9",
        )
        config = config.model_copy(
            update={
                "torchrun": config.torchrun.model_copy(update={"nproc_per_node": self.nodes}),
                "notices": config.notices.model_copy(update={"sources": config.notices.sources[:1]}),
            }
        )
        write_config(config, folder / "harness.yaml")
        command = launch_command(folder / "harness.yaml", None, self.script, self.arguments)
        node = Node(0, folder, command, self.folder / "logs" / "reference.log")
        self._fleet.append(node)
        node.start()
        wait_until(lambda: node.code is not None, "the end of the uninterrupted run", LIMIT_SECONDS)
        if node.code != EXIT_DONE:
            raise ChaosError(f"the uninterrupted run ended with {node.code}; see {node.log}")

    # ---- judging

    def _judge(self, problems: list[str], began: float) -> Verdict:
        disks = [self.folder / "bucket", *(self.folder / f"node-{number}" for number in range(self.nodes))]
        there = [path for path in disks if path.exists()]
        summary = summarize_run(read_telemetry(*there).events)
        (self.folder / "report.json").write_text(
            report_document(there, self.folder / "harness.yaml").model_dump_json(indent=2), encoding="utf-8"
        )
        hard = sum(item.interruption.kind != "notice" for item in self.happened)
        bound, lost = 2 * self.interval_steps * hard, summary.profile.lost_steps
        if lost > bound:
            problems.append(f"{lost} steps lost, more than the {bound} that {hard} kills and late notices may cost")
        difference = samples = None
        if not problems:
            difference = weights_difference(self.folder / "bucket", self.folder / "reference" / "bucket")
            if difference > self.tolerance:
                problems.append(f"weights differ from the uninterrupted run's by {difference:g}")
            samples = self._prove_samples(there, problems)
        # Killed trees are adopted by this process: those that have ended are no orphans, only not yet waited for.
        orphans = [pid for pid in descendants(os.getpid()) if is_running(pid)]
        if orphans:
            problems.append(f"{len(orphans)} processes were left behind: {', '.join(map(str, orphans))}")
            for pid in orphans:
                kill_tree(pid)
            wait_gone(orphans, 5.0)
        ports = [self._port, *(service.port for service in self._metadata)]
        problems += [f"port {port} is still in use" for port in ports if not can_bind(port)]
        leaked = [path for pattern in _LEFTOVERS for path in self.folder.rglob(pattern)]
        problems += [f"left behind: {path}" for path in leaked[:5]]
        return Verdict(
            passed=not problems,
            problems=tuple(problems),
            happened=tuple(self.happened),
            launches=sum(node.launches for node in self._fleet),
            lost_steps=lost,
            lost_steps_bound=bound,
            weights_difference=difference,
            samples_proven=samples,
            orphans=len(orphans),
            wall_seconds=time.monotonic() - began,
        )

    def _prove_samples(self, paths: Sequence[Path], problems: list[str]) -> bool | None:
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
    lines = [
        f"{item.interruption.describe()}: {'happened' if item.fired else 'DID NOT HAPPEN'} (step {item.step})"
        for item in verdict.happened
    ]
    lines.append(f"lost steps: {verdict.lost_steps} (at most {verdict.lost_steps_bound})")
    if verdict.weights_difference is not None:
        equal = verdict.weights_difference == 0.0
        lines.append(f"weights: {'equal, bit for bit' if equal else f'differ by {verdict.weights_difference:g}'}")
    if verdict.samples_proven is not None:
        lines.append(f"every sample exactly once: {'proven' if verdict.samples_proven else 'NOT PROVEN'}")
    lines += [f"PROBLEM: {problem}" for problem in verdict.problems]
    lines.append(f"{'passed' if verdict.passed else 'FAILED'} in {verdict.wall_seconds:.0f} s")
    return "\n".join(lines)
