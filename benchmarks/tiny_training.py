"""A training job for machines that have better to do: a few hundred weights, any world size, a pace.

    tiny_training.py STEPS [SECONDS_PER_STEP]

Most of a step is a sleep, as if on a device, so that the cores are free for nodes that start meanwhile.  Gradients are
averaged and weights updated by hand: DistributedDataParallel and torch's optimizers would import the compiler, which
takes a third of the time that such a process needs to start.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import harness


class Momentum:
    """Gradient descent with momentum."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = list(model.parameters())
        self._velocity = [torch.zeros_like(weight) for weight in self._weights]

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights and forget the gradients."""
        for weight, velocity in zip(self._weights, self._velocity, strict=True):
            assert weight.grad is not None
            velocity.mul_(0.9).add_(weight.grad)
            weight.sub_(velocity, alpha=0.01)
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The velocities."""
        return {str(index): velocity for index, velocity in enumerate(self._velocity)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        for index, velocity in enumerate(self._velocity):
            velocity.copy_(state[str(index)])


def main(steps: int, step_seconds: float) -> None:
    """Train under whatever launched this."""
    with harness.Run.from_env(device="cpu") as run:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        optimizer = Momentum(model)
        run.register(model=model, optimizer=optimizer)
        for step in run.steps(steps, samples=97, global_batch_samples=12):
            for micro in step.micro_batches:
                inputs = torch.from_numpy(micro.indices).float()[:, None].expand(-1, 4) / 97
                (model(inputs).square().mean() * micro.weight).backward()
            if run.world_size > 1:
                for weight in model.parameters():
                    dist.all_reduce(weight.grad)
                    weight.grad.div_(run.world_size)  # type: ignore[union-attr]
            optimizer.step()
            time.sleep(step_seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
