"""Train a small byte-level GPT on the source text of the Python standard library that is on this machine.

    python examples/train_gpt.py --steps 200                                       # alone, HARNESS_CONFIG set
    python -m harness launch harness.yaml examples/train_gpt.py --steps 200        # the same under torchrun

A plain training script, on CPU with gloo or on one GPU per process with NCCL; `plain_gpt.py` is the same without the
harness, and `diff -w` between them shows what it takes.  The batch need not divide by the processes.
"""

from __future__ import annotations

import gpt
import torch
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.nn.parallel import DistributedDataParallel

from harness import Run


def main() -> None:
    args = gpt.parse_arguments(__doc__)
    gpt.be_deterministic()
    with Run.from_env() as run:
        rank, world_size, device = run.rank, run.world_size, run.device
        corpus = gpt.Corpus(args.context, args.corpus_bytes)
        torch.manual_seed(1)
        model = gpt.GPT(args.context, args.channels, args.layers, args.heads, args.dropout).to(device)
        replica = DistributedDataParallel(model) if world_size > 1 else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
        run.register(model=replica, optimizer=optimizer, schedule=warm_up)
        loss = torch.tensor(float("nan"))
        for step in run.steps(args.steps, samples=corpus.samples, global_batch_samples=args.batch):
            for indices, weight, _ in step.micro_batches:
                inputs, targets = corpus.batch(indices, device)
                loss = F.cross_entropy(replica(inputs).flatten(0, 1), targets.flatten())
                (loss * weight).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            warm_up.step()
            run.observe(loss=loss)
            if warm_up.last_epoch % 20 == 0 and rank == 0:
                print(f"step {warm_up.last_epoch:5d}  loss {loss.item():.4f}", flush=True)
        gpt.save_result(args.result, model, rank, loss=loss.item())


if __name__ == "__main__":
    main()
