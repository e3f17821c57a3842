"""The front door: what it accepts, how it stops, that runs do not depend on how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator.lifetimes import Exponential
from simulator.runs import QUANTITIES
from simulator.simulate import simulate
from simulator.spec import Spec

SPEC = Spec(work_hours=5.0, interval_hours=0.5, stall_hours=0.01, lifetime=Exponential(0.5), deadline_hours=6.0)


def test_runs_are_numbered_not_streamed() -> None:
    """Runs 3 … 7 asked for alone are runs 3 … 7 of a longer simulation, bit for bit."""
    whole = simulate(SPEC, runs=10, seed=9, engine="reference")
    part = simulate(SPEC, runs=5, seed=9, engine="reference", first_run=3)
    assert part.first_run == 3
    for name in QUANTITIES:
        assert np.array_equal(getattr(whole, name)[3:8], getattr(part, name)), name
    other = simulate(SPEC, runs=10, seed=10, engine="reference")
    assert not np.array_equal(whole.makespan_hours, other.makespan_hours)


def test_ctrl_c_returns_what_is_done() -> None:
    """An interrupt after some runs gives these runs, said to be incomplete; before the first one it passes through."""

    def stop(done: int, runs: int) -> None:
        assert runs == 300
        if done >= 30:
            raise KeyboardInterrupt

    partial = simulate(SPEC, runs=300, seed=9, engine="reference", progress=stop)
    assert not partial.complete
    assert 30 <= len(partial) < 300
    complete = simulate(SPEC, runs=len(partial), seed=9, engine="reference")
    assert complete.complete
    assert np.array_equal(partial.cost_usd, complete.cost_usd)


def test_ctrl_c_before_the_first_run_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to return then."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.simulate.simulate_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(SPEC, runs=3, seed=1, engine="reference")


def test_progress_is_reported_to_the_end() -> None:
    """The callback sees rising counts and the last one is all runs."""
    seen: list[int] = []
    simulate(SPEC, runs=250, seed=1, engine="reference", progress=lambda done, _: seen.append(done))
    assert seen == sorted(set(seen))
    assert seen[-1] == 250


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("runs", {"runs": 0}),
        ("runs", {"runs": 1.5}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**64}),
        ("first_run", {"first_run": 2**32}),
        ("engine", {"engine": "reference-engine"}),
    ],
)
def test_wrong_arguments_are_named(field: str, values: dict[str, object]) -> None:
    """InvalidInputError for each."""
    with pytest.raises(InvalidInputError) as caught:
        simulate(SPEC, **({"runs": 1, "seed": 1} | values))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_deadline_probability_and_goodput() -> None:
    """Share of runs within the deadline with its interval; goodput run by run."""
    runs = simulate(SPEC, runs=200, seed=2, engine="reference")
    probability = runs.deadline_probability
    assert probability is not None
    assert probability.mean == np.mean(runs.makespan_hours <= 6.0)
    assert 0.0 < probability.low < probability.mean < probability.high < 1.0
    assert np.array_equal(runs.goodput, 5.0 / runs.makespan_hours)
    assert runs.summary("goodput").mean == pytest.approx(runs.goodput.mean())
    assert simulate(Spec(work_hours=1.0), runs=1, seed=1).deadline_probability is None
