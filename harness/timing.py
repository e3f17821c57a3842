"""How long steps take and how long they stand still, gathered into windows for telemetry."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness.clock import Clock

_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """One window."""

    steps: int
    seconds: float
    stall_seconds: float
    loss: float | None


class StepTimer:
    """Times the body of the training loop; `stall` times what it waits for between two steps.

    `step_seconds` is a moving average over steps (weight 0.1 for the newest) without the first step of the attempt,
    which warms up caches, allocators and compilers; 0 while nothing has been measured.
    """

    def __init__(self, clock: Clock, *, window_steps: int) -> None:
        self._clock = clock
        self._window_steps = window_steps
        self._step_began = self._window_began = clock.monotonic()
        self._steps = 0
        self._stall_seconds = 0.0
        self._warm = False
        self.step_seconds = 0.0
        self.loss: torch.Tensor | float | None = None

    def start(self) -> None:
        """The loop begins now."""
        self._step_began = self._window_began = self._clock.monotonic()

    def step_done(self) -> None:
        """The body of one step has run."""
        elapsed = self._clock.monotonic() - self._step_began
        self._steps += 1
        if not self._warm:
            self._warm = True
        elif self.step_seconds == 0.0:
            self.step_seconds = elapsed
        else:
            self.step_seconds += _SMOOTHING * (elapsed - self.step_seconds)

    def step_begins(self) -> None:
        """The body of the next step is about to run."""
        self._step_began = self._clock.monotonic()

    @contextlib.contextmanager
    def stall(self) -> Iterator[None]:
        """Training stands still inside this block."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._stall_seconds += self._clock.monotonic() - began

    @property
    def window_full(self) -> bool:
        """Whether the window has as many steps as a window should."""
        return self._steps >= self._window_steps

    def take_window(self) -> Measured | None:
        """What was measured since the last window; None when no step was done."""
        if self._steps == 0:
            return None
        now = self._clock.monotonic()
        measured = Measured(self._steps, now - self._window_began, self._stall_seconds, self.loss_value())
        self._window_began, self._steps, self._stall_seconds = now, 0, 0.0
        return measured

    def loss_value(self) -> float | None:
        """The loss that was last observed; None when there is none or it is not finite (telemetry is JSON)."""
        value = None if self.loss is None else float(self.loss)
        return value if value is not None and math.isfinite(value) else None
