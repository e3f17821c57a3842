"""The whole loop on one machine: take the planner's config, train through two reclaims, and check the result.

    python examples/demo.py build/demo/harness.yaml

Two nodes are two torchrun agents, each with its own directory, which is deleted when the node is reclaimed; a third
directory stands for the bucket.  Faults happen at steps, not at times:

    launch 1   a fake AWS metadata service announces the reclaim of node 1: all ranks save the same step and leave
    launch 2   resumes; node 1 is killed without a notice, its disk is gone
    launch 3   resumes from the last durable checkpoint and finishes
    reference  an uninterrupted run with the same seed: its weights must be equal, bit for bit

Exit code 0: every fault happened, every launch ended as it should, and the weights are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.chaos.network import free_port
from harness.config import RunConfig, load_run_config
from harness.errors import (
    EXIT_BUG,
    EXIT_CTRL_C,
    EXIT_DONE,
    EXIT_INTERRUPTED_RESUMABLE,
    InvalidInputError,
    SpotPlannerError,
)
from harness.fakes import FakeAwsMetadata
from harness.fakes.position import StepWatcher
from harness.processes import kill_tree
from harness.report import render_report, report_document
from harness.status import read_status
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import EmergencySaved, NoticeReceived
from harness.validation import parse
from planner.retrace import retrace, sentence_of
from planner.telemetry_runs import read_runs

TRAIN = Path(__file__).resolve().with_name("train_gpt.py")
LAUNCH_LIMIT_SECONDS = 240.0
INTERVAL_SECONDS = 0.5


class DemoError(SpotPlannerError):
    """The demonstration did not go as it should."""


def laptop_overrides(folder: Path, port: int, metadata_ports: int) -> dict[str, tuple[Any, str]]:
    """What one machine must change in the plan's config: dotted key → (value, why)."""
    return {
        "torchrun.nnodes": ("2", "two nodes, both on this machine"),
        "torchrun.nproc_per_node": (1, "one CPU process each"),
        "torchrun.rdzv_endpoint": (f"localhost:{port}", "a free port here"),
        "checkpoint.directory": (str(folder / "node-{node}" / "checkpoints"), "each node's own disk"),
        "checkpoint.remote": (str(folder / "bucket"), "a directory stands for the bucket"),
        "checkpoint.s3_endpoint_url": (None, "no S3 here"),
        "checkpoint.interval": ({"seconds": INTERVAL_SECONDS}, "seconds of work: this run lasts seconds, not hours"),
        "notices.sources": (
            [{"kind": "sigterm"}, {"kind": "aws", "address": f"http://127.0.0.1:{metadata_ports}{{node}}"}],
            "a fake metadata service per node",
        ),
        "notices.poll_seconds": (0.2, "steps are short here"),
        "notices.agreement_every_steps": (2, "steps are short here: the derived K would outlast the run"),
        "telemetry.directory": (str(folder / "node-{node}" / "telemetry"), "on the node's own disk"),
        "telemetry.window_steps": (2, "faults are placed by step, to two steps"),
    }


def adapt(plan: RunConfig, overrides: dict[str, tuple[Any, str]]) -> RunConfig:
    """The plan's config with the overrides in it, validated again."""
    document = plan.model_dump(mode="json")
    for key, (value, _) in overrides.items():
        section, name = key.split(".")
        document[section][name] = value
    return parse(RunConfig, document, source="demo")


@dataclass
class Node:
    """One node's launch: `python -m harness launch`, its output in a log file and its main lines on the screen."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    lines: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, arguments: list[str], log: Path) -> Node:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "launch", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        node = cls(name, process, log)
        threading.Thread(target=node._read, daemon=True).start()
        return node

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("a", encoding="utf-8") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                self.lines.append(line)
                if line.startswith(("[harness", "step ")):
                    say(f"    {line.rstrip()}")

    def wait(self, *, limit_seconds: float = LAUNCH_LIMIT_SECONDS) -> int:
        """The launch's exit code."""
        try:
            return self.process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} did not end within {limit_seconds:.0f} s; see {self.log}") from None


