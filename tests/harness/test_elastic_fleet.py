"""Real torchrun agents around a store that outlives them: shrink, grow, finish, and launch again on the same store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import TCPStore
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout

from harness.clock import SystemClock
from harness.config import load_run_config
from harness.environment import waits_below_minimum
from harness.fakes.position import StepWatcher
from harness.launch import LaunchOptions, plan_launch
from harness.ledger import prove
from harness.meeting import JoinWatcher, Meeting
from harness.membership import come_back_when_evicted, leave, leave_for_agent
from harness.notices import Notice
from harness.processes import descendants, kill_tree, wait_gone
from harness.status import read_status
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointDurable, NoticeReceived
from harness.telemetry.summary import summarize_run
from tests.harness.run_support import TRAIN, write_config
from tests.harness.test_launch import free_port, until

SCRIPT = """
import sys, pathlib, time, torch, harness
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
with harness.Run.from_env(device="cpu") as run:
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    model = DistributedDataParallel(net) if run.world_size > 1 else net
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    run.register(model=model, optimizer=optimizer)
    for step in run.steps(10**9, samples=97, global_batch_samples=13):
        optimizer.zero_grad()
        for micro in step.micro_batches:
            inputs = torch.from_numpy(micro.indices).float()[:, None].expand(-1, 4) / 97
            (model(inputs).square().mean() * micro.weight).backward()
        optimizer.step()
        time.sleep(0.02)  # as if on a device: the cores are free for the nodes that start meanwhile
        flag = torch.tensor(float(pathlib.Path(sys.argv[1]).exists()))
        if run.world_size > 1:
            dist.all_reduce(flag)
        if flag.item():
            break
