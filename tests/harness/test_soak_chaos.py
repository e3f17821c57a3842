"""Counted chaos: real jobs under schedules of interruptions, at least 200 changes of membership and 50 schedules.

What was done before, in ``build/chaos-soak``, is not done again: it can be stopped, and goes on where it was.
"""

from __future__ import annotations

import pytest

from benchmarks.chaos_soak import counts, soak
from tests.harness.run_support import ROOT

PIECES = 60
"""A few of them have no interruption within their horizon."""


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_schedules_of_interruptions_change_nothing() -> None:
    """Every piece proves its samples, weights, lost steps and leftovers; see benchmarks/chaos_soak.py."""
    records = soak(ROOT / "build" / "chaos-soak", PIECES)
    assert [(record["piece"], record["problems"]) for record in records if not record["passed"]] == []
    total = counts(records)
    assert total["schedules_with_interruptions"] >= 50
    assert total["membership_changes"] >= 200
    assert total["orphans"] == 0
    assert total["samples_proven"] == len(records)
