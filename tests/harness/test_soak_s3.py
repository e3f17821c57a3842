"""Counted faults between a run and its bucket: nothing torn is ever restored, and what was durable is not lost.

A proxy in front of moto breaks a seeded share of all requests.  Attempts save and restore through it; after each, a
node that has nothing restores without it, and its state is compared with the uninterrupted run's, byte for byte.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import harness.checkpoint.targets.s3
from harness.checkpoint import Progress, open_target
from harness.errors import ExternalServiceError, SpotPlannerError
from tests.harness.checkpoint_support import Job, make_config, single
from tests.harness.fault_proxy import Fault, FaultProxy
from tests.harness.soak_support import progress_printer
from tests.harness.test_checkpoint_targets import without_waiting

SEED = 20261124
STEPS_PER_ATTEMPT = 4
WEIGHTS: dict[Fault, int] = {
    "500": 6, "503": 6, "reset": 6, "lost-answer": 6, "truncate": 4, "corrupt": 4, "timeout": 1, "stall": 1,
    "expired": 1, "corrupt-upload": 1, "stale-list": 6,
}  # fmt: skip
LIES: frozenset[Fault] = frozenset({"corrupt-upload", "stale-list"})
"""What no real S3 does: it refuses a body that differs from its checksum, and its lists are current.  After one of
these an older checkpoint may be all that is left of the truth; what is restored must be true all the same."""


class Script:
    """Breaks one request in `one_in`, by a seeded draw, with faults out of `weights`."""

    def __init__(self, one_in: int, weights: dict[Fault, int]) -> None:
        self._draw, self._one_in, self._lock = random.Random(SEED), one_in, threading.Lock()
        self._kinds, self._weights = list(weights), list(weights.values())

    def __call__(self, method: str, path: str) -> Fault | None:
        with self._lock:
            if self._draw.randrange(self._one_in):
                return None
            fault = self._draw.choices(self._kinds, self._weights)[0]
        fits = {
            "truncate": method == "GET",
            "stall": method == "GET",
            "corrupt": method == "GET" and "list-type" not in path,
            "corrupt-upload": method == "PUT",
            "stale-list": method == "GET" and "list-type=2" in path,
        }
        return fault if fits.get(fault, True) else "503"


def uninterrupted(steps: int) -> dict[int, str]:
    job = Job()
    prints = {0: job.fingerprint()}
    for step in range(1, steps + 1):
        job.train(1)
        prints[step] = job.fingerprint()
    return prints


def soak(
    root: Path,
    uri: str,
    endpoint: str,
    faults: int,
    one_in: int,
    weights: dict[Fault, int] = WEIGHTS,
    tell: Callable[[int, Counter[str]], None] = lambda *_: None,
) -> tuple[Counter[str], Counter[str]]:
    """(faults that fired, outcomes) until `faults` have; `tell` gets their number and the outcomes after each run."""
    torch.set_num_threads(1)
    prints = uninterrupted(40)
    outcomes: Counter[str] = Counter()
    with FaultProxy(endpoint, Script(one_in, weights)).running() as proxy:
        run = 0
        while len(proxy.fired) < faults:
            run += 1
            durable, lied, step, attempt = 0, False, 0, 0
            while step < 30 and attempt < 12 and len(proxy.fired) < faults:
                attempt += 1
                before = len(proxy.fired)
                reached = train_through(root / f"run-{run}", uri, proxy.url, f"run-{run}", prints, outcomes)
                lied = lied or any(fault in LIES for fault, _, _ in proxy.fired[before:])
                durable = max(durable, reached)
                shutil.rmtree(root / f"run-{run}", ignore_errors=True)
                step = check(root / "check", uri, endpoint, f"run-{run}", prints)
                assert step >= durable or lied, f"step {durable} was durable, and {step} is all that can be restored"
                outcomes["checked by a restore without the proxy"] += 1
            tell(len(proxy.fired), outcomes)
    return Counter(fault for fault, _, _ in proxy.fired), outcomes


def train_through(
    place: Path, uri: str, proxy_url: str, run_id: str, prints: dict[int, str], outcomes: Counter[str]
) -> int:
    """One attempt through the proxy; the newest step that it was told is durable."""
    durable = 0
    try:
        config = make_config(place, uri, run_id, s3_endpoint_url=proxy_url, keep_last=2)
        job, checkpointer = Job(), single(config)
        restored = checkpointer.restore(job.components)
        step = restored.step if restored else 0
        assert job.fingerprint() == prints[step], "a torn or a wrong state was restored"
        outcomes["restored through the proxy" if restored else "started through the proxy"] += 1
        for _ in range(STEPS_PER_ATTEMPT):
            job.train(1)
            step += 1
            result = checkpointer.save(job.components, Progress(step=step)).result(120)
            outcomes[f"save {result.status}"] += 1
            if result.durable:
                durable = step
        checkpointer.close()
    except SpotPlannerError:
        outcomes["attempt ended with an error of one line"] += 1
    return durable


def check(place: Path, uri: str, endpoint: str, run_id: str, prints: dict[int, str]) -> int:
    """The step that an empty node restores, without faults; its state is right."""
    config = make_config(place, uri, run_id, s3_endpoint_url=endpoint)
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(harness.checkpoint.targets.s3, "READ_TIMEOUT_SECONDS", 120)  # slow is no fault here
        target = open_target(uri, endpoint_url=endpoint)
    shutil.rmtree(place, ignore_errors=True)
    job = Job()
    try:
        restored = single(config, target=target).restore(job.components)
    except ExternalServiceError:
        raise  # the store answers: this would be an error of ours
    except SpotPlannerError:
        return 0  # every checkpoint is damaged (corrupt uploads): refused, not restored
    step = restored.step if restored else 0
    assert job.fingerprint() == prints[step], "a torn or a wrong state was restored"
    return step


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)
    # What a request that is never answered costs; one that a busy machine answers later than this is sent again.
    monkeypatch.setattr(harness.checkpoint.targets.s3, "READ_TIMEOUT_SECONDS", 0.5)


@pytest.mark.usefixtures("_quick")
def test_a_sample_of_faults(memory_path: Path, s3_uri: str, s3_endpoint: str) -> None:
    """Three attempts or so, one request in eight broken; only such faults as a real store and its network have."""
    weights = {fault: weight for fault, weight in WEIGHTS.items() if fault not in LIES}
    fired, outcomes = soak(memory_path, s3_uri, s3_endpoint, 40, 8, weights)
    assert fired.total() >= 40
    assert outcomes["save durable"] >= 3
    assert outcomes["restored through the proxy"] >= 1


@pytest.mark.soak
@pytest.mark.timeout(0)  # every request has a time-out, and every save a limit
@pytest.mark.usefixtures("_quick")
def test_five_hundred_faults(
    memory_path: Path, s3_uri: str, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say = progress_printer(capsys)
    fired, outcomes = soak(
        memory_path,
        s3_uri,
        s3_endpoint,
        600,
        12,
        tell=lambda faults, done: say(f"{faults} faults; " + ", ".join(f"{key}: {n}" for key, n in done.items())),
    )
    lines = [f"{name:<44}{count:>6}" for name, count in sorted(fired.items())]
    lines.append(f"{'faults in all':<44}{fired.total():>6}")
    say("\n".join([*lines, *(f"{name:<44}{count:>6}" for name, count in sorted(outcomes.items()))]))
    assert fired.total() >= 500
    assert fired.keys() == set(WEIGHTS)
    assert outcomes["save durable"] > 100