"""


class Fleet:
    """A store and launches of two nodes, each with a directory of its own, below `folder`."""

    def __init__(self, folder: Path, **torchrun: Any) -> None:
        self.folder, self.port = folder, free_port()
        self.finish = folder / "finish"
        self.script = folder / "train.py"
        self.script.write_text(textwrap.dedent(SCRIPT))
        conf = {"last_call_timeout": 1, "is_host": False, **torchrun.pop("rdzv_conf", {})}
        self.config = write_config(
            folder,
            torchrun={
                "nnodes": "1:2",
                "rdzv_endpoint": f"localhost:{self.port}",
                "rdzv_conf": conf,
                **torchrun,
            },
            notices={
                "sources": [{"kind": "sigterm"}, {"kind": "file", "address": str(folder / "notice-{node}")}],
                "poll_seconds": 0.1,
            },
            checkpoint={"interval": {"steps": 1_000_000_000}},
            data={"ledger": True},
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.store = self._start(["-m", "harness", "rendezvous", "--port", str(self.port)], folder / "log-store")

    def launch(self, node: int) -> subprocess.Popen[bytes]:
        arguments = ["launch", str(self.config), "--node-rank", str(node), str(self.script), str(self.finish)]
        return self._start(["-m", "harness", *arguments], self.folder / f"log-{node}")

    def torchrun(self, node: int) -> subprocess.Popen[bytes]:
        """Plain torchrun after `harness join`, as its help says."""
        environment = os.environ | {
            "HARNESS_CONFIG": str(self.config),
            "HARNESS_NODE": str(node),
            "PET_NNODES": "1:2",
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": f"localhost:{self.port}",
            "PET_RDZV_CONF": "is_host=0,last_call_timeout=1,keep_alive_interval=60",
            "PET_MAX_RESTARTS": "9",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with (self.folder / f"log-{node}").open("ab") as log:
            joined = subprocess.run(
                [sys.executable, "-m", "harness", "join", "--node-rank", str(node), str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        environment["PET_RDZV_ID"] = joined.stdout.strip()
        arguments = ["-m", "torch.distributed.run", str(self.script), str(self.finish)]
        return self._start(arguments, self.folder / f"log-{node}", environment)

    def _start(
        self, arguments: list[str], log: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=(environment or os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
                process_group=0,
            )
        self.processes.append(process)
        return process

    def disk(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def watch(self, node: int) -> StepWatcher:
        return StepWatcher(self.disk(node) / "telemetry")

    def log(self, node: int) -> str:
        return (self.folder / f"log-{node}").read_text()

    def steps_from_now(self, node: int, steps: int) -> Callable[[], bool]:
        watcher = self.watch(node)
        mark = watcher.step() + steps
        return lambda: watcher.step() >= mark

    def events(self) -> list[Any]:
        return list(read_telemetry(self.folder / "bucket", self.disk(0), self.disk(1)).events)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                kill_tree(process.pid)
                process.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.slow
def test_a_fleet_shrinks_grows_finishes_is_launched_again_and_loses_its_store(fleet: Fleet) -> None:
    """2 → 1 → 2 nodes by step position, with a notice and a newcomer: no step is lost, the ledger proves it.

    The newcomer's disk is new.  After the end the same store takes the next launch, under another rdzv_id; SIGKILL to
    the store ends that one with 75, with nothing left running and a line that says what to do.
    """
    first, second = fleet.launch(0), fleet.launch(1)
    until("training on two nodes", lambda: fleet.watch(1).step() >= 10, second)
    (fleet.folder / "notice-1").write_text("")
    assert second.wait(60) == 75
    (fleet.folder / "notice-1").unlink()
    shutil.rmtree(fleet.disk(1))
    until("node 0 alone", fleet.steps_from_now(0, 20), first)
    newcomer = fleet.launch(1)
    until("two nodes again", lambda: fleet.watch(1).step() >= 0, newcomer)
    until("20 more steps", fleet.steps_from_now(1, 20), newcomer)
    everything = [pid for process in (first, newcomer) for pid in descendants(process.pid)]
    fleet.finish.write_text("")
    assert [first.wait(60), newcomer.wait(60)] == [0, 0]
    assert wait_gone(everything, 10.0) == []

    attempts = summarize_run(fleet.events()).attempts
    sizes = [attempt.world_size for attempt in attempts]
    # Whoever came late may have found the other one training alone.
    assert [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]][-3:] == [2, 1, 2], sizes
    assert sum(attempt.lost_steps for attempt in attempts) == 0
    proof = prove([fleet.folder])
    assert proof.proven, proof.problems
    assert {part.world_size for part in proof.history} == {1, 2}
    assert "joining a running fleet, which has saved" in fleet.log(1)
    joins = [e for e in fleet.events() if isinstance(e, NoticeReceived) and e.source == "join"]
    assert joins
    planned = [e for e in fleet.events() if isinstance(e, CheckpointDurable) and e.reason == "precaution"]
    assert planned
    assert planned[-1].step <= attempts[-1].start_step  # before the restart, not in its handler

    # The same store takes the next launch; its death ends that one in a state from which it can go on.
    assert "rendezvous run-1\n" in fleet.log(0)
    fleet.finish.unlink()
    again = fleet.launch(0)
    until("training again", fleet.steps_from_now(0, 10), again)
    assert "rendezvous run-2\n" in fleet.log(0)
    everything = descendants(again.pid)
    fleet.store.kill()
    assert again.wait(60) == 75
    assert wait_gone(everything, 10.0) == []
    assert "rendezvous store is gone" in fleet.log(0)
    assert "Traceback" not in fleet.log(0), fleet.log(0)


@pytest.mark.slow
def test_plain_torchrun_joins_and_leaves_as_well(fleet: Fleet) -> None:
    """Agents that know nothing of the harness: the fleet saves before a node joins, and a notice needs no keep-alive.

    A node counts as dead after 180 s here: only one that took itself off the rendezvous lets the other form up sooner.
    """
    first = fleet.torchrun(0)
    until("node 0 alone", lambda: fleet.watch(0).step() >= 10, first)
    second = fleet.torchrun(1)
    until("two nodes", lambda: fleet.watch(1).step() >= 0, second)
    until("10 more steps", fleet.steps_from_now(1, 10), second)
    assert "joining a running fleet, which has saved" in fleet.log(1)
    (fleet.folder / "notice-1").write_text("")
    assert second.wait(60) == 1  # torchrun knows no other end; status.json says more
    until("node 0 alone again", fleet.steps_from_now(0, 10), first)
    first.terminate()
    assert first.wait(60) == 1
    found = read_status(fleet.disk(0) / "telemetry")
    assert found is not None
    assert (found.state, found.exit_code, found.resumable, found.reason) == ("interrupted", 75, True, "notice")
    attempts = summarize_run(fleet.events()).attempts
    assert [attempt.world_size for attempt in attempts] == [1, 2, 1]
    assert sum(attempt.lost_steps for attempt in attempts) == 0
    assert next(e.reason for e in fleet.events() if isinstance(e, CheckpointDurable)) == "precaution"
    proof = prove([fleet.folder])
    assert proof.proven, proof.problems


@pytest.mark.slow
def test_below_the_minimum_the_run_waits_and_says_so(tmp_path: Path) -> None:
    """2 nodes of 2 to 3, one is reclaimed: the other one trains no further, waits, and goes on with its replacement."""
    fleet = Fleet(tmp_path, nnodes="2:3")
    try:
        first, second = fleet.launch(0), fleet.launch(1)
        until("two nodes", lambda: fleet.watch(1).step() >= 5, second)
        (fleet.folder / "notice-1").write_text("")
        assert second.wait(60) == 75
        (fleet.folder / "notice-1").unlink()
        shutil.rmtree(fleet.disk(1))
        says = "1 of 2 nodes stay, and the run needs 2: waiting for others"
        until("it says so", lambda: says in fleet.log(0), first)
        until("no worker runs", lambda: len(descendants(first.pid)) == 1, first)
        fleet.launch(1)
        until("two nodes again", fleet.steps_from_now(0, 5), first)
        attempts = summarize_run(fleet.events()).attempts
        assert [(attempt.world_size, attempt.lost_steps) for attempt in attempts] == [(2, 0), (2, 0)]
    finally:
        fleet.close()


# ---- the parts, without processes


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield Meeting("127.0.0.1", store.port, timeout_seconds=10.0)
    del store


def test_ids_are_handed_out_once_per_launch(meeting: Meeting) -> None:
    """All nodes of a launch get one id; a new one only after the launch is over; runs do not mix."""
    assert [meeting.hand_out_id("a") for _ in range(3)] == ["a-1"] * 3
    meeting.close_id("a-1")
    assert [meeting.hand_out_id("a") for _ in range(2)] == ["a-2"] * 2
    assert meeting.hand_out_id("b") == "b-1"


def test_a_newcomer_waits_for_the_save(meeting: Meeting) -> None:
    """No fleet: it enters at once.  A fleet: it is answered once a later step is durable, and not before."""
    assert meeting.ask_to_join("a-1", timeout_seconds=5.0) is None
    heard: list[Notice] = []
    durable = [7]

    def hear(notice: Notice) -> None:
        heard.append(notice)
        durable[0] = 12

    watcher = JoinWatcher(lambda: meeting, "a-1", hear=hear, durable_step=lambda: durable[0], clock=SystemClock())
    watcher.start()
    try:
        assert until_true(lambda: meeting.ask_to_join("a-1", timeout_seconds=20.0))
    finally:
        watcher.close()
    assert [(notice.source, notice.kind) for notice in heard] == [("join", "rebalance")]


class Member:
    """torchrun's own rendezvous of one node, joined with others through a store."""

    def __init__(self, store: TCPStore, name: str) -> None:
        backend = C10dRendezvousBackend(store, "run")
        timeout = RendezvousTimeout(last_call=timedelta(seconds=1))
        self.handler = DynamicRendezvousHandler.from_backend("run", store, backend, 1, 2, name, timeout)

    def members(self) -> set[str]:
        self.handler.num_nodes_waiting()
        return {node.addr for node in self.handler._state_holder.state.participants}


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Member, Member, int]]:
    """Two nodes in one round, and the store's port."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    members = [
        Member(TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False), name)
        for name in ("first", "second")
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda member: member.handler.next_rendezvous(), members))
    yield members[0], members[1], store.port
    for member in members:
        member.handler._stop_heartbeats()


def test_a_node_that_leaves_is_off_the_list_at_once(pair: tuple[Member, Member, int]) -> None:
    """The agent's way and the worker's: the other node sees it gone, long before any keep-alive has expired."""
    first, second, port = pair
    assert first.members() == second.members() == {"first", "second"}
    assert leave(second.handler)
    assert until_true(lambda: first.members() == {"first"})  # what it has read is up to a second old
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "rdzv_id": "run", "min_nodes": 1, "max_nodes": 2}
    assert not leave_for_agent(os.getpid(), local_addr="somebody else", **where)
    assert leave_for_agent(os.getpid(), local_addr="first", **where)
    assert until_true(lambda: first.members() == set())


def test_a_node_that_was_taken_for_dead_asks_for_a_new_round(pair: tuple[Member, Member, int]) -> None:
    """torchrun's agent restarts its workers when nodes wait: an evicted node says that one does, itself."""
    first, second, port = pair
    come_back_when_evicted(first.handler)
    assert first.handler.num_nodes_waiting() == 0
    leave_for_agent(
        os.getpid(), local_addr="first", host="127.0.0.1", port=port, rdzv_id="run", min_nodes=1, max_nodes=2
    )
    assert until_true(lambda: first.handler.num_nodes_waiting() == 1)
    assert second.handler.num_nodes_waiting() == 0


