"""Where a process stands among those that save together, and the two groups in which they talk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from harness.checkpoint.ranks import GroupRanks, Ranks, SingleRank
from harness.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Place:
    """This process among the others."""

    rank: int
    world_size: int
    node: int
    """Counted from 0 without gaps."""
    nodes: int
    ranks_on_node: int
    leads_node: bool
    """The lowest rank of its node does what is done once per node."""


def find_place(ranks: Ranks, node_rank: int, local_rank: int) -> Place:
    """This process's place; collective."""
    places = ranks.gather((node_rank, local_rank))
    node_of_rank = [node for node, _ in places]
    leader = min((local, rank) for rank, (node, local) in enumerate(places) if node == node_rank)[1]
    return Place(
        rank=ranks.rank,
        world_size=ranks.size,
        node=sorted(set(node_of_rank)).index(node_rank),
        nodes=len(set(node_of_rank)),
        ranks_on_node=node_of_rank.count(node_rank),
        leads_node=leader == ranks.rank,
    )


def open_ranks(
    rank: int, world_size: int, timeout_seconds: float, background: dist.ProcessGroup | None
) -> tuple[Ranks, Ranks]:
    """(for the training thread, for the background thread): two groups, so that both can talk at once; collective.

    Both are to be closed.
    InvalidInputError when torch.distributed is not what `rank` and `world_size` say.
    """
    if world_size == 1:
        return SingleRank(), SingleRank()
    if not dist.is_initialized() or dist.get_world_size() != world_size or dist.get_rank() != rank:
        raise InvalidInputError(
            "world_size", world_size, "an initialised torch.distributed of that size", f"this is rank {rank}"
        )
    timeout = timedelta(seconds=timeout_seconds)
    foreground = dist.new_group(backend="gloo", timeout=timeout)
    return GroupRanks(foreground), GroupRanks(background or dist.new_group(backend="gloo", timeout=timeout))
