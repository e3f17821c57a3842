"""Run a job on several nodes of this machine, interrupt it until it has finished, and judge the result."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.chaos.fleet import LIMIT_SECONDS, Fleet, Node, Shape, wait_until
from harness.chaos.interruptions import Interruption
from harness.chaos.judge import Evidence, Happened, Verdict, judge, noticed_seconds
from harness.chaos.network import ChaosError, NetworkKind, open_network
from harness.chaos.reference import run_uninterrupted
from harness.chaos.rigid import end_together, has_given_up
from harness.config import RunConfig
from harness.errors import EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE, InvalidInputError
from harness.processes import adopt_orphans, kill_tree

EXIT_TERMINATED = 128 + signal.SIGTERM


@dataclass
class Chaos:
    """One chaos run below `folder`, which must be empty or absent.  For a process of its own."""

    config: RunConfig
    interruptions: Sequence[Interruption]
    shape: Shape
    folder: Path
    tolerance: float = 0.0
    network_kind: NetworkKind = "auto"
    replace_after_steps: int = 10
    """A node that an elastic fleet lost is replaced when the others have come so much further."""
    may_outlast_run: bool = False
    """Interruptions that the run has ended before are no failure: a trace goes on for longer than a job."""
    reference: Path | None = None
    """Durable target of the uninterrupted run, where one was made before; None: it is made."""
    happened: list[Happened] = field(default_factory=list)

    def run(self) -> Verdict:
        """Interrupt, finish, run once more in peace, compare; writes ``verdict.json`` and ``report.json``."""
        self._check()
        adopt_orphans()
        began = time.monotonic()
        network = open_network(self.network_kind, self.shape.maximum)
        problems: list[str] = []
        launches = 0
        with _ended_by_sigterm():
            try:
                self._network = network
                self.folder.mkdir(parents=True, exist_ok=True)
                self._fleets = [self._new_fleet(self.folder)]
                try:
                    self._fleet.start_store()
                    self._start_all()
                    for item in self.interruptions:
                        if not self._interrupt(item):
                            break
                    self._to_the_end()
                    if self.reference is None:
                        run_uninterrupted(self.config, self.shape, self.folder)
                except ChaosError as error:
                    problems.append(str(error))
                finally:
                    for fleet in self._fleets:
                        fleet.close()
                launches = sum(node.launches for fleet in self._fleets for node in fleet.nodes)
            finally:
                network.close()
        ports = [*(fleet.port for fleet in self._fleets), *(service.port for service in network.metadata)]
        evidence = Evidence(
            folder=self.folder,
            reference=self.reference or self.folder / "reference" / "bucket",
            disks=tuple(node.disk for fleet in self._fleets for node in fleet.nodes),
            interval_steps=self.shape.interval_steps,
            tolerance=self.tolerance,
            launches=launches,
            network=network.kind,
            not_reached=0 if problems else len(self.interruptions) - len(self.happened),
            ports=tuple(ports),
        )
        verdict = judge(evidence, self.happened, problems, began=began)
        (self.folder / "verdict.json").write_text(verdict.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return verdict

    def _check(self) -> None:
        shape = self.shape
        beyond = [item.node for item in self.interruptions if item.node is not None and item.node >= shape.maximum]
        if beyond:
            raise InvalidInputError("node", beyond[0], f"0 to {shape.maximum - 1}: the run has {shape.maximum} nodes")
        elastic_only = [item.kind for item in self.interruptions if item.kind in {"join", "store-death"}]
        if elastic_only and not shape.elastic:
            hint = "the store of a rigid one is on node 0: kill that" if "store-death" in elastic_only else None
            wanted = "an elastic fleet, MIN:MAX"
            raise InvalidInputError("--nodes", shape.maximum, f"{wanted}, for {elastic_only[0]}", hint)
        if not shape.script.is_file():
            raise InvalidInputError("script", shape.script, "an existing Python file")
        if self.reference is not None and not self.reference.is_dir():
            raise InvalidInputError("--reference", self.reference, "a folder: reference/bucket of an earlier chaos run")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InvalidInputError("--folder", self.folder, "an empty or a new folder")

    # ---- fleets and nodes

    @property
    def _fleet(self) -> Fleet:
        """The newest launch; older ones exist after a split brain."""
        return self._fleets[-1]

    def _new_fleet(self, folder: Path) -> Fleet:
        return Fleet(self.config, self.shape, folder, self.folder / "bucket", folder / "logs", self._network)

    def _start_all(self) -> None:
        """What does not run, but for nodes that join later."""
        for node in self._fleet.nodes:
            point = next((h.during for h in self._ahead() if h.node == node.number and h.during), None)
            fault = {"HARNESS_FAULT": f"{point}@{self._trigger(node)}"} if point else {}
            node.environment = {**self._network.environment(node.number), **fault}
            if not node.running and not self._joins_later(node):
                node.start()

    def _ahead(self) -> Sequence[Interruption]:
        return self.interruptions[len(self.happened) :]

    def _joins_later(self, node: Node) -> bool:
        """Whether the next thing that happens to an absent node is that it joins."""
        following = next((item for item in self._ahead() if item.node == node.number), None)
        return following is not None and following.kind == "join"

    def _trigger(self, node: Node) -> Path:
        return self._fleet.folder / f"fault-{node.number}"

    def _lose(self, node: Node) -> None:
        node.lose()
        if self.shape.elastic and not self._joins_later(node):
            node.due_step = self._fleet.step() + self.replace_after_steps

    # ---- interrupting

    def _interrupt(self, item: Interruption) -> bool:
        """Wait for the position, interrupt, and see to it that the job goes on; False when the run was over before."""
        fleet = self._fleet
        node = None if item.node is None or item.kind == "join" else fleet.nodes[item.node]
        position = fleet.step if node is None else node.step
        fleet.wait(
            lambda: (position() >= item.at_step and (node is None or node.running)) or fleet.over(), item.describe()
        )
        step = position()
        if fleet.over():
            if self._outlasted():
                return False
            codes = [node.code for node in fleet.nodes]
            self.happened.append(Happened(interruption=item, fired=False))
            raise ChaosError(f"{item.describe()}: the run ended before (exit codes {codes})")
        began = time.time()
        # It is no longer ahead: what starts from here on is for those that follow.
        self.happened.append(Happened(interruption=item, fired=False, step=step))
        fired = self._fire(item)
        if not fired and self._outlasted():
            self.happened.pop()
            return False
        seconds = None
        if item.kind == "cut":
            seconds = noticed_seconds([node.disk for node in self._fleet.nodes], began)
        self.happened[-1] = Happened(interruption=item, fired=fired, step=step, noticed_seconds=seconds)
        if not fired:
            raise ChaosError(f"{item.describe()}: it did not happen")
        return True

    def _outlasted(self) -> bool:
        """The run has finished before (or while) the rest of a schedule that may be longer."""
        return self.may_outlast_run and any(node.code == EXIT_DONE for node in self._fleet.nodes)

    def _fire(self, item: Interruption) -> bool:
        if item.node is None:
            return self._store_death() if item.kind == "store-death" else self._split_brain()
        node = self._fleet.nodes[item.node]
        if item.kind == "join":
            return self._join(node, item)
        if item.kind == "cut":
            return self._cut(node, item)
        fired = self._kill(node, item) if item.kind == "kill" else self._announce(node, item)
        if fired and not self.shape.elastic:
            end_together(self._fleet, lost=node)
            self._start_all()
        return fired

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
        self._lose(node)
        return item.during is not None or not ended

    def _announce(self, node: Node, item: Interruption) -> bool:
        """Announce; the provider takes the node at its deadline, whatever it is doing."""
        service = self._network.metadata[node.number]
        promised = self._fleet.config.notices.notice_seconds
        left = promised if item.notice_seconds is None else item.notice_seconds
        service.announce(seconds=left if item.kind == "notice" else promised)
        deadline = time.monotonic() + left
        wait_until(lambda: node.code is not None or time.monotonic() >= deadline, item.describe(), left + LIMIT_SECONDS)
        delivered = service.delivered == ["reclaim"]
        self._lose(node)
        service.withdraw()
        service.delivered.clear()
        return delivered or item.kind == "late-notice"

    def _join(self, node: Node, item: Interruption) -> bool:
        """The node comes up, and trains."""
        if node.running:
            return False
        node.process = None
        node.start()
        self._fleet.wait(lambda: node.step() >= 0 or self._fleet.over(), f"{item.describe()}: training there")
        return node.step() >= 0

    def _cut(self, node: Node, item: Interruption) -> bool:
        """Silence, then the link is back: whoever has given the node up by then must not be disturbed by it."""
        assert item.cut_seconds is not None
        fleet, pid = self._fleet, node.pid
        self._network.cut(node.number, pid)
        node.silent = True
        end = time.monotonic() + item.cut_seconds
        try:
            fleet.wait(lambda: time.monotonic() >= end or fleet.over(), item.describe(), item.cut_seconds + 60.0)
        finally:
            self._network.heal(node.number, pid)
            node.silent = False
        if not self.shape.elastic and any(has_given_up(other) for other in fleet.nodes):
            end_together(fleet, lost=None)
            self._start_all()
        return True

    def _store_death(self) -> bool:
        """Every launch must end resumable; then the store is back, and they are launched again."""
        fleet = self._fleet
        assert fleet.store is not None
        running = [node for node in fleet.nodes if node.running]
        kill_tree(fleet.store.pid)
        fleet.store.wait()
        wait_until(lambda: not any(n.running for n in running), "launches end without their store", LIMIT_SECONDS)
        codes = [node.code for node in running]
        if any(code != EXIT_INTERRUPTED_RESUMABLE for code in codes):
            raise ChaosError(f"without their store the launches ended with {codes}, not with 75; see {fleet.folder}")
        fleet.start_store()
        for node in running:
            node.start()
        return True

    def _split_brain(self) -> bool:
        """Launch the job a second time, elsewhere; one of the two must find out and end, and publish nothing more.

        The one that claimed the run last goes on: the second, unless the first one was just forming up again.
        """
        first, second = self._fleet, self._new_fleet(self.folder / f"again-{len(self._fleets)}")
        self._fleets.append(second)
        second.start_store()
        self._start_all()
        wait_until(
            lambda: not all(any(n.running for n in fleet.nodes) for fleet in (first, second)),
            "one of two launches of the same run is fenced",
            LIMIT_SECONDS,
        )
        finished = any(node.code == EXIT_DONE for node in first.nodes)
        loser = second if finished or any(node.running for node in first.nodes) else first
        if loser is second:
            self._fleets[-2:] = [second, first]
        loser.close()
        fenced = [node for node in loser.nodes if (status := node.status()) is not None and status.state == "fenced"]
        return bool(fenced) and not any(node.code == EXIT_DONE for node in loser.nodes)

    # ---- the end

    def _to_the_end(self) -> None:
        fleet = self._fleet
        fleet.wait(lambda: not any(node.running for node in fleet.nodes) and fleet.over(), "the end of the run")
        codes = [node.code for node in fleet.nodes if node.process is not None]
        # A node that was just coming back when the others finished has nothing left to do.
        good = {EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE} if self.shape.elastic else {EXIT_DONE}
        if EXIT_DONE not in codes or not good.issuperset(codes):
            said = next((words for node in fleet.nodes if node.code not in good and (words := node.last_words())), None)
            because = f" ({said})" if said else ""
            raise ChaosError(
                f"the last launch ended with {codes}, not {EXIT_DONE}{because}; see {self.folder / 'logs'}"
            )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the block like Ctrl-C does, so that it takes down what it has started."""

    def end(_number: int, _frame: object) -> None:
        sys.exit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
