"""`python -m harness launch`: what it checks, what it runs, what it ends with, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness.__main__ import main
from harness.agreement import MAX_EVERY_STEPS, NO_NOTICE, Agreement, every_steps
from harness.board import NoticeBoard
from harness.boundary import Boundary
from harness.chaos.network import free_port
from harness.checkpoint.outcomes import SaveHandle, SaveResult
from harness.clock import FakeClock, SystemClock
from harness.config import NoticesConfig, load_run_config
from harness.emergency import Outlook, SaveSpeeds
from harness.environment import Placement
from harness.errors import ExternalServiceError, InvalidInputError
from harness.fakes import FakeAwsMetadata
from harness.launch import LaunchOptions, exit_code, plan_launch, waiting_line
from harness.leaving import LeavingError, end_with_error
from harness.notices import Notice
from harness.position import Position
from harness.preflight import check_machine, check_port, check_space, is_this_machine, notice_problems, split_endpoint
from harness.processes import descendants, elastic_agent_pid, is_running, kill_tree, wait_gone
from harness.status import Status, build_status, read_status, write_status
from harness.timing import StepTimer
from harness.validation import parse
from tests.harness.run_support import SMALL, TRAIN, train, write_config


def status(state: Any, **fields: Any) -> Status:
    return build_status(state, run_id="run", launch_id="l1", **fields)


# ---- exit contract


@pytest.mark.parametrize(
    ("agent_code", "state", "received", "expected"),
    [
        (0, "finished", None, 0),
        (1, "interrupted", None, 75),  # torchrun exits 1 for a reclaim …
        (1, "failed", None, 1),  # … as for a bug
        (1, "bad-input", None, 2),
        (1, "fenced", None, 1),
        (1, "interrupted", signal.SIGTERM, 75),
        (1, "running", signal.SIGTERM, 75),  # told to stop, killed before it could say more
        (1, None, signal.SIGTERM, 75),
        (1, "running", None, 1),  # killed by nobody knows whom
        (1, None, None, 1),
        (1, "interrupted", signal.SIGINT, 130),
        (-9, "running", signal.SIGINT, 130),
        (0, "finished", signal.SIGINT, 0),
        (75, "finished", None, 0),  # its agent was about to form up again with a newcomer
        (75, None, None, 75),  # the newcomer
    ],
)
def test_exit_codes(agent_code: int, state: str | None, received: int | None, expected: int) -> None:
    """The contract: 0 finished, 75 resumable, 2 bad input, 130 Ctrl-C, 1 anything else."""
    assert exit_code(agent_code, None if state is None else status(state), received) == expected


def test_a_failure_is_not_hidden_by_what_follows_from_it(tmp_path: Path) -> None:
    """Of one attempt, ``failed`` stays when a sibling then saves or loses its peer; another attempt replaces it."""
    write_status(tmp_path, status("failed", attempt_id="a", message="ValueError"))
    write_status(tmp_path, status("running", attempt_id="a"))
    write_status(tmp_path, status("interrupted", attempt_id="a"))
    assert (read_status(tmp_path) or status("running")).state == "failed"
    write_status(tmp_path, status("interrupted", attempt_id="b"))
    assert (read_status(tmp_path) or status("running")).state == "interrupted"
    (tmp_path / "status.json").write_text("{")
    assert read_status(tmp_path) is None


# ---- what is run


def test_the_torchrun_command_follows_the_config(tmp_path: Path) -> None:
    """Config values, then the command line's; the script's own arguments stay the script's."""
    config = write_config(tmp_path, torchrun={"nnodes": "2:4", "max_restarts": 7, "rdzv_endpoint": "localhost:29777"})
    plan = plan_launch(config, LaunchOptions(node_rank=1, nproc_per_node=3), TRAIN, ["--nnodes", "mine"])
    assert "--nnodes=2:4" in plan.arguments
    assert "--nproc-per-node=3" in plan.arguments
    assert "--max-restarts=7" in plan.arguments
    assert "--rdzv-id=run" in plan.arguments
    assert plan.arguments[-3:] == (str(TRAIN), "--nnodes", "mine")
    # Node 1 on the machine of the endpoint is not its host.
    assert not plan.hosts_store
    conf = next(argument for argument in plan.arguments if argument.startswith("--rdzv-conf"))
    assert "is_host=0" in conf
    assert "last_call_timeout=1" in conf
    assert plan.config.checkpoint.directory == tmp_path / "node-1" / "checkpoints"
    assert plan_launch(config, LaunchOptions(node_rank=0), TRAIN, []).hosts_store


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (LaunchOptions(), r"--node-rank: got 'nothing', expected 0 to 1 .*\{node\}"),
        (LaunchOptions(node_rank=2), "--node-rank: got 2, expected 0 to 1"),
        (LaunchOptions(node_rank=0, nnodes="2:1"), "MIN <= MAX"),
        (LaunchOptions(node_rank=0, nproc_per_node=0), "torchrun: nproc_per_node"),
        (LaunchOptions(node_rank=0, rdzv_endpoint="here"), "the same"),
    ],
)
def test_options_that_do_not_fit_name_themselves(tmp_path: Path, options: LaunchOptions, says: str) -> None:
    """An option gets the same kind of error as a key of the file."""
    config = write_config(tmp_path, torchrun={"nnodes": "2"})
    if says == "the same":  # a host without a port means torchrun's default port
        assert split_endpoint("here") == ("here", 29400)
        return
    with pytest.raises(InvalidInputError, match=says):
        plan_launch(config, options, TRAIN, [])


