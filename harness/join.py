"""`python -m harness join`: for nodes that are started with plain torchrun, what `launch` does before it."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

from harness.config import load_run_config
from harness.errors import ExternalServiceError
from harness.launch import join_seconds
from harness.preflight import split_endpoint

STORE_SECONDS = 60.0
"""That a store may take to come up: nodes are started in any order."""

_log = logging.getLogger("harness")


def join_fleet(config_path: Path, *, endpoint: str | None = None, rdzv_id: str | None = None) -> str:
    """Ask a running fleet to save, and return the rdzv_id that this node is to use.

    With a store of its own (``is_host: false``) that id is handed out, as for a launch; else it is the run id.
    ExternalServiceError where the store does not answer within a minute.
    """
    config = load_run_config(config_path)
    endpoint = endpoint or config.torchrun.rdzv_endpoint
    host, port = split_endpoint(endpoint)
    external = config.torchrun.rdzv_conf.is_host is False and config.torchrun.rdzv_backend == "c10d"

    _wait_for_store(host, port)
    from torch.distributed import DistError

    from harness.meeting import enter

    try:
        return enter(
            endpoint,
            rdzv_id=rdzv_id or config.run_id,
            hand_out_for=config.run_id if external and rdzv_id is None else None,
            join_seconds=join_seconds(config),
        )
    except (DistError, RuntimeError) as error:
        raise _no_answer(host, port, error) from None


def _wait_for_store(host: str, port: int) -> None:
    """Until somebody listens there: torch, asked for a store that is not up, fills the screen."""
    end, said = time.monotonic() + STORE_SECONDS, False
    while True:
        try:
            socket.create_connection((host, port), timeout=5.0).close()
        except OSError as error:
            if time.monotonic() >= end:
                raise _no_answer(host, port, error) from None
            if not said:
                _log.info("waiting for the rendezvous store at %s:%d, at most %.0f s", host, port, STORE_SECONDS)
                said = True
            time.sleep(1.0)
        else:
            return


def _no_answer(host: str, port: int, error: Exception) -> ExternalServiceError:
    return ExternalServiceError(
        f"the rendezvous store at {host}:{port} does not answer; start `python -m harness rendezvous` there, or the "
        f"first node: {' '.join(str(error).split())[:120]}"
    )
