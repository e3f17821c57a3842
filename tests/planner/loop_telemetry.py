"""Telemetry of a made-up run on one p4d.24xlarge, written as the harness writes it, on a clock of its own."""

from __future__ import annotations

from pathlib import Path

from harness.clock import FakeClock
from harness.telemetry.writer import TelemetryWriter

STEP_SECONDS = 36.0
STALL_SECONDS, PERSIST_SECONDS, STARTUP_SECONDS, EMERGENCY_SECONDS = 4.0, 90.0, 400.0, 70.0
BETWEEN_SECONDS = 600.0
STEPS_PER_SAVE = 50


def write_run(
    folder: Path,
    *,
    run_id: str,
    steps: int = 200,
    lost_at: tuple[int, ...] = (120,),
    noticed_at: tuple[int, ...] = (160,),
    device: str = "cuda",
    finished: bool = True,
) -> None:
    """A run of `steps` steps: a save every 50 steps, silent losses at `lost_at`, notices acted on at `noticed_at`."""
    clock = FakeClock(1_790_000_000.0)
    writer = TelemetryWriter(folder, run_id=run_id, node=0, rank=0, world_size=8, clock=clock)
    step = 0
    interrupted = sorted([*((at, "lost") for at in lost_at), *((at, "notice") for at in noticed_at)])
    for attempt, (end, how) in enumerate([*interrupted, (steps, "finished")], start=1):
        clock.advance(STARTUP_SECONDS)
        writer.claim(f"attempt-{attempt}", attempt)
        writer.emit("started", step=step, nodes=1, device=device, startup_seconds=STARTUP_SECONDS)
        writer.emit("restored", step=step, checkpoint=f"step-{step}" if step else None)
        durable = step
        while step < end:
            to = min(end, (step // STEPS_PER_SAVE + 1) * STEPS_PER_SAVE)
            clock.advance((to - step) * STEP_SECONDS)
            writer.emit("window", step=to, steps=to - step, samples=8 * (to - step), seconds=(to - step) * STEP_SECONDS)
            step = to
            if step % STEPS_PER_SAVE == 0 and step < steps:
                name = f"step-{step:09d}-g{attempt:04d}"
                writer.emit("checkpoint_started", step=step, checkpoint=name)
                clock.advance(STALL_SECONDS)
                writer.emit(
                    "checkpoint_durable",
                    step=step,
                    checkpoint=name,
                    stall_seconds=STALL_SECONDS,
                    persist_seconds=PERSIST_SECONDS,
                    checkpoint_bytes=50 * 2**30,
                )
                durable = step
        if how == "notice":
            writer.emit("notice", step=step, source="aws", seconds_left=120.0)
            clock.advance(EMERGENCY_SECONDS)
            writer.emit(
                "emergency_saved", step=step, durable=True, agreement_seconds=1.0, emergency_seconds=EMERGENCY_SECONDS
            )
            writer.emit("left", step=step, reason="notice")
        elif how == "lost":
            step = durable
        elif finished:
            writer.emit("finished", step=step, loss=1.0)
        clock.advance(BETWEEN_SECONDS)
    writer.close()
