"""Generations and retention: racing attempts, who may publish and delete, and what is never deleted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoint import Target, check_fence, claim_generation, open_target
from harness.checkpoint.faults import installed
from harness.checkpoint.generation import Lineage, newest_generation, read_lineage, record_restore
from harness.checkpoint.names import parse_checkpoint_name
from harness.checkpoint.retention import plan_retention, retain_remote
from harness.errors import CorruptCheckpointError, FencedError


@pytest.fixture(params=["directory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param == "s3":
        return open_target(request.getfixturevalue("s3_uri"), endpoint_url=request.getfixturevalue("s3_endpoint"))
    return open_target(tmp_path / "bucket")


def test_attempts_that_race_each_get_their_own_generation(target: Target) -> None:
    """Eight attempts at once: numbers 1 to 8, and only the holder of 8 passes the fence."""
    start, claimed = threading.Barrier(8), []

    def race(number: int) -> None:
        start.wait()
        claimed.append(claim_generation(target, "demo", f"attempt-{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 9))
    assert newest_generation(target, "demo") == 8
    check_fence(target, "demo", 8)
    for generation in range(1, 8):
        with pytest.raises(FencedError, match="but generation 8 was claimed by attempt attempt-"):
            check_fence(target, "demo", generation)
    assert claim_generation(target, "other", "attempt") == 1
    assert claim_generation(target, "other", "attempt", above=6) == 7


def test_lineage_voids_what_a_successor_did_not_go_on_from(target: Target) -> None:
    for _ in range(4):
        claim_generation(target, "demo", "attempt")
    record_restore(target, "demo", 1, None)
    record_restore(target, "demo", 3, "step-000000020-g0001")
    lineage = read_lineage(target, "demo")
    assert lineage.disowned_by("step-000000020-g0001") is None
    assert lineage.disowned_by("step-000000030-g0001") == 3
    assert lineage.disowned_by("step-000000030-g0002") == 3
    assert lineage.disowned_by("step-000000015-g0002") is None
    assert lineage.disowned_by("step-000000030-g0003") is None
    reads: list[str] = []
    get = target.get_bytes
    target.get_bytes = lambda key: (reads.append(key), get(key))[1]  # type: ignore[method-assign, func-returns-value]
    known: dict[int, str | None] = {1: None}
    assert [read_lineage(target, "demo", known) for _ in range(2)] == [lineage, lineage]
    assert reads == ["demo/generations/g0003-restored.json"]
    assert known == {1: None, 3: "step-000000020-g0001"}
    record_restore(target, "demo", 4, None)
    assert read_lineage(target, "demo").disowned_by("step-000000020-g0001") == 4
    key = "demo/generations/g0003-restored.json"
    target.put_bytes(key, target.get_bytes(key).replace(b"20", b"21"))
    with pytest.raises(CorruptCheckpointError, match=r"g0003-restored\.json is damaged"):
        read_lineage(target, "demo")


checkpoints = st.builds(
    lambda step, generation: f"step-{step:09d}-g{generation:04d}", st.integers(0, 9), st.integers(1, 4)
)
lineages = st.lists(st.tuples(st.integers(1, 5), st.none() | checkpoints), max_size=3).map(
    lambda records: Lineage(tuple(sorted(records, key=lambda record: record[0])))
)


@settings(deadline=None, derandomize=True)
@given(st.sets(checkpoints), st.sets(checkpoints), lineages, st.integers(1, 4), st.sets(checkpoints, max_size=1))
def test_retention_never_deletes_what_could_be_needed(complete, incomplete, lineage, keep_last, protected) -> None:
    """The newest complete one of the living history stays whatever happens; so do the N newest and the protected."""
    incomplete -= complete
    plan = plan_retention(complete, incomplete, lineage, keep_last, protected)
    alive = sorted((name for name in complete if lineage.disowned_by(name) is None), key=parse_checkpoint_name)
    deleted = set(plan.delete)
    assert not deleted & set(alive[-keep_last:])
    assert not deleted & protected
    assert deleted <= complete | incomplete
    if not alive:
        assert not deleted
    else:
        newest = parse_checkpoint_name(alive[-1])
        in_flight = {n for n in incomplete if parse_checkpoint_name(n) > newest and lineage.disowned_by(n) is None}
        assert not deleted & in_flight
        # and nothing else is kept for ever
        assert complete - deleted <= set(alive[-keep_last:]) | protected
    assert list(plan.delete) == sorted(plan.delete, key=parse_checkpoint_name)


def test_remote_retention_deletes_manifests_first_and_asks_the_fence(target: Target) -> None:
    generation = claim_generation(target, "demo", "attempt")
    for step in (1, 2, 3):
        for path in ("manifest.json", "model/shard", "a-first-in-order"):
            target.put_bytes(f"demo/step-{step:09d}-g0001/{path}", b"1")
    target.put_bytes("demo/step-000000000-g0001/left-over", b"1")
    target.put_bytes("demo/unrelated", b"1")
    deleted: list[str] = []
    original = target.delete
    target.delete = lambda keys: (deleted.extend(keys := list(keys)), original(keys))[1]  # type: ignore[method-assign, assignment]
    assert retain_remote(target, "demo", generation, 2) == ("step-000000000-g0001", "step-000000001-g0001")
    assert deleted[1] == "demo/step-000000001-g0001/manifest.json"
    assert target.children("demo/") == ("generations", "step-000000002-g0001", "step-000000003-g0001", "unrelated")
    target.put_bytes("demo/step-000000004-g0001/manifest.json", b"1")
    target.put_bytes("demo/step-000000005-g0001/manifest.json", b"1")
    overtaken: list[str] = []

    def overtake(point: str) -> None:
        if point == "retention:between_remote_deletes" and not overtaken:
            overtaken.append(point)
            claim_generation(target, "demo", "newer")

    with installed(overtake), pytest.raises(FencedError):
        retain_remote(target, "demo", generation, 1)
    assert overtaken
    assert [target.exists(f"demo/step-{step:09d}-g0001/manifest.json") for step in (2, 3, 4)] == [False, True, True]


def test_retention_leaves_arriving_telemetry_and_claims_alone(tmp_path: Path) -> None:
    """A half-written older checkpoint goes; what is arriving beside the checkpoints is not retention's to remove."""
    target = open_target(tmp_path)
    generation = claim_generation(target, "demo", "attempt")
    target.put_bytes("demo/step-000000002-g0001/manifest.json", b"1")
    stale = tmp_path / "demo/step-000000001-g0001/model/.tmp-1"
    arriving = [tmp_path / "demo/telemetry/.tmp-2", tmp_path / "demo/generations/.tmp-3", tmp_path / "demo/.tmp-4"]
    for path in (stale, *arriving):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    retain_remote(target, "demo", generation, 2)
    assert not stale.exists()
    assert all(path.exists() for path in arriving)
