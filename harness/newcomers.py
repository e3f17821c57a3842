"""A fleet with room listens for nodes that want to join, so that it has saved before torchrun restarts it for them."""

from __future__ import annotations

import os

from harness.attempt import Attempt
from harness.board import NoticeBoard
from harness.environment import maximum_nodes
from harness.meeting import JoinWatcher, Meeting
from harness.preflight import split_endpoint
from harness.processes import agent_argument

_CONNECT_SECONDS = 10.0


def watch_for_newcomers(attempt: Attempt, board: NoticeBoard) -> JoinWatcher | None:
    """On rank 0 of a fleet with room, under an agent whose store's address is known; None everywhere else."""
    rdzv_id = os.environ.get("TORCHELASTIC_RUN_ID")
    placement = attempt.placement
    has_room = placement.nodes < maximum_nodes(attempt.config)
    if rdzv_id is None or attempt.agent_pid is None or placement.rank != 0 or not has_room:
        return None
    endpoint = agent_argument(attempt.agent_pid, "rdzv-endpoint")
    if not endpoint:
        return None
    host, port = split_endpoint(endpoint)
    watcher = JoinWatcher(
        lambda: Meeting(host, port, timeout_seconds=_CONNECT_SECONDS),
        rdzv_id,
        hear=board.hear,
        durable_step=lambda: attempt.durable_step,
        clock=attempt.clock,
    )
    watcher.start()
    return watcher
