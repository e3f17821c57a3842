"""A training job for machines that have better to do: a few hundred weights, any world size, a pace.

    tiny_training.py STEPS [SECONDS_PER_STEP]

Most of a step is a sleep, as if on a device, so that the cores are free for nodes that start meanwhile.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import harness


def main(steps: int, step_seconds: float) -> None:
    """Train under whatever launched this."""
    with harness.Run.from_env(device="cpu") as run:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        model = DistributedDataParallel(net) if run.world_size > 1 else net
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        run.register(model=model, optimizer=optimizer)
        for step in run.steps(steps, samples=97, global_batch_samples=12):
            optimizer.zero_grad()
            for micro in step.micro_batches:
                inputs = torch.from_numpy(micro.indices).float()[:, None].expand(-1, 4) / 97
                (model(inputs).square().mean() * micro.weight).backward()
            optimizer.step()
            time.sleep(step_seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
