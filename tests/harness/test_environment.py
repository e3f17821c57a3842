"""The device of a process, and what is said when there are too few."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from harness.environment import Placement, choose_device, describe_peer_loss, join_process_group
from harness.errors import InvalidInputError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A node that seems to have two GPUs; the devices that were made current."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_each_process_takes_the_device_of_its_local_rank(gpus: list[torch.device]) -> None:
    assert [choose_device("auto", rank) for rank in (0, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert gpus == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert choose_device("cpu", 5) == torch.device("cpu")


@pytest.mark.usefixtures("gpus")
def test_more_processes_than_gpus_are_refused() -> None:
    """One line that names the setting and the number there is."""
    with pytest.raises(InvalidInputError, match=r"torchrun\.nproc_per_node: got 3, expected at most 2, the number of"):
        choose_device("auto", 2)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless none was asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto", 0) == torch.device("cpu")
    with pytest.raises(InvalidInputError, match=r"device: got 'cuda', expected auto or cpu.*driver"):
        choose_device("cuda", 0)


def test_what_is_said_of_a_lost_process_names_no_source_file() -> None:
    """gloo's messages begin with the place in its source, also after one of ours; long ones are cut."""
    gloo = "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [10.0.0.2]:4711."
    said = describe_peer_loss(RuntimeError(f"a rank did not take part: {gloo} This is typically a symptom"))
    assert said == "a rank did not take part: Connection closed by peer [10.0.0.2]:4711"
    cut = describe_peer_loss(RuntimeError("timed out " * 40))
    assert cut == "timed out " * 20 + "…"


def test_a_restart_under_torchruns_default_does_not_meet_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that an attempt left in the agent's store are not found by the next one, though the store is the same.

    That the same attempt would find them shows that the store is the agent's.
    """
    agents = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agents.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = []
    for restart in (0, 0, 1):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restart))
        assert join_process_group(Placement.from_environment(), torch.device("cpu"), 20.0)
        store = dist.distributed_c10d._get_default_store()
        found.append(store.check(["address"]))
        store.set("address", "of a process that will be dead")
        dist.destroy_process_group()
    assert found == [False, True, False]


def test_torchruns_default_is_warned_of_on_several_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line that names the variable; the shared store is then used as torchrun has it."""
    agents = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(agents.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("RANK", "0")
    with caplog.at_level("WARNING", logger="harness"):
        assert join_process_group(Placement(nodes=2), torch.device("cpu"), 20.0)
    dist.destroy_process_group()
    assert [r.getMessage().split(" before")[0] for r in caplog.records] == ["set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"]
