"""Two ranks over gloo as two nodes, each with its own disk: parts, one decision, other world sizes, lost nodes."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.checkpoint import Progress, open_target
from harness.checkpoint.faults import installed, kill_at
from harness.checkpoint.ranks import Failure, agreed_at_length
from harness.errors import CheckpointError, ExternalServiceError
from tests.harness.checkpoint_support import (
    RUN_ID,
    Job,
    distributed,
    fork_ranks,
    join_group,
    make_config,
    save_steps,
    single,
)


def wrapped(job: Job) -> dict[str, Any]:
    """The job's components as DDP training registers them."""
    return {**job.components, "model": DistributedDataParallel(job.components["model"])}


def save_as_two(rank: int, root: Path, store: Path, steps: tuple[int, ...], ranks_per_node: int = 1) -> dict[str, Any]:
    join_group(rank, 2, store)
    job = Job()
    checkpointer = distributed(make_config(root), rank, 2, ranks_per_node)
    components = wrapped(job)
    restored = checkpointer.restore(components)
    done = restored.step if restored else 0
    torch.manual_seed(100 + rank + done)  # every rank has random streams of its own
    prints = {}
    for step in steps:
        job.train(step - done)
        done = step
        for tensor in job.components["model"].state_dict().values():
            dist.broadcast(tensor, src=0)  # stands for DDP's own synchronisation: replicas are equal
        for state in job.components["optimizer"].state.values():
            for tensor in state.values():
                dist.broadcast(tensor, src=0)
        checkpointer.save(components, Progress(step=step, world_size=2))
        checkpointer.wait()
        prints[step] = job.fingerprint()
    checkpointer.close()
    return prints


def restore_as(rank: int, root: Path, store: Path, world_size: int) -> tuple[Any, str, str]:
    """(what was restored, fingerprint of everything, fingerprint of what all ranks share)."""
    join_group(rank, world_size, store)
    job = Job()
    checkpointer = distributed(make_config(root), rank, world_size)
    restored = checkpointer.restore(wrapped(job))
    checkpointer.close()
    everything = job.fingerprint()
    del job.components["rng"]
    return restored, everything, job.fingerprint()


def test_each_node_holds_its_own_part_and_ranks_share_the_writing(tmp_path: Path) -> None:
    fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1, 2))
    for component in ("model", "optimizer"):
        parts = [
            tmp_path / f"node{n}" / RUN_ID / "step-000000002-g0001" / component / f"__{n}_0.distcp" for n in (0, 1)
        ]
        sizes = [part.stat().st_size for part in parts]
        assert max(sizes) < 3 * min(sizes), "one rank writes nearly everything"
    assert not (tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "model" / "__1_0.distcp").exists()


def test_both_nodes_restore_the_same_one_and_fetch_what_the_other_holds(tmp_path: Path) -> None:
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1, 2))
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store2", 2)
    for rank, (restored, everything, _) in enumerate(results):
        assert (restored.name, restored.source) == ("step-000000002-g0001", "local and remote")
        assert everything == prints[rank][2]
        assert restored.missing == ()


def test_a_node_whose_disk_is_gone_restores_the_same(tmp_path: Path) -> None:
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1, 2))
    shutil.rmtree(tmp_path / "node1")
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store2", 2)
    assert [everything for _, everything, _ in results] == [prints[0][2], prints[1][2]]
    assert results[1][0].source == "remote"


def test_two_ranks_on_one_node_share_its_directory(tmp_path: Path) -> None:
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (3,), 2)
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000003-g0001")  # only this node's disk has it now
    (tmp_path / "node0" / RUN_ID / "step-000000003-g0001" / "manifest.json").unlink()
    restored, _, shared = fork_ranks(1, restore_as, tmp_path, tmp_path / "store2", 1)[0]
    assert restored.source == "local"
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store3", 2)
    assert {found for _, _, found in results} == {shared}
    assert results[0][1] == prints[0][3]


@pytest.mark.parametrize(("saved_by", "loaded_by"), [(2, 1), (1, 2), (2, 3)])
def test_another_world_size_loads_it(tmp_path: Path, saved_by: int, loaded_by: int) -> None:
    """What all ranks share is the same; a rank that did not exist before is told that its own state is missing."""
    if saved_by == 2:
        fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (2,))
    else:
        save_steps(make_config(tmp_path), 2)
    reference = Job()
    single(make_config(tmp_path / "reference", str(tmp_path / "bucket"))).restore(reference.components)
    del reference.components["rng"]
    results = fork_ranks(loaded_by, restore_as, tmp_path, tmp_path / "store2", loaded_by)
    for rank, (restored, _, shared) in enumerate(results):
        assert shared == reference.fingerprint()
        assert restored.world_size == saved_by
        assert restored.missing == (("rng",) if rank >= saved_by else ())


