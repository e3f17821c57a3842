"""Results without sampling, where they exist: what the engines are held against.

Loading is lazy: the closed forms need only the standard library, the solvers numpy and scipy.
"""

from __future__ import annotations

from simulator.exact.notice import NoticeExpectation, expected_totals_without_rollback
from simulator.exact.segments import (
    SegmentExpectation,
    daly_wall_hours,
    expected_makespan_hours,
    expected_totals,
    segment_lengths,
)

__all__ = [
    "NoticeExpectation",
    "SegmentExpectation",
    "daly_wall_hours",
    "expected_makespan_hours",
    "expected_totals",
    "expected_totals_without_rollback",
    "segment_lengths",
]
