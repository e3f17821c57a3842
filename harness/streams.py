"""Random numbers that belong to the sample, not to the rank (``data: {randomness: per-sample}``).

Before each micro-batch the generators of Python, NumPy and PyTorch are seeded from (seed, position of its first
sample): what is drawn then depends on which samples are computed together, and not on where.  `SampleDropout` goes
further: its mask for a sample depends on (seed, that sample's position) alone, however a batch was cut.  A position
identifies the sample and the epoch, so another epoch gives the same sample other numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the field's name for it

from harness.data import mix_array
from harness.errors import InvalidInputError
from harness.randomness import seed_everything

# splitmix64's finalizer, as two's complement for int64 tensors.
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)

_keys: npt.NDArray[np.int64] | None = None
"""One key per sample of the micro-batch that is computed now; None outside of the loop and in per-rank mode."""


def enter_samples(seed: int, positions: npt.NDArray[np.int64]) -> None:
    """The samples at these positions are computed next."""
    global _keys
    mixed = mix_array(positions.astype(np.uint64) ^ mix_array(np.array([seed & (1 << 64) - 1], dtype=np.uint64)))
    _keys = mixed.astype(np.int64)
    seed_everything(seed, stream=-1 - int(positions[0]))


def leave_samples() -> None:
    """No samples are being computed: `SampleDropout` draws from the rank's own stream."""
    global _keys
    _keys = None


def number_streams(components: Iterable[Any]) -> None:
    """Tell the `SampleDropout` modules of these components apart, by their order in the model."""
    modules = (m for component in components if isinstance(component, nn.Module) for m in component.modules())
    for number, module in enumerate(m for m in modules if isinstance(m, SampleDropout)):
        module.stream = number


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical right shift; int64's own keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _uniform_bits(keys: torch.Tensor, stream: int, count: int) -> torch.Tensor:
    """(samples, count) int64 in [0, 2²⁴): splitmix64 of (key, stream, element)."""
    elements = torch.arange(count, device=keys.device, dtype=torch.int64)
    values = keys[:, None] + (elements * _GAMMA + stream * 0x632BE59BD9B4E019)[None, :]
    values = (values ^ _shifted(values, 30)) * _MIX_1
    values = (values ^ _shifted(values, 27)) * _MIX_2
    return _shifted(values ^ _shifted(values, 31), 40)


class SampleDropout(nn.Module):
    """Dropout whose mask belongs to the sample; (batch, …) to the same, samples along the first dimension.

    In per-rank mode, and outside of the training loop, it is `torch.nn.Dropout`.  The run tells the modules of a
    registered model apart by their order.  Called twice for the same samples, a module gives the same mask: activation
    checkpointing needs that, and a layer that is applied twice should have two of them.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise InvalidInputError("SampleDropout.p", p, "a probability in [0, 1)")
        self.p = p
        self.stream = 0
        """Which of the model's dropouts this is; set by the run."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Zero each element with probability p, and scale the others by 1 / (1 − p)."""
        if not self.training or self.p == 0.0:
            return values
        if _keys is None:
            return F.dropout(values, self.p, training=True)
        if len(_keys) != values.shape[0]:
            raise InvalidInputError(
                "SampleDropout",
                f"a first dimension of {values.shape[0]}",
                f"{len(_keys)}, the samples of this micro-batch, along the first dimension",
            )
        keys = torch.from_numpy(_keys).to(values.device)
        bits = _uniform_bits(keys, self.stream, values[0].numel())
        kept = (bits >= round(self.p * (1 << 24))).view(values.shape)
        return values * kept / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