def test_parts_that_only_the_nodes_hold_are_brought_to_the_target_first(tmp_path: Path) -> None:
    """Both processes died after the local publication: the next attempt finishes the upload and restores it."""
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1, 2))
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000002-g0001")
    for node in (0, 1):
        (tmp_path / f"node{node}" / RUN_ID / "step-000000002-g0001" / "manifest.json").unlink()
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store2", 2)
    assert [everything for _, everything, _ in results] == [prints[0][2], prints[1][2]]
    assert open_target(tmp_path / "bucket").exists(f"{RUN_ID}/step-000000002-g0001/manifest.json")
    # With one of the disks gone as well there is nothing to finish: the older one is taken.
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000002-g0001")
    shutil.rmtree(tmp_path / "node1")
    for record in (tmp_path / "bucket" / RUN_ID / "generations").glob("*-restored.json"):
        record.unlink()
    (tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "manifest.json").unlink(missing_ok=True)
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store3", 2)
    assert [everything for _, everything, _ in results] == [prints[0][1], prints[1][1]]
    assert "part 1 of 2 is gone with its node" in results[0][0].line


def test_damage_seen_by_one_node_moves_all_ranks_to_the_same_older_one(tmp_path: Path) -> None:
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1, 2))
    # Only node 0 lacks node 1's shard and has to fetch it; node 1's own copy is good.
    damaged = tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "model" / "__1_0.distcp"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store2", 2)
    assert {restored.name for restored, _, _ in results} == {"step-000000001-g0001"}
    assert [everything for _, everything, _ in results] == [prints[0][1], prints[1][1]]


def die_while_saving(rank: int, root: Path, store: Path, victim: int, point: str) -> str:
    join_group(rank, 2, store)
    job = Job()
    checkpointer = distributed(make_config(root), rank, 2)
    components = wrapped(job)
    checkpointer.restore(components)
    job.train(1)
    with installed(kill_at(point)) if rank == victim else contextlib.nullcontext():
        checkpointer.save(components, Progress(step=9, world_size=2))
        try:
            checkpointer.wait(50)
        except CheckpointError as error:
            return f"failed: {error}"
    return "durable"


@pytest.mark.parametrize(
    ("victim", "point"),
    [(1, "write:after_files"), (0, "local:after_rename"), (1, "upload:between_files"), (0, "upload:before_manifest")],
)
def test_a_rank_killed_during_a_save_leaves_the_previous_one(tmp_path: Path, victim: int, point: str) -> None:
    """One rank dies by SIGKILL: the other one's save fails with a reason, and both restore what was durable before."""
    prints = fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1,))
    results = fork_ranks(2, die_while_saving, tmp_path, tmp_path / "store2", victim, point)
    assert results[victim] == "signal 9"
    assert results[1 - victim].startswith("failed: ")
    shutil.rmtree(tmp_path / f"node{victim}")
    results = fork_ranks(2, restore_as, tmp_path, tmp_path / "store3", 2)
    assert {restored.name for restored, _, _ in results} == {"step-000000001-g0001"}
    assert [everything for _, everything, _ in results] == [prints[0][1], prints[1][1]]


def save_different_steps(rank: int, root: Path, store: Path) -> tuple[str, str, str]:
    join_group(rank, 2, store)
    job = Job()
    checkpointer = distributed(make_config(root), rank, 2)
    with pytest.raises(CheckpointError) as caught:
        checkpointer.save(job.components, Progress(step=1 + rank, world_size=2))
    progress = Progress(step=1, world_size=2)
    calls: list[Callable[[], Any]] = [
        lambda: checkpointer.save(job.components, progress),
        lambda: checkpointer.restore(job.components),
    ]
    with pytest.raises(CheckpointError) as other:
        calls[rank]()
    saved = checkpointer.save(job.components, progress).result(50)
    checkpointer.close()
    return str(caught.value), str(other.value), saved.status


