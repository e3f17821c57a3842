"""Checkpoints of a state on a GPU.  Runs where torch has one; no machine of this project's tests does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.checkpoint import Progress
from tests.harness.checkpoint_support import make_config, single

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU here")


def job() -> dict[str, nn.Module | torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(4, 512, device="cuda")).square().mean().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def tensors(components: dict[str, nn.Module | torch.optim.Optimizer]) -> list[torch.Tensor]:
    model, optimizer = components["model"], components["optimizer"]
    assert isinstance(model, nn.Module)
    assert isinstance(optimizer, torch.optim.Optimizer)
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [tensor.detach() for tensor in (*model.parameters(), *moments)]


def test_a_state_on_the_device_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Through pinned buffers; what training changes after `save` returned, while it is written, is not in it."""
    components, checkpointer = job(), single(make_config(tmp_path))
    checkpointer.restore(components)
    checkpointer.prepare(components)
    before = [tensor.clone() for tensor in tensors(components)]
    handle = checkpointer.save(components, Progress(step=1))
    assert checkpointer._buffers is not None
    assert checkpointer._buffers._arena.pinned
    assert torch.from_numpy(checkpointer._buffers._arena.numpy()).is_pinned()
    with torch.no_grad():
        for tensor in tensors(components):
            tensor.add_(1.0)
    assert handle.result(60).durable
    checkpointer.close()
    fresh = job()
    restored = single(make_config(tmp_path)).restore(fresh)
    assert restored is not None
    for found, expected in zip(tensors(fresh), before, strict=True):
        assert found.device == expected.device
        assert torch.equal(found, expected)


def test_the_copy_waits_for_what_the_device_has_to_do_first(tmp_path: Path) -> None:
    """A step whose kernels are still running when `save` is called is in the checkpoint, whole."""
    components, checkpointer = job(), single(make_config(tmp_path))
    checkpointer.restore(components)
    model = components["model"]
    assert isinstance(model, nn.Module)
    large = torch.rand(4096, 4096, device="cuda")
    with torch.no_grad():
        for _ in range(20):
            large = (large @ large).clamp_(0, 1)
        for parameter in model.parameters():
            parameter.copy_(large.flatten()[: parameter.numel()].view_as(parameter))
    assert checkpointer.save(components, Progress(step=1)).result(60).durable
    checkpointer.close()
    fresh = job()
    assert single(make_config(tmp_path)).restore(fresh) is not None
    for found, expected in zip(tensors(fresh), tensors(components), strict=True):
        assert torch.equal(found, expected)