class Demo:
    """The three launches, the reference and the comparison, below one folder."""

    def __init__(self, plan: RunConfig, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.nodes: list[Node] = []
        self.metadata: list[FakeAwsMetadata] = []
        port, metadata_ports = free_port(), free_decade()
        self.overrides = laptop_overrides(folder, port, metadata_ports)
        self.config = adapt(plan, self.overrides)
        self.config_path = folder / "harness.yaml"
        write_config(self.config, self.config_path)
        self.metadata = [FakeAwsMetadata(metadata_ports * 10 + node) for node in (0, 1)]

    def close(self) -> None:
        """Nothing of the demonstration is left running."""
        for node in self.nodes:
            if node.process.poll() is None:
                kill_tree(node.process.pid)
                node.process.wait()
        for metadata in self.metadata:
            metadata.close()

    def disk(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def launch(self, number: int) -> tuple[Node, Node]:
        """Both nodes of one launch."""
        say(f"\nlaunch {number}")
        started = []
        for node in (0, 1):
            arguments = [str(self.config_path), "--node-rank", str(node), str(TRAIN), "--steps", str(self.steps)]
            arguments += ["--result", str(self.folder / "result.json")]
            log = self.folder / "logs" / f"launch-{number}-node-{node}.log"
            started.append(Node.start(f"launch {number}, node {node}", arguments, log))
        self.nodes += started
        return started[0], started[1]

    def until(self, what: str, condition: Callable[[], bool], *nodes: Node) -> None:
        """Wait for a position of the run; DemoError when a node ends before, or after the limit."""
        end = time.monotonic() + LAUNCH_LIMIT_SECONDS
        while not condition():
            for node in nodes:
                if node.process.poll() is not None and not condition():
                    raise DemoError(f"{node.name} ended (exit {node.process.returncode}) before {what}; see {node.log}")
            if time.monotonic() > end:
                raise DemoError(f"{what}: not within {LAUNCH_LIMIT_SECONDS:.0f} s")
            time.sleep(0.05)

    def reclaim_with_notice(self, step: int) -> None:
        """Launch 1: node 1 gets a notice once it has done `step`."""
        first, second = self.launch(1)
        watcher = StepWatcher(self.disk(1) / "telemetry")
        self.until(f"step {step}", lambda: watcher.step() >= step, first, second)
        self.metadata[1].announce(seconds=self.config.notices.notice_seconds)
        say(f"  -> step {watcher.step()} was reached: AWS announces the reclaim of node 1")
        expect("launch 1", [first.wait(), second.wait()], EXIT_INTERRUPTED_RESUMABLE)
        if self.metadata[1].delivered != ["reclaim"] or self.metadata[0].delivered:
            raise DemoError("the notice did not reach node 1 alone")
        events = read_telemetry(self.disk(0), self.disk(1)).events
        heard = [event for event in events if isinstance(event, NoticeReceived) and event.source == "aws"]
        saved = [event for event in events if isinstance(event, EmergencySaved) and event.durable]
        if [event.node for event in heard] != [1]:
            raise DemoError(f"the notice was heard {len(heard)} times, not once on node 1")
        if sorted(event.node for event in saved) != [0, 1] or len({event.step for event in saved}) != 1:
            raise DemoError("the ranks did not save the same step")
        say(f"  -> both ranks saved step {saved[0].step}; both launches ended with 75; node 1 and its disk are gone")
        self.metadata[1].withdraw()
        shutil.rmtree(self.disk(1))

    def reclaim_without_notice(self) -> None:
        """Launch 2: node 1 is killed some steps after a checkpoint of this launch became durable."""
        first, second = self.launch(2)
        durable = StepWatcher(self.disk(0) / "telemetry", events=("checkpoint_durable",))
        before = durable.step()
        watcher = StepWatcher(self.disk(1) / "telemetry")
        # On a very fast machine the whole run may fit into one interval: the fault must happen all the same.
        latest = self.steps * 3 // 4
        self.until("a durable checkpoint", lambda: durable.step() > before or watcher.step() >= latest, first, second)
        mark = max(durable.step(), before) + 4
        self.until(f"step {mark}", lambda: watcher.step() >= mark, first, second)
        killed = kill_tree(second.process.pid)
        second.process.wait()
        shutil.rmtree(self.disk(1))
        say(f"  -> step {watcher.step()} was reached: node 1 is killed ({len(killed)} processes), its disk is gone")
        if second.process.returncode != -signal.SIGKILL:
            raise DemoError(f"node 1 ended by itself (exit {second.process.returncode}) before it was killed")
        self.until("node 0 noticed", self._lost_its_peer, first)
        # A job manager that sees a node vanish stops the rest, which waits for a replacement, and starts anew.
        say("  -> node 0 has lost its peer and waits for another node: the job manager stops it (SIGTERM)")
        first.process.terminate()
        expect("launch 2, node 0", [first.wait()], EXIT_INTERRUPTED_RESUMABLE)

    def _lost_its_peer(self) -> bool:
        status = read_status(self.disk(0) / "telemetry")
        return status is not None and status.reason == "peer-lost"

    def finish(self) -> None:
        """Launch 3: to the end."""
        expect("launch 3", [node.wait() for node in self.launch(3)], EXIT_DONE)

    def reference(self) -> None:
        """The same run without interruptions, both ranks on one node, below a folder of its own."""
        say("\nreference: the same seed, uninterrupted")
        folder = self.folder / "reference"
        overrides = {
            "torchrun.nnodes": ("1", ""),
            "torchrun.nproc_per_node": (2, ""),
            "checkpoint.directory": (str(folder / "node-{node}" / "checkpoints"), ""),
            "checkpoint.remote": (str(folder / "bucket"), ""),
            "telemetry.directory": (str(folder / "node-{node}" / "telemetry"), ""),
        }
        path = folder / "harness.yaml"
        write_config(adapt(self.config, overrides), path)
        arguments = [str(path), str(TRAIN), "--steps", str(self.steps), "--result", str(folder / "result.json")]
        node = Node.start("reference", arguments, self.folder / "logs" / "reference.log")
        self.nodes.append(node)
        expect("reference", [node.wait()], EXIT_DONE)

    def compare(self, plan_path: Path) -> bool:
        """Print the report and the comparison; whether the weights are equal."""
        document = report_document([self.folder / "bucket", self.disk(0), self.disk(1)], plan_path)
        (self.folder / "report.json").write_text(document.model_dump_json(indent=2), encoding="utf-8")
        say("\n" + render_report(document) + "\n")
        (run,) = read_runs([str(self.folder / "bucket"), str(self.disk(0)), str(self.disk(1))]).runs
        for line in textwrap.wrap(sentence_of(retrace(run)), 76, initial_indent="  ", subsequent_indent="  "):
            say(line)
        say("")
        interrupted = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        reference = json.loads((self.folder / "reference" / "result.json").read_text(encoding="utf-8"))
        equal = bool(interrupted["weights_sha256"] == reference["weights_sha256"])
        for name, result in (("interrupted twice", interrupted), ("uninterrupted", reference)):
            say(f"  weights, {name:<18} sha256 {result['weights_sha256'][:32]}…  loss {result['loss']:.6f}")
        say(f"  {'equal, bit for bit' if equal else 'DIFFERENT: the resume is not exact'}")
        return equal


def expect(what: str, codes: list[int], wanted: int) -> None:
    if any(code != wanted for code in codes):
        raise DemoError(f"{what} ended with exit code {', '.join(map(str, codes))} instead of {wanted}")


def write_config(config: RunConfig, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def free_decade() -> int:
    """A number whose ports …0 and …1 are free: ``{node}`` completes the address."""
    for _ in range(200):
        decade = 1100 + secrets.randbelow(1800)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", decade * 10))
                second.bind(("127.0.0.1", decade * 10 + 1))
            except OSError:
                continue
            return decade
    raise DemoError("no two neighbouring free ports on this machine")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="the harness.yaml that `planner recommend --emit` wrote")
    parser.add_argument("--folder", type=Path, help="where the demonstration runs (default: run/ beside the plan)")
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    began = time.monotonic()
    demo: Demo | None = None
    try:
        if args.steps < 60:
            raise InvalidInputError("--steps", args.steps, "at least 60: two faults need room")
        plan = load_run_config(args.plan)
        folder = (args.folder or args.plan.parent / "run").resolve()
        if folder.exists():
            if any(folder.iterdir()) and not (folder / "logs").is_dir():
                raise InvalidInputError("--folder", folder, "an empty folder or one of an earlier demonstration")
            shutil.rmtree(folder)
        (folder / "logs").mkdir(parents=True)
        demo = Demo(plan, folder, args.steps)
        say(f"training under {args.plan} (run {plan.run_id}); changed for this machine only:")
        for key, (value, why) in demo.overrides.items():
            say(f"  {key} = {value}   ({why})")
        demo.reclaim_with_notice(args.steps // 4)
        demo.reclaim_without_notice()
        demo.finish()
        demo.reference()
        equal = demo.compare(args.plan)
        say(f"  took {time.monotonic() - began:.0f} s; logs, checkpoints and report.json are in {folder}")
    except SpotPlannerError as error:
        sys.stderr.write(f"demo: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_CTRL_C
    else:
        return EXIT_DONE if equal else EXIT_BUG
    finally:
        if demo is not None:
            demo.close()


if __name__ == "__main__":
    sys.exit(main())
