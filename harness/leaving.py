"""How a process ends before the run is finished: status.json, telemetry, exit code, and torchrun's agent.

    interrupted, this node goes    the agent gets SIGTERM and passes it on; this process exits 75 once it has it
    interrupted, others go         exit 75: the agent starts this worker again in the next rendezvous
    a peer is gone                 the same
    bad input, fenced              the agent gets SIGTERM: a restart would end the same way; exit 2 or 1
    a failure of training code     the error itself; a second time at the same step also ends the agent

A worker of a doomed node never exits before its agent knows: it would be restarted there, and the notice lost.  Where
the agent is torchrun's own, the worker takes it off the rendezvous, too (see `harness.membership`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from typing import NoReturn

from harness.attempt import Attempt
from harness.board import NoticeBoard
from harness.environment import describe_peer_loss, is_peer_loss, maximum_nodes, minimum_nodes
from harness.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INTERRUPTED_RESUMABLE,
    FencedError,
    InterruptedRunError,
    InvalidInputError,
    SpotPlannerError,
)
from harness.membership import leave_for_agent
from harness.preflight import split_endpoint
from harness.processes import HARNESS_AGENT, agent_argument, command_line, elastic_agent_pid
from harness.status import State

_log = logging.getLogger("harness")

AGENT_ANSWER_SECONDS = 10.0
TELEMETRY_SECONDS = 10.0


class LeavingError(InterruptedRunError):
    """Raised at a step boundary to end this process as all ranks agreed."""

    def __init__(self, reason: str, detail: str, *, agent_must_end: bool) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.agent_must_end = reason, detail, agent_must_end


def end_with_error(error: BaseException, attempt: Attempt | None, board: NoticeBoard | None, *, step: int) -> NoReturn:
    """End this process because of `error`: write down why, tell the agent where it must know, and raise.

    Raises SystemExit with the exit contract's code, or `error` itself where its traceback is what the user needs.
    """
    if isinstance(error, LeavingError):
        _record("interrupted", error.reason, error.detail, attempt, step)
        _log.info("leaving at step %d: %s", step, error.detail)
        if error.agent_must_end:
            if error.reason == "notice":
                _deregister(attempt)
            _end_agent(
                board, mine=attempt is None or attempt.leads_node
            )  # all agreed on it: the leader says it for all
        raise SystemExit(EXIT_INTERRUPTED_RESUMABLE) from None
    if isinstance(error, InvalidInputError):
        _record("bad-input", "bad-input", str(error), attempt, step)
        _log.error("%s", error)
        _end_agent(board)
        raise SystemExit(EXIT_BAD_INPUT) from None
    if isinstance(error, FencedError):
        _record("fenced", "fenced", str(error), attempt, step)
        _log.error("%s", error)
        _end_agent(board)
        raise SystemExit(EXIT_BUG) from None
    if isinstance(error, KeyboardInterrupt):  # nobody listens for signals: nothing was saved
        _record("interrupted", "stopped", "the user stopped the run", attempt, step)
        raise error
    if is_peer_loss(error):
        line = f"lost another process of the job after step {step}: {describe_peer_loss(error)}"
        _record("interrupted", "peer-lost", line, attempt, step)
        _log.warning("%s", line)
        raise SystemExit(EXIT_INTERRUPTED_RESUMABLE) from None
    line = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    again = _failed_here_before(attempt, line, step)
    _record("failed", "failed", line, attempt, step)
    if again:
        _log.error("the same failure at the same step for the second time: not trying again")
        _end_agent(board)
    if isinstance(error, SpotPlannerError):
        _log.error("%s", error)
        raise SystemExit(EXIT_BUG) from None
    raise error


def _record(state: State, reason: str, detail: str, attempt: Attempt | None, step: int) -> None:
    """Into telemetry (of the node's first process; a failure from any) and status.json."""
    if attempt is None:
        return
    if attempt.leads_node or state != "interrupted":
        attempt.telemetry.emit("left", step=step, reason=reason, detail=detail)
        attempt.write_status(state, step=step, reason=reason, message=detail)
    if attempt.leads_node:
        attempt.flush_telemetry(TELEMETRY_SECONDS)


def _failed_here_before(attempt: Attempt | None, line: str, step: int) -> bool:
    """Whether the attempt before this one, of the same launch, ended with the same failure at the same step."""
    before = attempt.previous_status if attempt is not None else None
    return (
        before is not None
        and attempt is not None
        and before.launch_id == attempt.launch_id
        and (before.state, before.step, before.message) == ("failed", step, line)
    )


def _deregister(attempt: Attempt | None) -> None:
    """Take this node off the rendezvous, where its agent is torchrun's own and would not do so itself."""
    rdzv_id = os.environ.get("TORCHELASTIC_RUN_ID")
    agent = elastic_agent_pid()
    if attempt is None or agent is None or rdzv_id is None or not attempt.leads_node:
        return
    endpoint = agent_argument(agent, "rdzv-endpoint")
    if not endpoint or HARNESS_AGENT in command_line(agent):
        return
    try:
        host, port = split_endpoint(endpoint)
    except InvalidInputError:  # an etcd address with a path, for example
        return
    leave_for_agent(
        agent,
        host=host,
        port=port,
        rdzv_id=rdzv_id,
        local_addr=agent_argument(agent, "local-addr"),
        min_nodes=minimum_nodes(attempt.config),
        max_nodes=maximum_nodes(attempt.config),
    )


def _end_agent(board: NoticeBoard | None, *, mine: bool = True) -> None:
    """SIGTERM to the torchrun agent that started this process, and wait until it has passed it on.

    Nothing when the parent is no agent (checked now: pids are reused), or when the agent knows already.  Only one
    process of a node sends it, whichever comes first: an agent that is told twice is disturbed while it ends its
    workers.  Not this one where it is not `mine` to say.
    """
    agent = elastic_agent_pid()
    if agent is None or (board is not None and board.signalled.is_set()):
        return
    if board is not None:
        board.expecting_signal = True
    if mine and _comes_first(agent):
        os.kill(agent, signal.SIGTERM)
    if board is not None:
        board.signalled.wait(AGENT_ANSWER_SECONDS)


def _comes_first(agent: int) -> bool:
    """Whether no other worker of this agent has said so before: the lock is kept until this process ends."""
    try:
        descriptor = os.open(f"/proc/{agent}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # hidden or gone
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:  # a /proc without locks
        os.close(descriptor)
    return True
