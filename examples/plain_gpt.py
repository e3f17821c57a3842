"""`train_gpt.py` as it was before the harness: what an interruption loses, it loses."""

from __future__ import annotations

import itertools

import gpt
import torch
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    args = gpt.parse_arguments(__doc__)
    gpt.be_deterministic()
    rank, world_size, device = gpt.join()
    corpus = gpt.Corpus(args.context, args.corpus_bytes)
    torch.manual_seed(1)
    model = gpt.GPT(args.context, args.channels, args.layers, args.heads, args.dropout).to(device)
    replica = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    loss = torch.tensor(float("nan"))
    for indices in itertools.islice(gpt.shuffled_batches(corpus.samples, args.batch, rank, world_size), args.steps):
        inputs, targets = corpus.batch(indices, device)
        loss = F.cross_entropy(replica(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        warm_up.step()
        if warm_up.last_epoch % 20 == 0 and rank == 0:
            print(f"step {warm_up.last_epoch:5d}  loss {loss.item():.4f}", flush=True)
    gpt.save_result(args.result, model, rank, loss=loss.item())


if __name__ == "__main__":
    main()