def test_a_rendezvous_elsewhere_is_not_checked_here() -> None:
    """Only an address of this machine can be in use on this machine."""
    assert is_this_machine("localhost")
    assert not is_this_machine("192.0.2.1")  # TEST-NET-1: nobody's
    check_port("192.0.2.1:29400")
    assert split_endpoint("[::1]:5") == ("::1", 5)
    with pytest.raises(InvalidInputError, match="host:port"):
        split_endpoint("host:99999")


# ---- pre-flight


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """One line that says what listens where, and what to do for a second node."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InvalidInputError, match=rf"localhost:{port}.*free port.*--node-rank 1"):
            check_port(f"localhost:{port}")
    check_port(f"localhost:{port}")  # free again


@pytest.mark.parametrize(
    ("sections", "error", "says"),
    [
        ({"checkpoint": {"directory": "FILE/checkpoints"}}, InvalidInputError, "checkpoint.directory"),
        ({"telemetry": {"directory": "FILE/telemetry"}}, InvalidInputError, "telemetry.directory"),
        ({"checkpoint": {"remote": "FILE/bucket"}}, ExternalServiceError, "FILE/bucket"),
        ({"torchrun": {"shutdown_timeout_seconds": 10}}, InvalidInputError, "emergency budget"),
        ({"notices": {"notice_seconds": 15}}, InvalidInputError, "at most the notice"),
    ],
    ids=["disk", "telemetry", "target", "shutdown timeout", "notice"],
)
def test_what_would_fail_later_fails_before(
    tmp_path: Path, sections: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Directories, target and timeouts are tried before torchrun starts (a file in the way stops root, too)."""
    (tmp_path / "FILE").write_text("")
    for section in sections.values():
        for key, value in section.items():
            if isinstance(value, str):
                section[key] = value.replace("FILE", str(tmp_path / "FILE"))
    config = load_run_config(write_config(tmp_path, **sections))
    with pytest.raises(error, match=says.replace("FILE", str(tmp_path / "FILE"))):
        check_machine(config, script=TRAIN, hosts_store=False)


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than the largest checkpoint of this run that is there: one line with both numbers."""
    config = load_run_config(write_config(tmp_path))
    part = config.checkpoint.directory / "run" / "step-000000007-g0001" / "part-00000"
    part.mkdir(parents=True)
    with (part / "weights").open("wb") as weights:
        weights.truncate(200 * 1024**2)  # sparse: no room is taken
    usage = shutil.disk_usage(tmp_path)
    for free, message in (
        (150, "got '150 MiB free', expected at least 200 MiB, as the largest checkpoint there takes"),
        (250, None),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free * 1024**2))
        if message is None:
            check_space(config)
        else:
            with pytest.raises(InvalidInputError, match=message):
                check_space(config)


def test_metadata_services_are_tried_and_their_clock_is_compared() -> None:
    """A service that answers is fine; another clock, or silence, is one line that says what to do."""
    with FakeAwsMetadata() as metadata:
        config = parse(NoticesConfig, {"sources": [{"kind": "aws", "address": metadata.url}, {"kind": "sigterm"}]})
        assert notice_problems(config, node=0, clock=SystemClock()) == []
        wrong = FakeClock(wall=time.time() + 90.0)
        (problem,) = notice_problems(config, node=0, clock=wrong)
        assert re.match(r"this machine's clock is (89|90|91) s ahead of http", problem)
    (problem,) = notice_problems(config, node=0, clock=SystemClock())
    assert problem.startswith("notice source aws: http://127.0.0.1:")
    assert "hop limit" in problem


def test_preflight_leaves_no_trace(tmp_path: Path) -> None:
    """Probes are deleted, here and on the target."""
    config = load_run_config(write_config(tmp_path))
    check_machine(config, script=TRAIN, hosts_store=False)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "harness.yaml"] == []


def test_the_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    """Unknown keys, missing files and missing scripts: exit 2, no traceback, the field named."""

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "harness", *arguments], capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    good, misspelt = str(write_config(tmp_path)), write_config(tmp_path / "b", checkpont={})
    code, line = run("launch", str(misspelt), "train.py")
    assert code == 2
    assert line.startswith(
        f"harness: {misspelt}: checkpont: got '{{}}', expected a known key: one of checkpoint, data,"
    )
    assert line.endswith("(did you mean 'checkpoint'?)\n")
    assert run("launch", good, str(tmp_path / "no.py"))[1].startswith("harness: script: got")
    assert run("report", str(tmp_path / "nowhere"))[0] == 2


def test_options_may_stand_before_or_after_the_config(tmp_path: Path) -> None:
    """`launch CONFIG --nnodes 1 SCRIPT …` and `launch --nnodes 1 CONFIG SCRIPT …` are the same."""
    config = str(write_config(tmp_path, torchrun={"rdzv_endpoint": f"localhost:{free_port()}"}))
    for arguments in (
        [config, "--nproc-per-node", "2", "--dry-run", str(TRAIN), "--steps", "3"],
        ["--nproc-per-node", "2", "--dry-run", config, str(TRAIN), "--steps", "3"],
    ):
        result = CliRunner().invoke(main, ["launch", *arguments])
        assert result.exit_code == 0, result.output
        assert result.output.startswith("torchrun --nnodes=1:1 --nproc-per-node=2 ")
        assert result.output.rstrip().endswith(f"{TRAIN} --steps 3")


# ---- agreement


def test_the_agreement_delay_stays_within_five_percent_of_the_notice() -> None:
    """2·K steps ≤ 5 % of the notice wherever one step allows it; K = 1 while nothing is measured."""
    assert every_steps(0.1, 120.0) == 30
    assert every_steps(0.0, 120.0) == every_steps(0.1, 0.0) == every_steps(100.0, 30.0) == 1
    assert every_steps(1e-9, 120.0) == MAX_EVERY_STEPS
    for step_seconds in (0.01, 0.3, 1.0, 1.5):
        assert 2 * every_steps(step_seconds, 120.0) * step_seconds <= 6.0


def test_agreement_is_consumed_k_steps_after_it_was_launched() -> None:
    """What is known at a launch comes out at the next due boundary, and only there."""
    agreement = Agreement(nodes=1, node_rank=0, world_size=1, notice_seconds=120.0, fixed_every_steps=3)
    heard = {step: (2 if step >= 5 else 0) for step in range(1, 12)}
    seen = {}
    for step in range(1, 12):
        agreed = agreement.at_boundary(step, step_seconds=0.1, notice=heard[step], stop=False)
        if agreed is not None:
            seen[step] = agreed.doomed_nodes
    assert seen == {4: (), 7: (), 10: (0,)}
    agreement.drain()


class Saves:
    """A checkpointer that notes what it is asked for; a step in `busy` is skipped."""

    def __init__(self, position: Position, busy: range = range(0)) -> None:
        self._position, self._busy = position, busy
        self.asked: list[tuple[int, str]] = []

    def save(self, components: Any, progress: Any, *, reason: str) -> SaveHandle:
        step = self._position.step
        self.asked.append((step, reason))
        handle = SaveHandle(f"step-{step}", step, reason)
        handle.finish(SaveResult(handle.name, step, "skipped" if step in self._busy else "durable", local=False))
        return handle


def pass_boundaries(
    folder: Path,
    steps: int,
    *,
    hints: Sequence[int] = (),
    busy: range = range(0),
    totals: Sequence[int] = (),
    **sections: Any,
) -> tuple[list[tuple[int, str]], int]:
    """What one process saved at the boundaries of its steps, and the level of its board in the end.

    `hints`: steps in which a rebalance hint is heard; `totals`: steps at which a loop of the script ends.
    """
    config = load_run_config(write_config(folder, **sections))
    clock = FakeClock()
    board = NoticeBoard(clock, on_notice=lambda *_: None, shutdown_timeout_seconds=30)
    position = Position(config, 1)
    saves = Saves(position, busy)
    attempt: Any = SimpleNamespace(
        config=config, placement=Placement(), speeds=SaveSpeeds(planned=Outlook()), checkpointer=saves, leads_node=True
    )
    boundary = Boundary(attempt, board, position, StepTimer(clock, window_steps=50), dict)
    for step in range(1, steps + 1):
        if step in hints:
            board.hear(Notice("aws", "rebalance"))
        position.step = step
        position.total_steps = next((total for total in totals if total >= step), steps)
        boundary.pass_()
    boundary.finish()
    return saves.asked, board.level


@pytest.mark.parametrize(
    ("hints", "totals", "saved"),
    [
        ((3, 13, 100), (), [11, 21, 106]),  # the second in the window in which the first one's echo comes back
        ((3, 4, 11), (), [11]),  # heard before the save, which is for them, too
        ((3,), (11,), [16]),  # agreed on where a loop of the script ends
    ],
)
def test_every_hint_is_acted_on_once(tmp_path: Path, hints: Any, totals: Any, saved: list[int]) -> None:
    """Whatever comes while the agreement about an earlier hint is still on its way."""
    sections: dict[str, Any] = {"checkpoint": {"interval": {"steps": 1000}}, "notices": {"agreement_every_steps": 5}}
    found = pass_boundaries(tmp_path, 120, hints=hints, totals=totals, **sections)
    assert found == ([(step, "precaution") for step in saved], NO_NOTICE)


def test_a_skipped_save_is_tried_again_soon(tmp_path: Path) -> None:
    """While the one at 80 is busy until 105: asked again after an eighth of what is at stake, not a whole interval."""
    asked, _ = pass_boundaries(tmp_path, 200, busy=range(81, 105), checkpoint={"interval": {"steps": 20}})
    assert [step for step, _ in asked] == [20, 40, 60, 80, 100, 102, 104, 107, 127, 147, 167, 187]


@pytest.mark.parametrize("leads", [True, False])
def test_one_process_of_a_node_ends_the_agent(monkeypatch: pytest.MonkeyPatch, leads: bool) -> None:
    """What only one rank knows is told by whichever that is, once; leaving together is the leader's to say."""
    agent = subprocess.Popen(["sleep", "60"])
    told: list[tuple[int, int]] = []
    attempt: Any = SimpleNamespace(
        leads_node=leads,
        telemetry=SimpleNamespace(emit=lambda *_, **__: None),
        write_status=lambda *_, **__: None,
        flush_telemetry=lambda *_: None,
    )
    try:
        with monkeypatch.context() as here:
            here.setattr("harness.leaving.elastic_agent_pid", lambda: agent.pid)
            here.setattr("harness.leaving.os.kill", lambda *signalled: told.append(signalled))
            with pytest.raises(SystemExit, match="75"):
                end_with_error(LeavingError("stopped", "by the user", agent_must_end=True), attempt, None, step=3)
            assert len(told) == leads
            for _ in range(2):
                with pytest.raises(SystemExit, match="2"):
                    end_with_error(InvalidInputError("sample", 3, "another"), attempt, None, step=3)
        assert told == [(agent.pid, signal.SIGTERM)]
    finally:
        agent.kill()
        agent.wait()