def test_ranks_meet_while_one_of_them_works_for_longer_than_any_timeout(monkeypatch) -> None:
    """Work that goes on for three turns; and one rank's failure is the other's."""
    monkeypatch.setattr("harness.checkpoint.ranks._TURN_SECONDS", 0.01)
    finish = threading.Event()

    class Others:
        rank, size = 0, 2
        failure: Failure | None = None

        def __init__(self) -> None:
            self.said: list[object] = []

        def gather(self, value: Any) -> list[Any]:
            self.said.append(value)
            if self.said == [False] * 3:
                finish.set()
            return [value, True if isinstance(value, bool) else self.failure]

        def broadcast(self, value: Any) -> Any:
            return value

        def close(self, *, orderly: bool) -> None: ...

    others = Others()
    assert agreed_at_length(others, lambda: finish.wait(30) and "done") == "done"
    assert others.said[:3] == [False] * 3
    assert others.said[-2:] == [True, None]
    others.failure = Failure.of(ExternalServiceError("quota exceeded"))
    with pytest.raises(ExternalServiceError, match="rank 1: quota exceeded"):
        agreed_at_length(others, lambda: "done")


def test_ranks_that_save_different_steps_are_told(tmp_path: Path) -> None:
    """Another step, or another call at this step: an error on every rank, at once, after which a right call works."""
    for steps, calls, status in fork_ranks(2, save_different_steps, tmp_path, tmp_path / "store"):
        assert "rank 0 saves step 1 of model, optimizer, rng, scheduler, rank 1 saves step 2" in steps
        assert "rank 0 saves step 1 of model, optimizer, rng, scheduler, rank 1 calls restore" in calls
        assert status == "durable"


def fail_on_one_rank(rank: int, root: Path, store: Path) -> tuple[str, str]:
    join_group(rank, 2, store)
    job = Job()
    checkpointer = distributed(make_config(root), rank, 2)

    def full(point: str) -> None:
        if rank == 1 and point == "write:after_files":
            raise OSError(28, "No space left on device", "shard")

    with installed(full):
        result = checkpointer.save(job.components, Progress(step=1, world_size=2)).result(50)
    again = checkpointer.save(job.components, Progress(step=1, world_size=2)).result(50)
    checkpointer.close()
    return str(result.error), again.status


def test_one_full_disk_fails_the_save_on_every_rank_and_the_next_one_works(tmp_path: Path) -> None:
    for error, again in fork_ranks(2, fail_on_one_rank, tmp_path, tmp_path / "store"):
        assert error == "rank 1: shard: No space left on device"
        assert again == "durable"
    assert not list((tmp_path / "node0" / RUN_ID).glob(".writing-*"))


def sharded_job(world_size: int) -> dict[str, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 3))
    mesh = init_device_mesh("cpu", (world_size,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return {"model": model, "optimizer": optimizer}


def whole(components: dict[str, Any]) -> list[torch.Tensor]:
    """All tensors of a sharded job, unsharded."""
    state = list(components["model"].state_dict().values())
    for moments in components["optimizer"].state_dict()["state"].values():
        state += [tensor for _, tensor in sorted(moments.items())]
    return [tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone() for tensor in state]


def train_sharded(rank: int, root: Path, store: Path) -> list[torch.Tensor]:
    join_group(rank, 2, store)
    components = sharded_job(2)
    checkpointer = distributed(make_config(root), rank, 2)
    checkpointer.restore(components)
    for _ in range(3):
        components["optimizer"].zero_grad()
        components["model"](torch.ones(4, 6)).square().sum().backward()
        components["optimizer"].step()
    checkpointer.save(components, Progress(step=3, world_size=2))
    checkpointer.wait()
    checkpointer.close()
    return whole(components)


def restore_sharded(rank: int, root: Path, store: Path, world_size: int) -> list[torch.Tensor]:
    join_group(rank, world_size, store)
    components = sharded_job(world_size)
    checkpointer = distributed(make_config(root), rank, world_size)
    assert checkpointer.restore(components) is not None
    checkpointer.close()
    return whole(components)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_sharded_state_of_fsdp2_comes_back_at_any_world_size(tmp_path: Path, world_size: int) -> None:
    saved = fork_ranks(2, train_sharded, tmp_path, tmp_path / "store")[0]
    assert len(saved) == 4 + 4 * 3
    for found in fork_ranks(world_size, restore_sharded, tmp_path, tmp_path / "store2", world_size):
        assert all(torch.equal(a, b) for a, b in zip(saved, found, strict=True))
