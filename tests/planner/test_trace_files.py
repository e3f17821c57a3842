"""Trace files: every format read as documented, every fault named with its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.errors import InvalidInputError
from planner.traces.files import load_empirical_lifetime, load_empirical_provision, load_trace, load_trace_replay

COUNTS = '{"metadata": {"gap_seconds": 1800}, "data": [0, 1, 1, 0, 2, 2, 1, 1]}'
MEMBERSHIP = "0,add,node1\n0,add,node2\n3600000,remove,node1\n7200000,add,node3\n"
LIFETIMES = "vm,lifetime_s,end_event\na,3600,preempted\nb,7200,stopped_by_user\nc,5400,preempted\n"
TEXT = "2021-12-10, 13:10:00, 9\n2021-12-10, 13:10:00, 2\n2021-12-10, 13:00:00, 3\n2021-12-10, 13:20:00, 2\n"


def write(folder: Path, name: str, text: str) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_each_format_is_recognised(tmp_path: Path) -> None:
    """By content, not by name."""
    found = {
        load_trace(write(tmp_path, f"trace{i}", text)).format
        for i, text in enumerate((COUNTS, MEMBERSHIP, LIFETIMES, "wait_hours\n0.5\n"))
    }
    assert found == {"counts", "membership", "lifetimes", "waits"}
    assert load_trace(write(tmp_path, "trace.txt", TEXT)).format == "counts"


def test_counts(tmp_path: Path) -> None:
    """Lifetimes of the gang, waits, joint losses; a drop of the count is a loss."""
    trace = load_trace(write(tmp_path, "a.json", COUNTS))
    assert trace.observations is not None
    assert trace.observations.exit_hours.tolist() == [1.0, 2.0]
    assert trace.observations.observed.tolist() == [True, False]
    assert trace.waits_hours == (0.5,)
    assert trace.losses is not None
    assert trace.losses.events == 2
    pair = load_trace(tmp_path / "a.json", nodes=2)
    assert pair.observations is not None
    assert pair.observations.exit_hours.tolist() == [1.0]


def test_an_inverted_series_says_when_there_is_none(tmp_path: Path) -> None:
    """1 = no capacity; counts above 1 cannot be inverted."""
    path = write(tmp_path, "a.json", '{"metadata": {"gap_seconds": 3600}, "data": [1, 0, 0, 1]}')
    trace = load_trace(path, inverted=True)
    assert trace.observations is not None
    assert trace.observations.exit_hours.tolist() == [2.0]
    with pytest.raises(InvalidInputError, match="zeros and ones"):
        load_trace(write(tmp_path, "b.json", COUNTS), inverted=True)


def test_text_counts_are_sorted_by_their_own_time(tmp_path: Path) -> None:
    """Collectors write out of order; of two lines for one moment the one further down counts."""
    trace = load_trace(write(tmp_path, "a.txt", TEXT))
    assert trace.capacity is not None
    assert trace.capacity.counts.tolist() == [3, 2, 2]
    assert trace.losses is not None
    assert trace.losses.events == 1


def test_membership_and_lifetimes(tmp_path: Path) -> None:
    """Names paired; units converted; gzip read; extra columns ignored; a second log with entry ages."""
    log = load_trace(write(tmp_path, "a.csv", MEMBERSHIP)).observations
    assert log is not None
    assert sorted(log.exit_hours.tolist()) == [1.0, 2.0]
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(LIFETIMES.encode()))
    lives = load_trace(packed).observations
    assert lives is not None
    assert lives.exit_hours.tolist() == pytest.approx([1.0, 2.0, 1.5])
    assert lives.observed.tolist() == [True, False, True]
    entered = load_trace(write(tmp_path, "c.csv", "lifetime_hours,entry_hours,end_event\n5,2,reclaimed\n")).observations
    assert entered is not None
    assert entered.entry_hours.tolist() == [2.0]


def test_what_the_scenario_takes(tmp_path: Path) -> None:
    """The files of `empirical` and `trace` lifetimes and of `empirical` waits."""
    lifetime = load_empirical_lifetime(write(tmp_path, "a.csv", LIFETIMES))
    assert lifetime.survivals == pytest.approx((2 / 3, 1 / 3))
    assert lifetime.tail_start_hours == 2.0
    counts = write(tmp_path, "b.json", COUNTS)
    assert load_trace_replay(counts, nodes=2).lifetime_hours(2.5) == pytest.approx(0.5)
    assert load_empirical_provision(counts).hours == (0.5,)
    assert load_empirical_provision(write(tmp_path, "c.csv", "wait_seconds\n1800\n3600\n")).hours == (0.5, 1.0)
    with pytest.raises(InvalidInputError, match="holds lifetimes"):
        load_empirical_lifetime(tmp_path / "c.csv")
    with pytest.raises(InvalidInputError, match="capacity over time"):
        load_trace_replay(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("hello\n", "line 1"),
        ("{", "valid JSON"),
        ("[1, 2]", "line 1"),
        ('{"data": [1]}', "gap_seconds"),
        ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "gap_seconds"),
        ('{"metadata": {"gap_seconds": 60}, "data": []}', "data"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, -1]}', r"data\[1\]"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, 0.5]}', r"data\[1\]"),
        ("0,add,a\n1,grow,b\n", "line 2"),
        ("0,add,a\n-1,add,b\n", "line 2"),
        ("0,add,a\n10,remove,b\n", "trace event 2"),
        ("lifetime_s,end_event\n", "header without rows"),
        ("lifetime_s,end\n5,preempted\n", "end_event"),
        ("lifetime_days,end_event\n5,preempted\n", "lifetime_seconds"),
        ("lifetime_s,end_event\n-5,preempted\n", "line 2, lifetime_s"),
        ("lifetime_s,end_event\n5,preempted\nnan,preempted\n", "line 3, lifetime_s"),
        ("lifetime_s,end_event\n5,preempt\n", "preempted"),
        ("lifetime_s,end_event\n5\n", "line 2"),
        ("lifetime_s,end_event\n5,preempted,more\n", "line 2"),
        ("lifetime_s,end_event\n0,preempted\n", "line 2"),
        ("wait_hours\n-1\n", "line 2, wait_hours"),
        ("wait_hours\n", "header without rows"),
        ("2021-12-10, 13:00:00, 3\n2021-12-10, 13:61:00, 4\n", "line 2"),
        ("2021-12-10, 13:00:00, 3\n", "at least two samples"),
    ],
)
def test_faults_are_named_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    """Empty traces, wrong columns, negative times and the like: one clear line."""
    with pytest.raises(InvalidInputError, match=message):
        load_trace(write(tmp_path, "trace", text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not text, a broken gzip, an unknown format."""
    with pytest.raises(InvalidInputError, match="existing file"):
        load_trace(tmp_path / "none.csv")
    with pytest.raises(InvalidInputError, match="readable"):
        load_trace(tmp_path)
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InvalidInputError, match="readable"):
        load_trace(binary)
    broken = tmp_path / "x.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(InvalidInputError, match="readable"):
        load_trace(broken)
    with pytest.raises(InvalidInputError, match="counts"):
        load_trace(write(tmp_path, "a", COUNTS), format="count")
