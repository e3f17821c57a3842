"""A checkpoint starts in the simulator where the harness's policy, asked at every moment, would start it."""

from __future__ import annotations

from harness.policy import EveryWorkSeconds, SaveContext
from simulator.lifetimes import Exponential
from simulator.provision import ConstantProvision
from simulator.reference import simulate_timeline
from simulator.spec import Spec

INTERVAL_HOURS = 0.5
SECONDS = 3600.0


def is_due(progress_hours: float, last_save_hours: float) -> bool:
    policy = EveryWorkSeconds(INTERVAL_HOURS * SECONDS)
    return policy.should_save(
        SaveContext(
            step=0,
            work_seconds=progress_hours * SECONDS,
            last_save_step=0,
            last_save_work_seconds=last_save_hours * SECONDS,
        )
    )


def test_the_simulator_saves_when_the_policy_says_so() -> None:
    """Over interruptions and rollbacks: due at each stall's start, not a second earlier, and at no other moment."""
    spec = Spec(
        work_hours=20.0,
        interval_hours=INTERVAL_HOURS,
        stall_hours=0.01,
        persist_hours=0.05,
        startup_hours=0.1,
        lifetime=Exponential(0.4),
        provision=ConstantProvision(0.05),
    )
    stalls = losses = 0
    for run in range(20):
        _, timeline = simulate_timeline(spec, 7, run)
        last_save, before = 0.0, "startup"
        for span, after in zip(timeline.spans, [*timeline.spans[1:], None], strict=True):
            if span.phase == "training":
                if before != "stall":  # a start or a restart, at what was restored: one node makes an hour an hour
                    last_save = span.progress_hours - (span.end_hours - span.start_hours)
                    losses += before != "startup" or last_save > 0.0
                assert not is_due(span.progress_hours - 1.0 / SECONDS, last_save)
                if after is not None and after.phase == "stall":
                    assert is_due(span.progress_hours, last_save)
                    last_save = span.progress_hours
                    stalls += 1
            before = span.phase
    assert stalls > 20 * 30
    assert losses > 20
