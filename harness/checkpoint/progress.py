"""Where a run stands: what `progress.json` of a checkpoint says.  Importable without torch."""

from __future__ import annotations

from pydantic import Field

from harness.validation import StrictModel


class Progress(StrictModel):
    """Position of the whole job at a step boundary; the same on every rank."""

    step: int = Field(ge=0)
    """Optimizer steps done."""
    epoch: int = Field(0, ge=0)
    samples_seen: int = Field(0, ge=0)
    """Samples consumed since the start of the run, over all ranks and epochs."""
    epoch_samples_seen: int = Field(0, ge=0)
    """Samples consumed in this epoch: the data position."""
    world_size: int = Field(1, ge=1)
    global_batch_samples: int | None = Field(None, ge=1)
    learning_rate_rule: str | None = None
    """How the learning rate follows a changed batch: ``unchanged``, ``linear`` or ``sqrt``."""
    learning_rate_scale: float = 1.0
    """Factor that is in force relative to the configured learning rate."""
    work_seconds: float = Field(0.0, ge=0.0)
    """Useful training time that led here."""
    seed: int | None = Field(None, ge=0)
    user: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Whatever else the training script wants to find again; it comes back as given."""
