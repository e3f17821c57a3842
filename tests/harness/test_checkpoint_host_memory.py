"""Page-locked memory for the copy of the state; CUDA itself is a stand-in here that notes what it is asked."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
import torch

from harness.checkpoint.host_memory import HostMemory

SIZE = 3 * 2**20 + 17


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: int) -> list[tuple[object, ...]]:
    """What is asked of CUDA's runtime, which answers with this error code."""
    asked: list[tuple[object, ...]] = []

    def note(*arguments: object) -> int:
        asked.append(arguments)
        return answer

    cudart = SimpleNamespace(
        cudaHostRegister=lambda *given: note("register", *given),
        cudaHostUnregister=lambda *given: note("unregister", *given),
    )
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    return asked


def test_it_is_registered_at_its_very_size_and_given_up_before_it_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch, 0)
    memory = HostMemory(SIZE, pinned=True)
    view, address = memory.numpy(), memory.address
    assert memory.pinned
    assert asked == [("register", address, SIZE, 1)]
    del memory
    gc.collect()
    assert asked[1:] == [("unregister", address)]
    view[-1] = 7  # still ours
    assert view.nbytes == SIZE


def test_where_cuda_refuses_saves_go_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = stand_in(monkeypatch, 2)
    memory = HostMemory(SIZE, pinned=True)
    assert not memory.pinned
    assert "did not page-lock" in caplog.text
    del memory
    gc.collect()
    assert len(asked) == 1  # what was not registered is not unregistered


def test_without_a_gpu_cuda_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch, 0)
    assert not HostMemory(SIZE).pinned
    assert not HostMemory(0, pinned=True).pinned
    assert not asked
