"""Train a small GPT-2 from scratch with Hugging Face's Trainer (extra ``huggingface``).

    python -m harness launch harness.yaml examples/train_huggingface.py --steps 200
    torchrun --nproc-per-node 2 examples/train_huggingface.py --steps 200            # HARNESS_CONFIG set

`plain_huggingface.py` is the same without the harness.
"""

from __future__ import annotations

import torch
from gpt import Corpus, parse_arguments, save_result
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from harness import Run
from harness.adapters.huggingface import resume_with


class Bytes(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The corpus as language-modelling samples: `context` bytes, which are their own labels."""

    def __init__(self, context: int, limit_bytes: int) -> None:
        self.corpus = Corpus(context, limit_bytes)

    def __len__(self) -> int:
        return self.corpus.samples

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        inputs, _ = self.corpus.batch(torch.tensor([index]), torch.device("cpu"))
        return {"input_ids": inputs[0], "labels": inputs[0]}


def main() -> None:
    args = parse_arguments(__doc__, batch="samples per process and forward pass")
    with Run.from_env() as run:
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=256, n_positions=args.context, n_embd=args.channels, n_layer=2, n_head=4)
        )
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(args.output),
                max_steps=args.steps,
                per_device_train_batch_size=args.batch,
                learning_rate=2e-3,
                logging_steps=20,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
                disable_tqdm=True,
            ),
            train_dataset=Bytes(args.context, args.corpus_bytes),
        )
        resume_with(run, trainer)
        trainer.train()
        save_result(args.result, model, trainer.args.process_index)


if __name__ == "__main__":
    main()
