"""Train a small byte-level GPT on the source text of the Python standard library that is on this machine.

    python examples/train_gpt.py --steps 200                                       # alone, HARNESS_CONFIG set
    python -m harness launch harness.yaml examples/train_gpt.py --steps 200        # the same under torchrun

A plain training script: its harness lines are marked.  CPU with gloo, or one GPU per process with NCCL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sysconfig
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.nn.parallel import DistributedDataParallel

from harness import Run  # harness


class Block(nn.Module):
    """Pre-norm transformer block with causal attention and dropout: (batch, positions, channels) to the same."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.drop = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        b, t, c = hidden.shape
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(hidden)).split(c, dim=-1)
        )
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        hidden = hidden + self.drop(self.out(attended.transpose(1, 2).reshape(b, t, c)))
        out: torch.Tensor = hidden + self.drop(self.mlp(self.norm_2(hidden)))
        return out


class GPT(nn.Module):
    """Bytes in, (batch, positions); logits over the next byte out, (batch, positions, 256)."""

    def __init__(self, context: int, channels: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(256, channels), nn.Embedding(context, channels)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(channels, heads, dropout) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, 256, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.drop(self.token(tokens) + self.place(places))
        logits: torch.Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits


class Corpus:
    """The standard library's modules, one after the other, cut into samples of `context` + 1 bytes."""

    def __init__(self, context: int, limit_bytes: int) -> None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        text = bytearray(b"\n".join(file.read_bytes() for file in files)[:limit_bytes])
        self.context = context
        self.samples = (len(text) - 1) // context
        self.bytes = torch.frombuffer(text, dtype=torch.uint8)

    def batch(self, indices: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, (B, T) int64 each, of the samples with these indices."""
        positions = indices[:, None] * self.context + torch.arange(self.context + 1)
        chunk = self.bytes[positions].long().to(device)
        return chunk[:, :-1], chunk[:, 1:]


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the bytes of every parameter and buffer, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_result(path: Path, model: nn.Module, **more: float) -> None:
    """Write the digest of the weights, and what else is worth knowing, as JSON."""
    path.write_text(json.dumps({**more, "weights_sha256": weights_digest(model)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16, help="samples per step over all processes")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--corpus-bytes", type=int, default=4_000_000)
    parser.add_argument("--result", type=Path, help="write the final loss and the digest of the weights here (JSON)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with Run.from_env() as run:  # harness
        device = run.device  # harness
        # Some GPU kernels (attention's backward) have no deterministic form: there it warns instead of stopping.
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        corpus = Corpus(args.context, args.corpus_bytes)
        plain = GPT(args.context, args.channels, args.layers, args.heads, args.dropout).to(device)
        model = DistributedDataParallel(plain) if run.world_size > 1 else plain  # harness
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
        run.register(model=model, optimizer=optimizer, scheduler=warm_up)  # harness
        loss = torch.tensor(float("nan"))
        for step, indices in run.steps(args.steps, samples=corpus.samples, global_batch_samples=args.batch):  # harness
            inputs, targets = corpus.batch(torch.from_numpy(indices), device)
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            warm_up.step()
            run.observe(loss=loss)  # harness
            if step % 20 == 0 and run.rank == 0:  # harness
                print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
        if args.result and run.rank == 0:  # harness
            save_result(args.result, plain, loss=loss.item())


if __name__ == "__main__":
    main()
