"""`python -m harness join`: for nodes that are started with plain torchrun, what `launch` does before it."""

from __future__ import annotations

from pathlib import Path

from harness.config import load_run_config
from harness.errors import ExternalServiceError
from harness.launch import join_seconds
from harness.preflight import split_endpoint


def join_fleet(config_path: Path, *, endpoint: str | None = None, rdzv_id: str | None = None) -> str:
    """Ask a running fleet to save, and return the rdzv_id that this node is to use.

    With a store of its own (``is_host: false``) that id is handed out, as for a launch; else it is the run id.
    ExternalServiceError where the store does not answer.
    """
    config = load_run_config(config_path)
    endpoint = endpoint or config.torchrun.rdzv_endpoint
    split_endpoint(endpoint)
    external = config.torchrun.rdzv_conf.is_host is False and config.torchrun.rdzv_backend == "c10d"

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
        raise ExternalServiceError(
            f"the rendezvous store at {endpoint} does not answer; start `python -m harness rendezvous` there, or the "
            f"first node: {' '.join(str(error).split())[:120]}"
        ) from None
