"""What the examples share: a small byte-level GPT, the source text of this machine's Python as corpus, arguments."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F  # noqa: N812  the field's name for it


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

    def batch(self, indices: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, (B, T) int64 each, of the samples with these indices (1-D, tensor or array)."""
        positions = torch.as_tensor(indices)[:, None] * self.context + torch.arange(self.context + 1)
        chunk = self.bytes[positions].long().to(device)
        return chunk[:, :-1], chunk[:, 1:]


def shuffled_batches(samples: int, batch: int, rank: int, world_size: int) -> Iterator[torch.Tensor]:
    """This rank's indices of every batch, epoch after epoch: what the examples without the harness train on."""
    for epoch in itertools.count():
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(epoch))
        for start in range(0, samples - batch + 1, batch):
            yield order[start : start + batch][rank::world_size]


def join() -> tuple[int, int, torch.device]:
    """Rank, world size and device of this process, in the process group of torchrun if there is one."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group()
    if not torch.cuda.is_available():
        return rank, world_size, torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return rank, world_size, device


def be_deterministic() -> None:
    """Where it is possible: some GPU kernels (attention's backward) have no deterministic form, and warn."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())


def save_result(path: Path | None, model: nn.Module, rank: int, **more: float) -> None:
    """Write the SHA-256 of the weights (every parameter and buffer, in order of name) and what else is worth knowing.

    Called on all ranks, since a sharded model is only whole on all of them; rank 0 writes.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        digest.update(name.encode() + whole.detach().cpu().contiguous().numpy().tobytes())
    if path is not None and rank == 0:
        path.write_text(json.dumps({**more, "weights_sha256": digest.hexdigest()}))


def parse_arguments(
    description: str | None, *, batch: str = "samples per step over all processes"
) -> argparse.Namespace:
    """The command line that these scripts have in common; `batch` says what its ``--batch`` means."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16, help=batch)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--corpus-bytes", type=int, default=4_000_000)
    output = Path(tempfile.gettempdir()) / "spot-planner-example"
    parser.add_argument("--output", type=Path, default=output, help="for what a library itself writes")
    parser.add_argument("--result", type=Path, help="write the final loss and the digest of the weights here (JSON)")
    return parser.parse_args()
