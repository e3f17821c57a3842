"""Agreement: what one rank knows becomes what all ranks do, at the same step, for almost nothing.

Every K steps each rank contributes a short vector to an asynchronous all-reduce (maximum) on a gloo group that
nothing else uses; it is consumed K steps later.  A notice is therefore acted on at most 2·K steps after it was heard.
K follows from the step time that the ranks agree on in the same vector, so that it is equal everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

DELAY_SHARE_OF_NOTICE = 0.05
MAX_EVERY_STEPS = 1000

NO_NOTICE, PRECAUTION, RECLAIM = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Agreed:
    """What every rank knows after an agreement; equal on all of them."""

    step_seconds: float
    """Of the slowest rank; 0 while nobody has measured one."""
    doomed_nodes: tuple[int, ...]
    """Nodes that the provider will take."""
    precaution: bool
    """Somebody asks for an early save without leaving."""
    stop: bool
    """The user asked for the run to stop (Ctrl-C)."""
    stall_seconds: float = 0.0
    """Of a save, on the slowest rank; 0 while nobody has measured one."""
    persist_seconds: float = 0.0
    """From the end of the stall until durable, on the slowest rank; 0 while nobody has measured it."""
    hazard_per_hour: float = 0.0
    """Of the fleet: the sum over its nodes.  0: nobody knows."""
    launched_step: int = 0
    """After which the ranks said so: what was done at that step's boundary they did not know of."""


def every_steps(step_seconds: float, notice_seconds: float) -> int:
    """K: twice K steps stay within 5 % of the notice; at least 1.

    With a notice of 120 s and steps of 0.1 s that is 30 steps: 6 s of delay at worst, one all-reduce in 3 s.
    """
    if step_seconds <= 0.0:
        return 1
    if notice_seconds <= 0.0:
        return 1
    steps = DELAY_SHARE_OF_NOTICE * notice_seconds / (2.0 * step_seconds)
    return max(1, min(MAX_EVERY_STEPS, math.floor(steps)))


class Agreement:
    """One rank's side of it.  `at_boundary` is collective: every rank calls it after the same steps.

    Parameters
    ----------
    nodes, node_rank:  size of the fleet and this process's place in it (GROUP_RANK).
    notice_seconds:    sets K together with the agreed step time.
    fixed_every_steps: K, when the config fixes it.
    timeout_seconds:   a peer that does not answer for so long is lost.
    """

    def __init__(
        self,
        *,
        nodes: int,
        node_rank: int,
        world_size: int,
        notice_seconds: float,
        fixed_every_steps: int | None = None,
        timeout_seconds: float = 600.0,
    ) -> None:
        self._nodes, self._node_rank = nodes, node_rank
        self._notice_seconds = notice_seconds
        self._fixed = fixed_every_steps
        self._group: dist.ProcessGroup | None = None
        self._pending: tuple[torch.Tensor, dist.Work | None] | None = None
        self._launched_step = 0
        self._due_step: int | None = None
        if world_size > 1:
            import torch.distributed as dist

            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def at_boundary(
        self,
        step: int,
        *,
        step_seconds: float,
        notice: int,
        stop: bool,
        stall_seconds: float = 0.0,
        persist_seconds: float = 0.0,
        hazard_per_hour: float = 0.0,
    ) -> Agreed | None:
        """Take part after `step`; what was agreed when an all-reduce came due here, else None.

        `step_seconds`, `stall_seconds` and `persist_seconds` (of a save) are this rank's own measurements (0: none
        yet); `notice` is one of NO_NOTICE, PRECAUTION, RECLAIM; `hazard_per_hour` this node's.
        """
        agreed = None
        if self._pending is not None:
            assert self._due_step is not None
            if step < self._due_step:
                return None
            agreed = self._consume()
        self._launch((step_seconds, float(stop), stall_seconds, persist_seconds), notice, hazard_per_hour)
        self._launched_step, self._due_step = step, step + self._every(agreed)
        return agreed

    def _every(self, agreed: Agreed | None) -> int:
        if self._fixed is not None:
            return self._fixed
        return 1 if agreed is None else every_steps(agreed.step_seconds, self._notice_seconds)

    def _launch(self, common: tuple[float, ...], notice: int, hazard_per_hour: float) -> None:
        """The vector: what all ranks have in common, then one place per node for its notice and one for its hazard."""
        import torch

        values = [0.0] * (len(common) + 2 * self._nodes)
        values[: len(common)] = common
        values[len(common) + self._node_rank] = float(notice)
        values[len(common) + self._nodes + self._node_rank] = hazard_per_hour
        vector = torch.tensor(values, dtype=torch.float64)
        work = None
        if self._group is not None:
            import torch.distributed as dist

            work = dist.all_reduce(vector, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (vector, work)

    def _consume(self) -> Agreed:
        assert self._pending is not None
        vector, work = self._pending
        self._pending = None
        if work is not None:
            work.wait()
        values: list[float] = vector.tolist()
        (step_seconds, stop, stall_seconds, persist_seconds), by_node = values[:4], values[4:]
        notices, hazards = by_node[: self._nodes], by_node[self._nodes :]
        return Agreed(
            step_seconds=step_seconds,
            doomed_nodes=tuple(node for node, notice in enumerate(notices) if notice >= RECLAIM),
            precaution=any(notice == PRECAUTION for notice in notices),
            stop=stop > 0,
            stall_seconds=stall_seconds,
            persist_seconds=persist_seconds,
            hazard_per_hour=sum(hazards),
            launched_step=self._launched_step,
        )

    def drain(self) -> None:
        """Finish the all-reduce in flight (all ranks do, or the group cannot be taken down cleanly)."""
        if self._pending is not None:
            self._consume()

    def close(self, *, orderly: bool) -> None:
        """Nothing is agreed on any more.  `orderly`: every rank closes, and nothing is in flight (see `drain`)."""
        self._pending = None
        group, self._group = self._group, None
        if group is not None:
            from harness.checkpoint.ranks import release_group

            release_group(group, orderly=orderly)
