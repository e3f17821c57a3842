"""The device of a process, and what is said when there are too few."""

from __future__ import annotations

import pytest
import torch

from harness.environment import choose_device, describe_peer_loss
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
    with pytest.raises(
        InvalidInputError, match=r"torchrun\.nproc_per_node: got '3', expected at most 2, the number of"
    ):
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
