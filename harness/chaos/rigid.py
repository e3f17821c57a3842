"""A fleet of fixed size that has lost a node: all of it ends, as a job manager ends it, to be launched again."""

from __future__ import annotations

import signal

from harness.chaos.fleet import LIMIT_SECONDS, Fleet, Node, wait_until
from harness.chaos.network import ChaosError
from harness.errors import EXIT_INTERRUPTED_RESUMABLE


def has_given_up(node: Node) -> bool:
    """Its launch is over, or will do nothing more without the lost node."""
    status = node.status()
    return not node.running or (status is not None and status.state == "interrupted")


def end_together(fleet: Fleet, *, lost: Node | None) -> None:
    """All nodes but `lost` end; ChaosError when one of them does not, or not resumable."""
    for node in fleet.nodes:
        if node is lost:
            continue
        good = {EXIT_INTERRUPTED_RESUMABLE}
        if node.trained():
            wait_until(lambda node=node: has_given_up(node), "the others notice", LIMIT_SECONDS)  # type: ignore[misc]
        else:
            # The other one was lost while both came up: this one waits for it in the rendezvous, or is not even so far
            # as to hear the signal.
            good.add(-signal.SIGTERM)
            node.terminate()
        status = node.status()
        if status is not None and status.reason == "peer-lost":
            # It waits for a replacement.  Whoever leaves by itself is left alone: a signal in its last moments
            # would hide how it ended.
            node.terminate()
        wait_until(lambda node=node: not node.running, "the others end", LIMIT_SECONDS)  # type: ignore[misc]
        # The store of a rigid fleet ends with node 0; how the others end then is torchrun's business.
        if (lost is None or lost.number != 0) and node.code not in good:
            raise ChaosError(f"node {node.number} ended with {node.code}, not resumable; see {node.log}")
