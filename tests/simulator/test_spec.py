"""What a spec accepts, and how it says no."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator.lifetimes import Exponential, Weibull
from simulator.spec import PriceSeries, Spec

WRONG: list[tuple[str, Any]] = [
    ("work_hours", 0.0),
    ("work_hours", math.inf),
    ("work_hours", math.nan),
    ("work_hours", True),
    ("deadline_hours", 0.0),
    ("checkpoint_gib", -1.0),
    ("nodes", 0),
    ("nodes", 1.5),
    ("nodes", True),
    ("nodes", 100_000),
    ("min_nodes", 0),
    ("min_nodes", 2),
    ("scaling", -0.1),
    ("detect_hours", math.inf),
    ("rendezvous_hours", -1.0),
    ("bulk", 1.1),
    ("bulk", math.nan),
    ("notice_hours", math.nan),
    ("notice_success", -0.1),
    ("interval_hours", 0.0),
    ("interval_hours", -1.0),
    ("interval_hours", math.nan),
    ("interval_hours", 1e-12),
    ("stall_hours", -1e-9),
    ("persist_slowdown", 1.0),
    ("corruption", 2.0),
    ("keep_last", 0),
    ("keep_last", 2.0),
    ("startup_hours", math.inf),
    ("shards", 0),
    ("decision_hours", 0.0),
    ("policy", "spotonly"),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_value_is_named(field: str, value: Any) -> None:
    """InvalidInputError with the field and the value, whatever the field."""
    with pytest.raises(InvalidInputError) as caught:
        Spec(**{"work_hours": 10.0, field: value})
    assert caught.value.field == field
    shown = (
        f"{value:g}"
        if isinstance(value, float) and field not in {"nodes", "min_nodes", "keep_last", "shards"}
        else value
    )
    assert f"got {shown}," in str(caught.value).replace("'", "")


def test_a_misspelt_policy_gets_the_nearest_one() -> None:
    """The hint names what was probably meant."""
    with pytest.raises(InvalidInputError, match="did you mean 'uniform-progress'"):
        Spec(work_hours=10.0, policy="uniform_progress", deadline_hours=20.0)


def test_deadline_policies_need_a_deadline() -> None:
    """Greedy and uniform progress compare progress with a line to the deadline."""
    for policy in ("greedy", "uniform-progress"):
        with pytest.raises(InvalidInputError, match="deadline_hours"):
            Spec(work_hours=10.0, policy=policy)


@pytest.mark.parametrize(
    ("starts", "prices"),
    [((), ()), ((0.0,), (1.0, 2.0)), ((1.0,), (1.0,)), ((0.0, 2.0, 2.0), (1.0, 1.0, 1.0)), ((0.0,), (-1.0,)),
     ((0.0,), (math.nan,)), ((0.0, math.inf), (1.0, 1.0)), ((0.0, math.nan), (1.0, 1.0))],
)  # fmt: skip
def test_a_wrong_price_series_is_refused(starts: tuple[float, ...], prices: tuple[float, ...]) -> None:
    """Change points start at 0 and increase; prices are finite and not negative."""
    with pytest.raises(InvalidInputError, match="spot_usd_per_hour"):
        PriceSeries(starts, prices)


def test_price_integral_over_change_points() -> None:
    """∫ price dt by hand: before, across and beyond the last change point."""
    series = PriceSeries((0.0, 2.0, 5.0), (1.0, 3.0, 10.0))
    assert series.integral_usd(0.5, 1.5) == pytest.approx(1.0)
    assert series.integral_usd(1.0, 6.0) == pytest.approx(1.0 + 9.0 + 10.0)
    assert series.integral_usd(100.0, 101.0) == pytest.approx(10.0)
    assert series.integral_usd(3.0, 3.0) == 0.0


def test_uncertainty_needs_both_numbers_and_a_rate() -> None:
    """events and exposure come together, and there must be something that they are relative to."""
    with pytest.raises(InvalidInputError, match="rate_exposure_hours"):
        Spec(work_hours=1.0, lifetime=Exponential(0.1), rate_events=3)
    with pytest.raises(InvalidInputError, match=r"lifetime\.rate_per_hour"):
        Spec(work_hours=1.0, rate_events=3, rate_exposure_hours=10.0)
    with pytest.raises(InvalidInputError, match="rate_events"):
        Spec(work_hours=1.0, lifetime=Weibull(0.7, 3.0), rate_events=0, rate_exposure_hours=10.0)
    assert Spec(work_hours=1.0, lifetime=Exponential(0.1), rate_events=0, rate_exposure_hours=10.0)


def test_numpy_scalars_are_numbers() -> None:
    """Values that come out of an array are as good as plain ones."""
    spec = Spec(work_hours=np.float64(10.0), nodes=np.int64(4), min_nodes=np.int64(2), bulk=np.float64(0.1))  # type: ignore[arg-type]
    assert spec.is_elastic
    assert spec.marginal_hazard_divisor == pytest.approx(1.3)
    assert not Spec(work_hours=1.0, nodes=4).is_elastic


def test_another_interval_is_the_same_spec_otherwise() -> None:
    """`with_interval` is `dataclasses.replace` for the interval, and refuses what the constructor refuses."""
    spec = Spec(work_hours=10.0, nodes=4, min_nodes=2, lifetime=Weibull(0.7, 3.0), interval_hours=0.5, stall_hours=0.1)
    assert spec.with_interval(0.25) == dataclasses.replace(spec, interval_hours=0.25)
    assert spec.interval_hours == 0.5
    for wrong in (0.0, -1.0, math.nan, 1e-12, True):
        with pytest.raises(InvalidInputError, match="interval_hours"):
            spec.with_interval(wrong)
