"""Train the GPT of `train_gpt.py` with Lightning (extra ``lightning``).

    python -m harness launch harness.yaml examples/train_lightning.py --steps 200
    torchrun --nproc-per-node 2 examples/train_lightning.py --steps 200             # HARNESS_CONFIG set

`plain_lightning.py` is the same without the harness.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.utils.data import DataLoader, TensorDataset
from train_gpt import GPT, Corpus, save_result

from harness import Run
from harness.adapters.lightning import HarnessCallback


class LanguageModel(LightningModule):
    """The GPT of `train_gpt.py` on bytes."""

    def __init__(self, context: int, channels: int) -> None:
        super().__init__()
        self.gpt = GPT(context, channels, layers=2, heads=4, dropout=0.1)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("validation_loss", self._loss(batch), sync_dist=True)

    def _loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.gpt(inputs).flatten(0, 1), targets.flatten())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]  # once per epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8, help="samples per process and forward pass")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--corpus-bytes", type=int, default=4_000_000)
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()) / "train-lightning")
    parser.add_argument("--result", type=Path, help="write the digest of the weights here (JSON)")
    args = parser.parse_args()

    with Run.from_env() as run:
        torch.manual_seed(0)
        model = LanguageModel(args.context, args.channels)
        corpus = Corpus(args.context, args.corpus_bytes)
        dataset = TensorDataset(*corpus.batch(torch.arange(corpus.samples), torch.device("cpu")))
        callback = HarnessCallback(run)
        trainer = Trainer(
            **callback.placement,
            callbacks=[callback],
            max_steps=args.steps,
            default_root_dir=args.output,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        loader = DataLoader(dataset, batch_size=args.batch, shuffle=True)
        validation = DataLoader(TensorDataset(*dataset[:8]), batch_size=4)
        trainer.fit(model, callback.loader(loader), validation)
        if args.result and trainer.is_global_zero:
            save_result(args.result, model)


if __name__ == "__main__":
    main()
