"""Train the GPT of `gpt.py` with Lightning (extra ``lightning``).

    python -m harness launch harness.yaml examples/train_lightning.py --steps 200
    torchrun --nproc-per-node 2 examples/train_lightning.py --steps 200             # HARNESS_CONFIG set

`plain_lightning.py` is the same without the harness.
"""

from __future__ import annotations

from typing import Any

import torch
from gpt import GPT, Corpus, parse_arguments, save_result
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch.utils.data import DataLoader, TensorDataset

from harness import Run
from harness.adapters.lightning import HarnessCallback


class LanguageModel(LightningModule):
    """The GPT of `gpt.py` on bytes."""

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
    args = parse_arguments(__doc__, batch="samples per process and forward pass")
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
        save_result(args.result, model, trainer.global_rank)


if __name__ == "__main__":
    main()
