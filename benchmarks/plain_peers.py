"""The plain case written by other means, for ratios: C, vectorised NumPy, SimPy.  All return makespans in hours."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.engine.layout import ROWS
from simulator.lifetimes import Exponential
from simulator.provision import ConstantProvision
from simulator.spec import PriceSeries, Spec

Floats = NDArray[np.float64]

PLAIN = Spec(
    work_hours=100.0,
    interval_hours=0.5,
    stall_hours=5 / 60,
    startup_hours=5 / 60,
    lifetime=Exponential(0.15),
    provision=ConstantProvision(0.1),
    price=PriceSeries.constant(8.0),
)
"""100 h of work, 0.15 reclaims an hour, a checkpoint of 5 minutes every half hour, 5 minutes of startup."""

RATE, PROVISION, PRICE = 0.15, 0.1, 8.0


def compiled_c() -> Callable[[int, int, int], Floats] | None:
    """benchmarks/plain.c by gcc -O3 -march=native, as (runs, seed, threads) -> makespans; None without a compiler."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="plain-c-"))
    library = folder / "plain.so"
    source = Path(__file__).with_name("plain.c")
    command = [gcc, "-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).plain_runs
    shutil.rmtree(folder)
    function.restype = None
    function.argtypes = [ctypes.c_double] * 8 + [ctypes.c_uint64] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

    def run(runs: int, seed: int, threads: int) -> Floats:
        out: Floats = np.empty((len(ROWS), runs))
        edges = np.linspace(0, runs, threads + 1).astype(int)

        def part(index: int) -> None:
            begin, end = int(edges[index]), int(edges[index + 1])
            function(
                PLAIN.work_hours, PLAIN.interval_hours, PLAIN.stall_hours, PLAIN.persist_hours, PLAIN.startup_hours,
                RATE, PROVISION, PRICE, seed, begin, end - begin, runs, out[:, begin:].ctypes.data,
            )  # fmt: skip

        if threads == 1:
            part(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(part, range(threads)))
        makespans: Floats = out[0]
        return makespans

    return run


def vectorised_numpy(runs: int, seed: int) -> Floats:
    """All runs at once, one loop turn per interruption, the runs that are done taken out; NumPy's own generator."""
    rng = np.random.default_rng(seed)
    work, interval, stall, startup = PLAIN.work_hours, PLAIN.interval_hours, PLAIN.stall_hours, PLAIN.startup_hours
    cycle = interval + stall
    progress, clock = np.zeros(runs), np.zeros(runs)
    lost, saving, billed, interruptions = np.zeros(runs), np.zeros(runs), np.zeros(runs), np.zeros(runs)
    active = np.arange(runs)
    while active.size:
        life = rng.exponential(1.0 / RATE, active.size)
        trained = np.maximum(life - startup, 0.0)
        remaining = work - progress[active]
        count = np.ceil((remaining - 1e-9) / interval) - 1.0
        finish = remaining + (count + 1.0) * stall
        done = trained >= finish
        ended = active[done]
        clock[ended] += PROVISION + startup + finish[done]
        billed[ended] += startup + finish[done]
        saving[ended] += (count[done] + 1.0) * stall
        going, life, trained, limit = active[~done], life[~done], trained[~done], count[~done] + 1.0
        segments = np.minimum(np.floor(trained / cycle), limit)
        within = trained - segments * cycle
        lost[going] += np.minimum(within, interval)
        saving[going] += segments * stall + np.maximum(within - interval, 0.0)
        progress[going] += segments * interval
        interruptions[going] += 1.0
        billed[going] += life
        clock[going] += PROVISION + life
        active = going
    return clock


def simulated_by_simpy(runs: int, seed: int) -> Floats:
    """A process per job, interrupted by a process per node: what one writes with SimPy."""
    rng = np.random.default_rng(seed)
    makespans = np.empty(runs)

    def job(environment: Any) -> Generator[Any, Any, None]:
        durable = 0.0
        while True:
            yield environment.timeout(PROVISION)
            node = environment.process(reclaim(environment, environment.active_process, rng.exponential(1.0 / RATE)))
            try:
                yield environment.timeout(PLAIN.startup_hours)
                while durable < PLAIN.work_hours - 1e-9:
                    segment = min(PLAIN.interval_hours, PLAIN.work_hours - durable)
                    yield environment.timeout(segment)
                    yield environment.timeout(PLAIN.stall_hours)
                    durable += segment
            except simpy.Interrupt:
                continue
            node.interrupt()
            return

    def reclaim(environment: Any, victim: Any, life: float) -> Generator[Any, Any, None]:
        try:
            yield environment.timeout(life)
        except simpy.Interrupt:
            return
        victim.interrupt()

    for run in range(runs):
        environment = simpy.Environment()
        process = environment.process(job(environment))
        environment.run(process)
        makespans[run] = environment.now
    return makespans
