"""`python -m harness launch`: check the machine, run the same torchrun, end with an exit code that means something.

torchrun exits 1 for a reclaim as for a bug.  This process stays its parent, maps its end by status.json (0 finished,
75 interrupted and resumable, 2 bad input, 1 anything else; 130 after Ctrl-C), passes signals on, and sees to it that
nothing of the job is left behind: torchrun puts its workers into sessions of their own, which no terminal reaches.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from harness.agent import ENDPOINT, HAND_OUT, JOIN_SECONDS
from harness.config import RunConfig, TorchrunConfig, load_run_config
from harness.directories import resolve_directories, uses_node
from harness.errors import EXIT_BUG, EXIT_CTRL_C, EXIT_DONE, EXIT_INTERRUPTED_RESUMABLE, InvalidInputError
from harness.notices.sources import warning_signals
from harness.preflight import check_machine, environment_for, is_this_machine, split_endpoint
from harness.processes import adopt_orphans, descendants, die_with_parent, kill_tree, wait_gone
from harness.status import Status, read_status
from harness.validation import parse
from harness.warning_signals import HELD, hold, take

_log = logging.getLogger("harness")

WAITING_SECONDS = 10.0
"""Without a training process before the launcher says what it waits for; starting one takes less."""

KILL_MARGIN_SECONDS = 10.0
"""Beyond torchrun's own shutdown timeout, before what is left is killed."""


@dataclass(frozen=True)
class LaunchOptions:
    """What the command line says beside the config; None leaves the config's value."""

    node_rank: int | None = None
    nnodes: str | None = None
    nproc_per_node: int | None = None
    rdzv_endpoint: str | None = None
    rdzv_id: str | None = None
    max_restarts: int | None = None
    local_addr: str | None = None
    log_dir: str | None = None


@dataclass(frozen=True)
class Plan:
    """A launch that was checked as far as the config goes."""

    config: RunConfig
    """With directories resolved for this node and the command line's values in it."""
    config_path: Path
    node: int | None
    hosts_store: bool
    hand_out_id: bool
    """The store outlives this launch, so the rdzv_id comes from there."""
    arguments: tuple[str, ...]
    """Of torchrun."""


def plan_launch(config_path: Path, options: LaunchOptions, script: Path, arguments: Sequence[str]) -> Plan:
    """What torchrun is to do on this node; InvalidInputError for a config or an option that cannot be used."""
    loaded = load_run_config(config_path)
    changed = {
        name: value
        for name in ("nnodes", "nproc_per_node", "rdzv_endpoint", "max_restarts")
        if (value := getattr(options, name)) is not None
    }
    # Through validation again: an option gets the same errors as a key.
    torchrun = parse(TorchrunConfig, loaded.torchrun.model_dump() | changed, source="torchrun")
    several = torchrun.max_nodes > 1
    if options.node_rank is not None and not 0 <= options.node_rank < torchrun.max_nodes:
        raise InvalidInputError("--node-rank", options.node_rank, f"0 to {torchrun.max_nodes - 1}")
    if several and options.node_rank is None and uses_node(loaded):
        raise InvalidInputError(
            "--node-rank", "nothing", f"0 to {torchrun.max_nodes - 1}", "directories of this config contain {node}"
        )
    node = options.node_rank if several else (options.node_rank or 0)
    config = resolve_directories(loaded.model_copy(update={"torchrun": torchrun}), node or 0)
    host, _ = split_endpoint(torchrun.rdzv_endpoint)
    local = is_this_machine(host)
    external = torchrun.rdzv_conf.is_host is False
    hosts_store = local and not external and not (several and (options.node_rank or 0) > 0)
    rdzv_conf = torchrun.rdzv_conf.model_dump(exclude_none=True)
    if local and torchrun.rdzv_backend == "c10d":
        # torchrun would guess from this machine's name, which need not lead to the endpoint's address.
        rdzv_conf["is_host"] = hosts_store
    flags = [
        f"--nnodes={torchrun.nnodes}",
        f"--nproc-per-node={torchrun.nproc_per_node}",
        f"--rdzv-backend={torchrun.rdzv_backend}",
        f"--rdzv-endpoint={torchrun.rdzv_endpoint}",
        f"--rdzv-id={options.rdzv_id or config.run_id}",
        "--rdzv-conf=" + ",".join(f"{key}={_plain(value)}" for key, value in rdzv_conf.items()),
        f"--max-restarts={torchrun.max_restarts}",
        f"--monitor-interval={torchrun.monitor_interval_seconds:g}",
        f"--shutdown-timeout={torchrun.shutdown_timeout_seconds}",
    ]
    if options.local_addr:
        flags.append(f"--local-addr={options.local_addr}")
    if options.log_dir:
        flags += [f"--log-dir={options.log_dir}", "--tee=3"]
    hand_out = external and options.rdzv_id is None and torchrun.rdzv_backend == "c10d"
    return Plan(config, config_path, node, hosts_store, hand_out, (*flags, str(script), *arguments))


