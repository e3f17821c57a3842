"""Where this process stands: as torchrun numbers it, or alone; its device and its process group."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from harness.config import RunConfig
from harness.errors import InvalidInputError

DeviceKind = Literal["auto", "cpu", "cuda"]

SHARED_STORE_OFF = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""torchrun's switch: a store of its own for each round of the rendezvous, hosted by rank 0."""

_log = logging.getLogger("harness")


@dataclass(frozen=True, slots=True)
class Placement:
    """This process among all processes of the job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0
    """Among the nodes of this rendezvous (torchrun's GROUP_RANK): may change from one attempt to the next."""
    nodes: int = 1
    node_name: int = 0
    """Which machine this is (``launch --node-rank``), for ``{node}`` in directories; `node_rank` when not given."""

    @classmethod
    def from_environment(cls) -> Placement:
        """From torchrun's variables; a process without them is a job of one."""
        if "RANK" not in os.environ:
            return cls(node_name=_number("HARNESS_NODE", 0))
        world_size = _number("WORLD_SIZE")
        local_world_size = _number("LOCAL_WORLD_SIZE", 1)
        node_rank = _number("GROUP_RANK", 0)
        return cls(
            rank=_number("RANK"),
            world_size=world_size,
            local_rank=_number("LOCAL_RANK", 0),
            local_world_size=local_world_size,
            node_rank=node_rank,
            nodes=_number("GROUP_WORLD_SIZE", max(1, world_size // local_world_size)),
            node_name=_number("HARNESS_NODE", node_rank),
        )


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        value = int(text or "")
    except ValueError:
        value = -1
    if value < 0:
        raise InvalidInputError(f"${name}", text, "a number >= 0, as torchrun sets it")
    return value


def find_config(given: Path | str | None) -> Path:
    """The harness.yaml that was `given`, else ``$HARNESS_CONFIG``, else the one in the working directory."""
    path = given or os.environ.get("HARNESS_CONFIG") or ("harness.yaml" if Path("harness.yaml").is_file() else None)
    if not path:
        raise InvalidInputError(
            "$HARNESS_CONFIG",
            "nothing",
            "the path of a harness.yaml",
            "set it, pass config=, or start with `python -m harness launch harness.yaml train.py`",
        )
    return Path(path)


def minimum_nodes(config: RunConfig) -> int:
    """MIN of the fleet: `PET_NNODES` (what `harness launch` and torchrun.env set) before the config."""
    return _nodes(config)[0]


def maximum_nodes(config: RunConfig) -> int:
    """MAX of the fleet, from the same places."""
    return _nodes(config)[1]


def waits_below_minimum(config: RunConfig) -> bool:
    """Whether nodes that stay wait for others when there are too few of them."""
    asked = config.elastic.below_minimum
    return asked == "wait" or (asked is None and minimum_nodes(config) < maximum_nodes(config))


def _nodes(config: RunConfig) -> tuple[int, int]:
    text = os.environ.get("PET_NNODES", config.torchrun.nnodes)
    try:
        return int(text.split(":")[0]), int(text.split(":")[-1])
    except ValueError:
        raise InvalidInputError("$PET_NNODES", text, "MIN:MAX or a number of nodes") from None


def choose_device(kind: DeviceKind, local_rank: int) -> torch.device:
    """The device of this local rank; CPU where there is no GPU and none was asked for."""
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 0:
        raise InvalidInputError("device", kind, "auto or cpu: torch finds no GPU on this node", "is the driver loaded?")
    if local_rank >= count:
        raise InvalidInputError(
            "torchrun.nproc_per_node", local_rank + 1, f"at most {count}, the number of GPUs on this node"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def join_process_group(placement: Placement, device: torch.device, timeout_seconds: float) -> bool:
    """Create the default process group where the script has not; True when this call did.

    The timeout is what discovers a peer whose link went silent.  CPU tensors travel over gloo on GPU machines too:
    checkpoints and agreement use them.
    """
    if placement.world_size == 1 and "RANK" not in os.environ:
        return False
    if dist.is_initialized():
        return False
    timeout = timedelta(seconds=timeout_seconds)
    meeting: dict[str, Any] = {}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        meeting = {
            "store": _store_of_this_restart(placement, timeout),
            "rank": placement.rank,
            "world_size": placement.world_size,
        }
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
        **meeting,
    )
    return True


def _store_of_this_restart(placement: Placement, timeout: timedelta) -> Store:
    """The agent's store, without what earlier attempts have left there.

    By default torchrun's agent keeps one store for all restarts of its workers (2.13: `DynamicRendezvousHandler`
    makes it once).  In it the addresses of processes that have ended are still to be found, and whoever is first to
    form up again connects to those and fails, until no restart is left.  The number of the restart keeps them apart
    where one agent counts for all; across nodes each counts its own, and a newcomer does not even know the store.
    """
    if placement.nodes > 1 and placement.rank == 0:
        _log.warning(
            "set %s=1 before torchrun on every node (torchrun.env and `harness launch` do): with torchrun's default, "
            "processes that form up again may find the addresses of dead ones, and a new node finds nobody",
            SHARED_STORE_OFF,
        )
    host, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT")
    store = TCPStore(host, port, placement.world_size, is_master=False, timeout=timeout)
    if placement.nodes > 1:
        return store
    return PrefixStore(f"harness-restart-{_number('TORCHELASTIC_RESTART_COUNT', 0)}", store)


_PEER_LOSS_SIGNS = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "connection was likely closed",
    "broken pipe",
    "timed out waiting",
    "timed out after",
    "application timeout caused pair closure",
    "read error",
    "nccl communicator was aborted",
    "remote process exited",
    "rank is not available",
    "socket timeout",
)


_SOURCE_PLACE = re.compile(r"\[/\S+:\d+\] ")


def describe_peer_loss(error: BaseException) -> str:
    """The first sentence of a backend's error, without the places in its source code (`[/…/pair.cc:538]`)."""
    text = _SOURCE_PLACE.sub("", " ".join(str(error).split()))
    text = text.partition(". This is typically")[0]
    return text if len(text) <= 200 else text[:200].rpartition(" ")[0] + " …"


def is_peer_loss(error: BaseException) -> bool:
    """Whether `error` says that another process of the job is gone, rather than that this one has a bug.

    True for torch.distributed's own errors, and for gloo's, which are plain RuntimeErrors that say so in words.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, dist.DistError):
            return True
        text = str(cause).lower()
        if isinstance(cause, RuntimeError) and any(sign in text for sign in _PEER_LOSS_SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
