"""Jobs that cannot finish are refused, with what would have to change, by the spec or by the run."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import InvalidInputError
from simulator import horizon
from simulator.horizon import require_finishable
from simulator.lifetimes import Bathtub, Exponential, Weibull
from simulator.simulate import simulate
from simulator.spec import Spec

CAPPED = Bathtub(a=0.45, tau1_hours=1.0, b_hours=24.0, tau2_hours=0.8, cap_hours=24.0)

HOPELESS: list[tuple[str, str, dict[str, Any]]] = [
    ("no checkpoint, 100 h at 0.2/h", "interval_hours", {"lifetime": Exponential(0.2)}),
    ("startup of 2 h at 20/h", "startup_hours",
     {"lifetime": Exponential(20.0), "startup_hours": 2.0, "interval_hours": 0.1}),
    ("nobody lives 24 h", "interval_hours", {"lifetime": CAPPED, "interval_hours": 30.0}),
    ("64 nodes need 1 h together", "interval_hours",
     {"lifetime": Exponential(0.5), "nodes": 64, "interval_hours": 1.0}),
    ("an upload that takes a day", "persist_hours",
     {"lifetime": Weibull(2.0, 3.0), "persist_hours": 24.0, "interval_hours": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize(("why", "field", "values"), HOPELESS, ids=[case[0] for case in HOPELESS])
def test_a_hopeless_spec_is_refused_before_anything_runs(why: str, field: str, values: dict[str, Any]) -> None:
    """The error names the largest obstacle and says what would have to change."""
    with pytest.raises(InvalidInputError) as caught:
        simulate(Spec(work_hours=100.0, **values), runs=1, seed=1)
    assert caught.value.field == field
    assert "can finish within 100000 h" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"lifetime": Exponential(0.2), "interval_hours": 1.0},
        {"lifetime": Exponential(0.0)},
        {"lifetime": Exponential(0.2), "notice_success": 0.9, "notice_hours": 0.03},
        {"lifetime": CAPPED, "interval_hours": 23.0},
        {"lifetime": CAPPED, "notice_success": 0.9, "notice_hours": 0.03},
        {"lifetime": Exponential(0.2), "policy": "on-demand"},
        {"lifetime": Exponential(0.2), "rate_events": 2.0, "rate_exposure_hours": 10.0, "interval_hours": 1.0},
        {"lifetime": Exponential(0.5), "nodes": 64, "min_nodes": 1, "interval_hours": 1.0},
    ],
)
def test_a_job_that_can_finish_is_let_through(values: dict[str, Any]) -> None:
    """Checkpoints, notices, on-demand capacity or elasticity make it possible."""
    require_finishable(Spec(work_hours=100.0, **values))


def test_the_hint_is_an_interval_that_works() -> None:
    """Following the hint makes the job finishable."""
    with pytest.raises(InvalidInputError, match=r"an interval of 3\.47 h"):
        require_finishable(Spec(work_hours=100.0, lifetime=Exponential(0.2)))
    require_finishable(Spec(work_hours=100.0, lifetime=Exponential(0.2), interval_hours=3.47))


def test_a_run_beyond_the_horizon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the spec does not show is found by the run: here with a horizon that the work alone fills."""
    spec = Spec(work_hours=10.0, lifetime=Exponential(1.0), interval_hours=0.5, startup_hours=0.2)
    assert simulate(spec, runs=1, seed=1, engine="reference").complete
    monkeypatch.setattr(horizon, "SHORTEST_HORIZON_HOURS", 1.0)
    monkeypatch.setattr(horizon, "HORIZON_WORK_FACTOR", 1.0)
    with pytest.raises(InvalidInputError, match="a run had not after 10") as caught:
        simulate(spec, runs=1, seed=1, engine="reference")
    assert caught.value.field == "work_hours"


def test_a_run_with_too_many_interruptions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other limit."""
    spec = Spec(work_hours=10.0, lifetime=Exponential(1.0), interval_hours=0.5)
    monkeypatch.setattr(horizon, "MAX_INTERRUPTIONS", 3)
    with pytest.raises(InvalidInputError, match="and 4 interruptions"):
        simulate(spec, runs=1, seed=1, engine="reference")