def until_true(condition: Callable[[], bool | None]) -> bool:
    """Asks until the answer is yes: somebody else's thread has to do something first."""
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        if condition():
            return True
        threading.Event().wait(0.05)
    return False


def test_an_external_store_is_asked_for_the_id(tmp_path: Path) -> None:
    """is_host: false hands the id out; --rdzv-id or a store on node 0 does not."""
    external = write_config(tmp_path, torchrun={"rdzv_conf": {"is_host": False}})
    assert plan_launch(external, LaunchOptions(), TRAIN, []).hand_out_id
    assert not plan_launch(external, LaunchOptions(rdzv_id="mine"), TRAIN, []).hand_out_id
    assert not plan_launch(write_config(tmp_path / "own"), LaunchOptions(), TRAIN, []).hand_out_id


@pytest.mark.parametrize(
    ("nnodes", "asked", "waits"),
    [("2:4", None, True), ("2", None, False), ("2", "wait", True), ("2:4", "leave", False)],
)
def test_below_the_minimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnodes: str, asked: str | None, waits: bool
) -> None:
    """An elastic fleet waits for a replacement, a rigid one ends for its requeue; the config decides otherwise."""
    monkeypatch.delenv("PET_NNODES", raising=False)
    config = write_config(tmp_path, torchrun={"nnodes": nnodes}, elastic={"below_minimum": asked})
    assert waits_below_minimum(load_run_config(config)) is waits