def launch(plan: Plan, *, script: Path) -> int:
    """Check the machine, run torchrun to its end, and return the exit code.

    For a process of its own: at the end everything below this process is killed, whatever started it.
    """
    warnings = tuple(warning_signals(plan.config.notices))
    hold(warnings)
    check_machine(plan.config, script=script, hosts_store=plan.hosts_store, node=plan.node or 0)
    launch_id = secrets.token_hex(8)
    environment = environment_for(plan.config_path, node=plan.node, launch_id=launch_id, wall_time=time.time())
    environment["PET_NNODES"] = plan.config.torchrun.nnodes  # the run's minimum, where a flag has changed it
    environment[HELD] = ",".join(number.name for number in warnings)
    environment[ENDPOINT] = plan.config.torchrun.rdzv_endpoint
    if plan.hand_out_id:
        environment[HAND_OUT] = plan.config.run_id
    seconds = None if plan.hosts_store else join_seconds(plan.config)
    if seconds is not None:
        environment[JOIN_SECONDS] = f"{seconds:g}"
    adopt_orphans()
    with _Signals() as signals:
        agent = subprocess.Popen(
            [sys.executable, "-m", "harness.agent", *plan.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C reaches this process only, which passes it on once
            preexec_fn=_end_with_launcher,  # noqa: PLW1509  no thread has been started in this process
        )
        grace_seconds = plan.config.torchrun.shutdown_timeout_seconds + KILL_MARGIN_SECONDS
        code = _wait(agent, signals, warnings, grace_seconds, _Waiting(agent.pid, plan.config, launch_id))
    left_behind = wait_gone(kill_tree(os.getpid(), and_root=False), 5.0)
    if left_behind:
        _log.warning("processes that would not end: %s", ", ".join(map(str, left_behind)))
    status = read_status(plan.config.telemetry.directory)
    mine = status if status is not None and status.launch_id == launch_id else None
    return _explain(exit_code(code, mine, signals.first), mine)


def join_seconds(config: RunConfig) -> float | None:
    """How long a newcomer waits for the running fleet's save; None where the fleet never has room."""
    if config.torchrun.max_nodes == config.torchrun.min_nodes:
        return None
    # A planned save takes as long as an emergency one, after the steps until the ranks have agreed on it.
    return 2.0 * config.notices.emergency_budget_seconds


def exit_code(agent_code: int, status: Status | None, signal_received: int | None) -> int:
    """The launch's exit code from torchrun's, what the run says about itself, and the signal that ended it.

    A run that was told to stop and could not say how it ended (killed while it saved, or while it waited for other
    nodes) is resumable: what was durable before still is.
    """
    if agent_code == 0:
        return EXIT_DONE
    if signal_received == signal.SIGINT:
        return EXIT_CTRL_C
    if status is not None and status.state != "running":
        return status.exit_code
    if agent_code == EXIT_INTERRUPTED_RESUMABLE:  # the store is gone, or the other nodes did not come
        return EXIT_INTERRUPTED_RESUMABLE
    return EXIT_BUG if signal_received is None else EXIT_INTERRUPTED_RESUMABLE


def _explain(code: int, status: Status | None) -> int:
    """Say the end in one line."""
    said = f": {status.message}" if status is not None and status.message else ""
    durable = status.durable_step if status is not None else None
    newest = "no durable checkpoint yet" if durable is None else f"newest durable checkpoint: step {durable}"
    if code == EXIT_INTERRUPTED_RESUMABLE:
        _log.info("interrupted%s; %s; launch again to go on (exit %d)", said, newest, code)
    elif code == EXIT_CTRL_C:
        _log.info("stopped by the user; %s; launch again to go on (exit %d)", newest, code)
    elif code != EXIT_DONE:
        _log.error("not finished%s (exit %d)", said, code)
    return code


class _Signals:
    """SIGINT, SIGTERM and SIGHUP are counted inside the block, and mean nothing after it: the launch has ended by then,
    and one that comes in its last moments must not hide how.
    """

    _WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.first: int | None = None
        self.count = 0

    def __enter__(self) -> Self:
        for number in self._WATCHED:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._WATCHED:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = number


class _Waiting:
    """Says once, each time, what the launch waits for while no training process runs."""

    def __init__(self, agent_pid: int, config: RunConfig, launch_id: str) -> None:
        self._agent_pid, self._config, self._launch_id = agent_pid, config, launch_id
        self._since = self._looked = time.monotonic()
        self._said = False

    def look(self) -> None:
        """Called often; looks once a second."""
        now = time.monotonic()
        if self._config.torchrun.max_nodes == 1 or now - self._looked < 1.0:
            return
        self._looked = now
        if descendants(self._agent_pid):
            self._since, self._said = now, False
        elif not self._said and now - self._since >= WAITING_SECONDS:
            self._said = True
            status = read_status(self._config.telemetry.directory)
            mine = status if status is not None and status.launch_id == self._launch_id else None
            _log.info("%s", waiting_line(self._config.torchrun, mine))


def waiting_line(config: TorchrunConfig, status: Status | None) -> str:
    """What an agent without training processes waits for; `status` is what its launch has said last."""
    if status is not None and status.state == "finished":
        return "finished here; waiting for the other nodes to finish too"
    limit = f"join_timeout: {config.rdzv_conf.join_timeout} s"
    if config.min_nodes == 1:
        return f"waiting for the rendezvous at {config.rdzv_endpoint} ({limit})"
    return f"waiting for other nodes: the run needs at least {config.min_nodes} ({limit})"


def _wait(
    agent: subprocess.Popen[bytes],
    signals: _Signals,
    warnings: Collection[signal.Signals],
    grace_seconds: float,
    waiting: _Waiting,
) -> int:
    """Until the agent ends: pass the first signal on, kill everything at the second or when the grace is over.

    A scheduler's warning is passed on whenever it comes.
    """
    passed_on = 0
    deadline: float | None = None
    while True:
        try:
            return agent.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            waiting.look()
        if (warned := take(warnings)) is not None:
            _log.info("%s: passed on to the training processes", warned.name)
            agent.send_signal(warned)
        if signals.count > passed_on:
            if passed_on == 0:
                _log.info("stopping: saving first, at most %.0f s; once more to stop at once", grace_seconds)
                agent.send_signal(signal.SIGINT if signals.first == signal.SIGINT else signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
            else:
                deadline = time.monotonic()
            passed_on = signals.count
        if deadline is not None and time.monotonic() >= deadline:
            known = descendants(os.getpid())
            kill_tree(os.getpid(), and_root=False)
            _log.warning("killed %d processes that had not ended", len(known))
            return agent.wait()


def _end_with_launcher() -> None:
    """In the agent's process, before it runs torchrun: a launcher that is killed takes the job along, gracefully."""
    die_with_parent(signal.SIGTERM)


def _plain(value: object) -> str:
    """torchrun parses booleans of --rdzv-conf as numbers or words."""
    return str(int(value)) if isinstance(value, bool) else str(value)
