"""Train the GPT of `gpt.py` in mixed precision: autocast to float16, a GradScaler, clipped gradients, accumulation.

    python -m harness launch harness.yaml examples/train_amp.py --steps 200

How many micro-batches make a step follows from elastic.micro_batch_samples of the config and from the number of
processes.  `plain_amp.py` is the same without the harness.
"""

from __future__ import annotations

import gpt
import torch
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.nn.parallel import DistributedDataParallel

from harness import Run

ACCUMULATED = 2  # micro-batches per step


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
        scaler = torch.amp.GradScaler(device.type)
        run.register(model=replica, optimizer=optimizer, schedule=warm_up, scaler=scaler)
        loss = torch.tensor(float("nan"))
        for step in run.steps(args.steps, samples=corpus.samples, global_batch_samples=args.batch):
            for indices, weight, _ in step.micro_batches:
                inputs, targets = corpus.batch(indices, device)
                with torch.autocast(device.type, torch.float16):
                    loss = F.cross_entropy(replica(inputs).flatten(0, 1), targets.flatten())
                scaler.scale(loss * weight).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            warm_up.step()
            run.observe(loss=loss)
            if warm_up.last_epoch % 20 == 0 and rank == 0:
                print(f"step {warm_up.last_epoch:5d}  loss {loss.item():.4f}", flush=True)
        gpt.save_result(args.result, model, rank, loss=loss.item())


if __name__ == "__main__":
    main()
