"""Torchrun's list of who takes part: a node that leaves takes itself off it, one that was taken off it comes back.

torchrun's agent does neither.  Told to end, its node stays a participant until its keep-alive expires
(`keep_alive_interval` × `keep_alive_max_attempt`), and nobody can form up again before; worse, a round that completes
in between contains a node that is gone.  And an agent that the others took for dead (it was stopped or starved for so
long) is never told: its workers train on, alone, beside the fleet's, until the next checkpoint fences them.

`python -m harness launch` does both in the agent; under plain torchrun the worker that leaves takes its agent off the
list, through the rendezvous's state in the store.  These are torch's private names: where they are missing, a leave
takes as long as a crash, and one line says so.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

_log = logging.getLogger("harness")

LIMIT_SECONDS = 3.0
"""A store that does not answer must not use up the notice."""


def leave(handler: object) -> bool:
    """In the agent: take its own node off the rendezvous of `handler`; False where that did not work in time."""
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

    if not isinstance(handler, DynamicRendezvousHandler):
        return False  # a static rendezvous has no members

    def take_off() -> None:
        handler._stop_heartbeats()
        handler._op_executor.run(_exit, time.monotonic() + LIMIT_SECONDS)

    return _within(LIMIT_SECONDS, take_off)


def come_back_when_evicted(handler: object) -> None:
    """In the agent: have `handler` ask for a new round when its node is no longer a participant of the one it is in.

    The agent asks for the number of nodes that wait, and restarts its workers when there are any: an evicted node
    counts itself.
    """
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

    if not isinstance(handler, DynamicRendezvousHandler):
        return
    others_waiting = handler.num_nodes_waiting

    def num_nodes_waiting() -> int:
        waiting = others_waiting()
        if waiting == 0 and handler._this_node not in handler._state_holder.state.participants:
            _log.warning("the other nodes took this one for dead: joining them again")
            return 1
        return waiting

    handler.num_nodes_waiting = num_nodes_waiting  # type: ignore[method-assign]


def leave_for_agent(
    agent_pid: int, *, host: str, port: int, rdzv_id: str, local_addr: str | None, min_nodes: int, max_nodes: int
) -> bool:
    """In a worker: take the node of the agent with `agent_pid` off the c10d rendezvous `rdzv_id`.

    False where the store does not know it, or does not answer in time.
    """
    found: list[bool] = []

    def take_off() -> None:
        from torch._C._distributed_c10d import TCPStore
        from torch.distributed.elastic.rendezvous import dynamic_rendezvous as rendezvous
        from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend

        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=LIMIT_SECONDS))
        settings = rendezvous.RendezvousSettings(
            rdzv_id,
            min_nodes,
            max_nodes,
            rendezvous.RendezvousTimeout(),
            keep_alive_interval=timedelta(days=1),  # who else counts as dead is for the agents to say
            keep_alive_max_attempt=1,
        )
        holder = rendezvous._BackendRendezvousStateHolder(C10dRendezvousBackend(store, rdzv_id), settings)
        holder.sync()
        address = local_addr or socket.getfqdn()
        mine = [n for n in holder.state.participants if (n.addr, n.pid) == (address, agent_pid)]
        for node in mine:
            executor = rendezvous._DistributedRendezvousOpExecutor(node, holder, settings)
            executor.run(_exit, time.monotonic() + LIMIT_SECONDS)
        found.append(bool(mine))

    return _within(LIMIT_SECONDS, take_off) and found == [True]


def _exit(context: Any, deadline: float) -> Any:
    """An operation of the rendezvous: this node leaves whatever list it is on."""
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import _Action

    lists = (
        (context.state.participants, _Action.REMOVE_FROM_PARTICIPANTS),
        (context.state.wait_list, _Action.REMOVE_FROM_WAIT_LIST),
        (context.state.redundancy_list, _Action.REMOVE_FROM_REDUNDANCY_LIST),
    )
    action = next((action for members, action in lists if context.node in members), None)
    if action is None:
        return _Action.FINISH
    return _Action.ERROR_TIMEOUT if time.monotonic() > deadline else action


def _within(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` in a thread for at most `seconds`: a call to a store that went silent cannot be interrupted."""
    done: list[bool] = []

    def run() -> None:
        try:
            work()
            done.append(True)
        except Exception as error:  # noqa: BLE001  leaving goes on all the same, as after a crash
            _log.info(
                "this node stays in the rendezvous until it counts as dead: %s: %s",
                type(error).__name__,
                " ".join(str(error).split())[:120],
            )

    thread = threading.Thread(target=run, name=f"harness-leave-{os.getpid()}", daemon=True)
    thread.start()
    thread.join(seconds)
    return done == [True]
