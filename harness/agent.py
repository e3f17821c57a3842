"""torchrun as it is, with five things around it.

`python -m harness launch` runs this instead of ``python -m torch.distributed.run``: the same code with the same
arguments.  Before: where the store outlives a launch, it hands out the rdzv_id; and a newcomer asks a running fleet to
save before it enters the rendezvous.  Meanwhile: told to end, it leaves the rendezvous at once; taken for dead by the
others, it comes back.  After: such an end is one line and not a traceback, and a launch that is over says so in the
store.  The launcher maps the exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

from harness.errors import EXIT_BUG, EXIT_INTERRUPTED_RESUMABLE
from harness.log import configure_logging
from harness.membership import come_back_when_evicted, leave
from harness.warning_signals import held_signals, pass_on_to_children

HAND_OUT = "HARNESS_HAND_OUT_RDZV_ID"
JOIN_SECONDS = "HARNESS_JOIN_SECONDS"
ENDPOINT = "HARNESS_RDZV_ENDPOINT"
"""Set by the launcher: run id to hand out an id for; how long to wait for a planned save; host:port of the store."""

EXIT_BARRIER_SECONDS = 30.0
"""That an agent whose workers have finished waits for the others, with a store that does not depend on it."""

_log = logging.getLogger("harness")


def main() -> None:
    """torchrun with this process's arguments."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousError,
    )
    from torch.distributed.elastic.rendezvous.api import RendezvousTimeoutError
    from torch.distributed.run import main as torchrun

    configure_logging(int(os.environ.get("HARNESS_NODE", "0")), None)
    pass_on_to_children(held_signals(os.environ))
    _leave_when_told()
    try:
        _meet()
        torchrun()
    except SignalException as told:
        # The workers have been ended by now; the rendezvous stays open for the others.
        logging.getLogger("harness").debug("torchrun ended by %s", told.sigval)
        sys.exit(EXIT_BUG)
    except RendezvousConnectionError:
        _log.warning("the rendezvous store is gone; launch again once it is back")
        sys.exit(EXIT_INTERRUPTED_RESUMABLE)
    except RendezvousTimeoutError:
        _log.warning("the other nodes did not come in time")
        sys.exit(EXIT_INTERRUPTED_RESUMABLE)
    except RendezvousClosedError:
        # With a store of its own the next launch gets another id: it finds out whether there is anything left to do.
        _log.warning("the others ended the run while this node waited to take part")
        sys.exit(EXIT_INTERRUPTED_RESUMABLE if HAND_OUT in os.environ else EXIT_BUG)
    except RendezvousError as error:
        _log.error("torchrun: %s: %s", type(error).__name__, error or "the rendezvous takes nobody")
        sys.exit(EXIT_BUG)
    except ChildFailedError:
        _close()
        raise
    _close()


def _leave_when_told() -> None:
    """Have the agent leave the rendezvous before it ends its workers, and hear signals from the start.

    torchrun installs its handlers with its first workers: told to end while it waits for other nodes, it would die
    where it stands, and stay on the list of participants.
    """
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher import api

    class Agent(LocalElasticAgent):
        def _invoke_run(self, role: str = "default") -> Any:
            come_back_when_evicted(self._worker_group.spec.rdzv_handler)
            if HAND_OUT in os.environ:
                # A run ends on all ranks together.  Whoever was about to form up again with a newcomer at that moment
                # never comes to the barrier, and is let go when this agent closes the rendezvous behind it.
                self._exit_barrier_timeout = EXIT_BARRIER_SECONDS
            try:
                return super()._invoke_run(role)
            except SignalException:
                leave(self._worker_group.spec.rdzv_handler)
                raise

    def end(number: int, _frame: object) -> None:
        raise SignalException(f"told to end by signal {number}", signal.Signals(number))

    setattr(api, "LocalElasticAgent", Agent)  # noqa: B010  torchrun has no other way to be given an agent
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _argument(name: str) -> str | None:
    return next((a.partition("=")[2] for a in sys.argv if a.startswith(f"--{name}=")), None)


def _meet() -> None:
    """Get the rdzv_id, and ask to join; a store that does not answer is torchrun's to complain about."""
    run_id, seconds = os.environ.get(HAND_OUT), os.environ.get(JOIN_SECONDS)
    if run_id is None and seconds is None:
        return
    from torch.distributed import DistError

    from harness.meeting import enter

    try:
        rdzv_id = enter(
            os.environ[ENDPOINT],
            rdzv_id=_argument("rdzv-id") or "",
            hand_out_for=run_id,
            join_seconds=None if seconds is None else float(seconds),
        )
        sys.argv = [f"--rdzv-id={rdzv_id}" if a.startswith("--rdzv-id=") else a for a in sys.argv]
    except (DistError, RuntimeError) as error:
        _log.warning("the rendezvous store does not answer: %s", " ".join(str(error).split())[:120])


def _close() -> None:
    """The launch is over: torchrun has closed its rendezvous, so the next launch needs another id."""
    if HAND_OUT not in os.environ:
        return
    from torch.distributed import DistError

    from harness.meeting import Meeting
    from harness.preflight import split_endpoint

    try:
        meeting = Meeting(*split_endpoint(os.environ[ENDPOINT]), timeout_seconds=5.0)
        meeting.close_id(_argument("rdzv-id") or "")
    except (DistError, RuntimeError) as error:
        _log.debug("the end could not be noted in the store: %s", error)


if __name__ == "__main__":
    main()