# ---- real processes


def until(what: str, condition: Callable[[], bool], process: subprocess.Popen[Any], limit_seconds: float = 120) -> None:
    end = time.monotonic() + limit_seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} before {what}"
        assert time.monotonic() < end, f"{what}: not within {limit_seconds:.0f} s"
        time.sleep(0.05)


def start_launch(
    config: Path, script: Path, *arguments: str, log: Path, nproc: int = 1, node: int = 0, port: int | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "harness", "launch", str(config), "--nproc-per-node", str(nproc)),
                *("--node-rank", str(node), "--rdzv-endpoint", f"localhost:{port or free_port()}"),
                *(str(script), *arguments),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            process_group=0,
        )


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A training script that knows no harness, ignores every signal, and says where its child is."""
    script = tmp_path / "stubborn.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, pathlib, signal, subprocess, sys, time
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            path = pathlib.Path(sys.argv[1]) / f"pids-{os.environ['RANK']}"
            path.with_suffix(".draft").write_text(f"{os.getpid()} {child.pid}")
            path.with_suffix(".draft").rename(path)
            time.sleep(600)
            """
        )
    )
    return script


def pids_of(folder: Path, ranks: int) -> list[int]:
    return [int(pid) for rank in range(ranks) for pid in (folder / f"pids-{rank}").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_ctrl_c_twice_leaves_no_orphan(tmp_path: Path, stubborn: Path) -> None:
    """Workers that ignore signals and have children of their own, in sessions of their own: all gone, exit 130."""
    config = write_config(tmp_path)
    process = start_launch(config, stubborn, str(tmp_path), log=tmp_path / "log", nproc=2)
    until("both workers", lambda: all((tmp_path / f"pids-{rank}").exists() for rank in (0, 1)), process)
    everything = [*descendants(process.pid), *pids_of(tmp_path, 2)]
    assert set(pids_of(tmp_path, 2)) <= set(descendants(process.pid))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    log = tmp_path / "log"
    until("the first Ctrl-C was passed on", lambda: b"closing signal SIGINT" in log.read_bytes(), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert wait_gone(everything, 10.0) == []


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_killed_launcher_takes_the_job_along(tmp_path: Path) -> None:
    """SIGKILL to the launcher alone: the kernel tells the agent, which ends its workers."""
    script = tmp_path / "sleeper.py"
    script.write_text(
        "import os, pathlib, sys, time\npathlib.Path(sys.argv[1], 'pids-0').write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    process = start_launch(write_config(tmp_path), script, str(tmp_path), log=tmp_path / "log")
    until("the worker", lambda: (tmp_path / "pids-0").exists() and bool(pids_of(tmp_path, 1)), process)
    everything = [*descendants(process.pid), *pids_of(tmp_path, 1)]
    process.kill()
    process.wait(10)
    assert wait_gone(everything, 40.0) == []


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_ctrl_c_saves_first_and_a_schedulers_warning_does_too(tmp_path: Path) -> None:
    """One Ctrl-C on real training: the agreed save, exit 130, nothing left running, and the next launch resumes.

    That one gets USR1 as Slurm sends it, to every process of the job step: nobody dies of it, and it ends with 75.
    """
    config = write_config(
        tmp_path,
        checkpoint={"interval": {"steps": 100_000}},
        notices={"sources": [{"kind": "sigterm"}, {"kind": "signal", "address": "SIGUSR1", "seconds": 90}]},
    )
    log = tmp_path / "log"
    process = start_launch(config, TRAIN, "--steps", "1000000", *SMALL, log=log, nproc=2)
    until("training", lambda: b"step    20" in log.read_bytes(), process)
    everything = descendants(process.pid)
    assert len(everything) >= 3
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    assert wait_gone(everything, 10.0) == []
    found = read_status(tmp_path / "node-0" / "telemetry")
    assert found is not None
    assert (found.state, found.reason) == ("interrupted", "stopped")
    assert found.durable_step == found.step > 20
    text = log.read_text()
    assert "Traceback" not in text, text
    resumed = start_launch(config, TRAIN, "--steps", "1000000", *SMALL, log=log, nproc=2)
    until("training goes on", lambda: b"  loss " in log.read_bytes(), resumed)
    assert f"restored step-{found.step:09d}" in log.read_text()
    for pid in (resumed.pid, *descendants(resumed.pid)):
        os.kill(pid, signal.SIGUSR1)
    assert resumed.wait(120) == 75, log.read_text()
    warned = read_status(tmp_path / "node-0" / "telemetry")
    assert warned is not None
    assert warned.durable_step == warned.step > found.step
    assert "received SIGUSR1, 90 s left" in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_warning_waits_until_a_worker_listens(tmp_path: Path) -> None:
    """To the launcher alone, while the worker still starts: passed on, and heard; the worker's own children live on."""
    script = tmp_path / "late.py"
    script.write_text(
        textwrap.dedent(
            """
            import pathlib, signal, subprocess, sys, threading, time
            from harness.notices.signals import SignalListener
            folder = pathlib.Path(sys.argv[1])
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (folder / "started").touch()
            while not (folder / "sent").exists():
                time.sleep(0.02)
            heard = threading.Semaphore(0)
            SignalListener(lambda number: heard.release(), (signal.SIGUSR1,))
            assert heard.acquire(timeout=60)
            (folder / "heard").touch()
            assert heard.acquire(timeout=60)
            assert child.poll() is None
            child.kill()
            """
        )
    )
    config = write_config(tmp_path, notices={"sources": [{"kind": "signal", "address": "SIGUSR1"}]})
    log = tmp_path / "log"
    process = start_launch(config, script, str(tmp_path), log=log)
    until("the worker", (tmp_path / "started").exists, process)
    process.send_signal(signal.SIGUSR1)
    until("it was passed on", lambda: b"SIGUSR1: passed on" in log.read_bytes(), process)
    (tmp_path / "sent").touch()
    until("it was heard", (tmp_path / "heard").exists, process)
    for pid in (process.pid, *descendants(process.pid)):
        with contextlib.suppress(ProcessLookupError):  # the worker may have heard it from the agent, and be done
            os.kill(pid, signal.SIGUSR1)
    assert process.wait(120) == 0, log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_another_models_config_stops_torchrun_too(tmp_path: Path) -> None:
    """Bad input that only the workers can see ends the agent: exit 2 and no restarts, although 100 are allowed."""
    config = write_config(tmp_path)
    assert train(config, steps=2).code == 0
    process = start_launch(config, TRAIN, "--steps", "4", *SMALL, "--channels", "32", log=tmp_path / "log")
    assert process.wait(120) == 2
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text
    assert text.rstrip().splitlines()[-1].startswith("[harness n0] not finished: run_id: got 'run', expected a run_id")
    assert text.count("[harness n0 r0]") == 1  # one worker, started once


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_failure_that_repeats_is_not_tried_for_ever(tmp_path: Path) -> None:
    """The same exception at the same step twice: exit 1 after two attempts, with the traceback, of 100 allowed."""
    script = tmp_path / "fails.py"
    script.write_text(
        textwrap.dedent(
            """
            import harness, torch
            model = torch.nn.Linear(2, 2)
            with harness.Run.from_env(model=model) as run:
                for step, indices in run.steps(9, samples=8, global_batch_samples=2):
                    if step == 3:
                        raise ZeroDivisionError("in the loss")
            """
        )
    )
    config = write_config(tmp_path, checkpoint={"interval": {"steps": 1000}})
    process = start_launch(config, script, log=tmp_path / "log")
    assert process.wait(120) == 1
    text = (tmp_path / "log").read_text()
    assert text.count("ZeroDivisionError: in the loss\n") == 2
    assert "for the second time" in text


def test_trees_are_killed_whole() -> None:
    """A process, its child in another session and its grandchild: all gone, and their pids named."""
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "\"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])\"], "
        "start_new_session=True); print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    until("the grandchild", lambda: len(descendants(process.pid)) == 2, process)
    tree = descendants(process.pid)
    assert set(kill_tree(process.pid)) == {process.pid, *tree}
    process.wait(10)
    process.stdout.close()
    assert wait_gone(tree, 10.0) == []
    assert not is_running(process.pid)


def test_the_parent_is_checked_before_it_is_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's environment alone makes no agent: it is inherited by whatever a worker starts."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert elastic_agent_pid() is None


@pytest.mark.parametrize(
    ("nnodes", "state", "line"),
    [
        ("2", None, "waiting for other nodes: the run needs at least 2 (join_timeout: 600 s)"),
        ("2", "interrupted", "waiting for other nodes: the run needs at least 2 (join_timeout: 600 s)"),
        ("1:2", None, "waiting for the rendezvous at localhost:29400 (join_timeout: 600 s)"),
        ("1:2", "finished", "finished here; waiting for the other nodes to finish too"),
    ],
)
def test_a_launch_says_what_it_waits_for(tmp_path: Path, nnodes: str, state: Any, line: str) -> None:
    """In the rendezvous, or at the barrier behind the last step."""
    config = load_run_config(write_config(tmp_path, torchrun={"nnodes": nnodes, "rdzv_endpoint": "localhost:29400"}))
    assert waiting_line(config.torchrun, None if state is None else status(state)) == line
