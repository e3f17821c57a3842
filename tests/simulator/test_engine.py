"""The fast engine by itself: its generator, its two single-node kernels, threads, interruption, the kernel cache.

That it equals the reference run by run is in test_engines_agree.py.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InvalidInputError
from simulator import draws
from simulator.engine import compiled, layout, parallel, philox, simulate_fast
from simulator.engine.drive import is_plain, kernel_for
from simulator.engine.flatten import Flat, FlatPrice
from simulator.engine.fleet_nodes import fill_hits, strikes, struck_below
from simulator.engine.parallel import run_in_pieces
from simulator.exact import expected_totals
from simulator.lifetimes import Exponential, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision
from simulator.runs import QUANTITIES
from simulator.spec import PriceSeries, Spec

PLAIN = Spec(
    work_hours=30.0,
    interval_hours=0.5,
    stall_hours=1 / 12,
    startup_hours=1 / 12,
    lifetime=Exponential(0.3),
    provision=ConstantProvision(0.1),
    price=PriceSeries.constant(8.0),
)

EVERYTHING = replace(
    PLAIN,
    persist_hours=0.3,
    persist_slowdown=0.2,
    notice_hours=1 / 30,
    notice_success=0.5,
    emergency_hours=1 / 60,
    corruption=0.1,
    first_hour_refund=True,
    provision=ExponentialProvision(0.2),
    price=PriceSeries((0.0, 5.0, 11.0), (8.0, 2.0, 5.0)),
    checkpoint_gib=50.0,
    storage_usd_per_gib_month=0.5,
    usd_per_1000_puts=5.0,
    usd_per_1000_gets=0.4,
)


def words(*values: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(value) for value in values)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    """The compiled generator gives Random123's own test vectors (kat_vectors, philox4x32 10)."""
    assert tuple(int(word) for word in philox.philox(*words(*counter), *words(*key))) == answer


def test_draws_equal_those_of_the_reference() -> None:
    """Every stream, ends of the ranges included: the compiled uniforms are the Python ones, bit for bit."""
    streams = (philox.ACQUISITION, philox.PROVISION, philox.BULK, philox.CORRUPTION, philox.RUN)
    rng = np.random.default_rng(5)
    for stream, word in enumerate(streams):
        for _ in range(50):
            seed, run = int(rng.integers(0, 2**64, dtype=np.uint64)), int(rng.integers(0, 2**32))
            node, acquisition, other = (int(rng.integers(0, 2**16)) for _ in range(3))
            c3 = np.uint64(int(word) | other)
            got = philox.two_units(*words(acquisition, node, run), c3, *philox.key_words(seed))
            assert got == draws.uniforms(seed, run, node, acquisition, stream, other)


@pytest.mark.parametrize("nodes", [1, 2, 5, 16, 40])
def test_who_is_taken_along_equals_the_reference(nodes: int) -> None:
    """The list that a reclaim strikes, drawn as vectors, and each single verdict are those of `draws.bulk_uniform`."""
    hits, struck = np.empty(16, np.uint64), np.empty(nodes, np.int64)
    key = philox.key_words(123456789)
    for bulk in (0.0, 2.0**-40, 0.1, 0.5, 1.0):
        below = struck_below(bulk)
        for acquisition in range(20):
            expected = [
                other for other in range(nodes)
                if other == nodes // 2 or draws.bulk_uniform(123456789, 4, nodes // 2, acquisition, other) < bulk
            ]  # fmt: skip
            word, run = np.uint64(acquisition), np.uint64(4)
            count = fill_hits(word, nodes // 2, nodes, run, below, *key, hits, struck)
            assert struck[:count].tolist() == expected
            single = [other for other in range(nodes) if strikes(word, nodes // 2, other, run, below, *key)]
            assert {*single, nodes // 2} == set(expected)


def test_largest_uniform_stays_below_one() -> None:
    """All bits set would round to 1, whose logarithm is a lifetime of 0."""
    assert philox.unit(*words(0xFFFFFFFF, 0xFFFFFFFF)) == draws.LARGEST_UNIFORM
    assert philox.unit(*words(0, 0)) == 2.0**-54


def test_vectorisable_logarithm() -> None:
    """−ln u to 2 ulp over all magnitudes that a uniform can have."""
    rng = np.random.default_rng(1)
    ends = (2.0**-54, draws.LARGEST_UNIFORM, 0.5, math.sqrt(0.5))
    for u in [*ends, *rng.random(2000), *2.0 ** -rng.uniform(0, 53, 2000)]:
        assert philox.unit_exponential(u) == pytest.approx(-math.log(u), rel=5e-16, abs=0)


def test_rows_are_the_results_quantities() -> None:
    """Kernels number the rows themselves; the names must stay those of Runs."""
    assert layout.ROWS == QUANTITIES


def rows(spec: Spec, runs: int, seed: int) -> np.ndarray:
    """All rows by the general single-node kernel, whether or not the plain one would do."""
    flat = Flat.of(spec, runs, seed, 0)
    out = np.empty((len(layout.ROWS), runs))
    general = replace(spec, first_hour_refund=True)  # never plain
    kernel_for(general, flat, seed, 0, out)(0, runs)
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"persist_hours": 0.2},
        {"persist_hours": 0.9},
        {"interval_hours": math.inf, "work_hours": 4.0},
        {"interval_hours": 0.3, "stall_hours": 0.0},
        {"lifetime": Exponential(0.0)},
        {"startup_hours": 0.0, "provision": ConstantProvision(0.0)},
    ],
)
def test_plain_kernel_equals_the_general_one(changes: dict[str, object]) -> None:
    """The plain kernel is the general one minus what does nothing: the same numbers to rounding."""
    spec = replace(PLAIN, **changes)
    assert is_plain(spec)
    plain = simulate_fast(spec, 500, 3)
    general = rows(spec, 500, 3)
    for row, name in enumerate(layout.ROWS):
        np.testing.assert_allclose(getattr(plain, name), general[row], rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("spec", [PLAIN, EVERYTHING, replace(EVERYTHING, nodes=3, bulk=0.2)])
def test_results_do_not_depend_on_threads_or_pieces(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run i of a seed is the same alone, in any piece and on any number of threads, bit for bit."""
    monkeypatch.setattr(parallel, "_ALONE_SECONDS", -1.0)  # threads, however short the work
    one = simulate_fast(spec, 700, 11, threads=1)
    three = simulate_fast(spec, 700, 11, threads=3)
    tail = simulate_fast(spec, 10, 11, 690, threads=1)
    for name in QUANTITIES:
        assert (getattr(one, name) == getattr(three, name)).all()
        assert (getattr(one, name)[690:] == getattr(tail, name)).all()


@pytest.mark.parametrize("spec", [PLAIN, EVERYTHING, replace(EVERYTHING, nodes=4, bulk=0.3)])
def test_parts_add_up(spec: Spec) -> None:
    """makespan = work + parts in every run (MODEL.md, "Parts")."""
    result = simulate_fast(spec, 2000, 5)
    np.testing.assert_allclose(result.parts_sum(), result.makespan_hours, rtol=1e-12)


def test_plain_case_has_the_exact_expectation() -> None:
    """Makespan and interruptions of the plain case against the closed form.

    False-failure rate 1e-5 per quantity (4.42 standard errors); with 100,000 runs a gap of 0.06 % would be seen in
    9 of 10 seeds, which the sample must be able to (asserted).
    """
    result = simulate_fast(PLAIN, 100_000, 20261124)
    exact = expected_totals(
        work_hours=30.0, interval_hours=0.5, stall_hours=1 / 12, startup_hours=1 / 12, rate_per_hour=0.3,
        provision_hours=0.1,
    )  # fmt: skip
    for name, expected in [("makespan_hours", exact.makespan_hours), ("interruptions", exact.interruptions)]:
        summary = result.summary(name)
        assert abs(summary.mean - expected) < 4.42 * summary.standard_error
    assert (4.42 + 1.28) * result.summary("makespan_hours").standard_error < 2e-3 * exact.makespan_hours


@pytest.mark.parametrize("bulk", [0.0, 0.1, 0.5])
def test_a_nodes_loss_rate_is_the_marginal_one(bulk: float) -> None:
    """Whatever `bulk` is, a node is lost at the rate of its lifetime (rule 8): losses / node-hours, 4.42 sigma.

    Losses and exposure of one run are a ratio estimate; its error is that of losses − rate × hours.  A bias of 4 %
    (dividing by 1 + nodes·bulk instead of 1 + (nodes − 1)·bulk is 7 % at 0.1) would be seen.
    """
    rate = 0.2
    spec = replace(PLAIN, nodes=4, bulk=bulk, lifetime=Exponential(rate), work_hours=10.0)
    result = simulate_fast(spec, 8000, 9)
    excess = result.reclaimed_nodes - rate * result.billed_hours
    error = excess.std(ddof=1) / math.sqrt(len(result))
    assert abs(excess.mean()) < 4.42 * error
    assert (4.42 + 1.28) * error < 0.04 * result.reclaimed_nodes.mean()


def test_price_integral_of_a_series() -> None:
    """The cell table finds the piece of every moment: change points, between them, beyond the last."""
    from simulator.engine.fates import price_integral

    starts = (0.0, 0.1, 0.30000001, 7.0, 7.00001, 50.0)
    usd = (1.0, 4.0, 2.0, 0.0, 9.0, 3.0)
    price = FlatPrice.of(PriceSeries(starts, usd))
    for hours in [*starts, 1e-9, 0.2, 6.9999999, 49.999, 50.001, 1e5]:
        exact = sum(
            value * max(0.0, min(end, hours) - start)
            for start, end, value in zip(starts, (*starts[1:], math.inf), usd, strict=True)
        )
        got = price_integral(hours, price.starts, price.values, price.sums, price.cells, price.cells_per_hour)
        assert got == pytest.approx(exact, rel=1e-13, abs=1e-13)


def test_a_run_beyond_the_horizon_is_an_error() -> None:
    """A job that makes no progress ends with a message, not never; so does a single hopeless run among many."""
    hopeless = replace(PLAIN, lifetime=Weibull(1.0, 0.05), interval_hours=5.0)
    for spec in (hopeless, replace(hopeless, first_hour_refund=True), replace(hopeless, nodes=2)):
        with pytest.raises(InvalidInputError, match="finishes within"):
            simulate_fast(spec, 2, 1)


def test_interrupt_keeps_what_is_done() -> None:
    """Ctrl-C in the fourth piece: the first three are kept, counted from the first run."""
    calls: list[tuple[int, int]] = []

    def piece(begin: int, end: int) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((begin, end))

    done = run_in_pieces(piece, 10_000, threads=1)
    assert len(calls) == 3
    assert done == calls[-1][1] == sum(end - begin for begin, end in calls)


def test_a_failure_in_any_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece's exception is lost, and the others stop."""
    monkeypatch.setattr(parallel, "_ALONE_SECONDS", -1.0)  # threads, however short the work

    def piece(begin: int, end: int) -> None:
        if begin <= 5000 < end:
            raise InvalidInputError("work_hours", 1, "another value")

    with pytest.raises(InvalidInputError):
        run_in_pieces(piece, 10_000, threads=3)


def test_short_work_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of hundreds of small samples would spend its time on starting threads."""
    monkeypatch.setattr(parallel, "_ALONE_SECONDS", math.inf)
    monkeypatch.setattr(parallel.threading, "Thread", None)
    done: list[tuple[int, int]] = []
    assert run_in_pieces(lambda begin, end: done.append((begin, end)), 500, threads=4) == 500
    assert [begin for begin, _ in done] == [0, *(end for _, end in done[:-1])]


def test_progress_ends_with_everything() -> None:
    """The last report says that all is done."""
    seen: list[tuple[int, int]] = []
    simulate_fast(PLAIN, 3000, 1, progress=lambda done, runs: seen.append((done, runs)))
    assert seen[-1] == (3000, 3000)
    assert seen == sorted(seen)


SCRIPT = """
from simulator.engine import simulate_fast
from simulator.lifetimes import Exponential
from simulator.spec import Spec
print(simulate_fast(Spec(work_hours=3.0, lifetime=Exponential(0.2)), 4, 1).makespan_hours.sum())
"""


def test_kernels_are_compiled_once_and_said(tmp_path: Path) -> None:
    """The first process compiles and says so on stderr; the second finds the kernel and is silent."""
    environment = os.environ | {"PLANNER_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert "compiling the plain engine" in first.stderr
    assert second.stderr == ""
    assert first.stdout == second.stdout
    assert list((tmp_path / "kernels").glob("*.nbc"))


def test_no_writable_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels cannot be kept there is no folder, rather than an error at import."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path / "file"))
    compiled.cache_folder.cache_clear()
    try:
        assert compiled.cache_folder() is None
    finally:
        compiled.cache_folder.cache_clear()
