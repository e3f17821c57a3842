"""Durable targets: one behaviour for a directory and for the S3 protocol; faults on the way are ridden out or told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checkpoint import Target, open_target
from harness.checkpoint.targets import MissingObjectError, ObjectInfo
from harness.errors import CorruptCheckpointError, ExternalServiceError, InvalidInputError
from tests.harness.fault_proxy import Fault, FaultProxy


@pytest.fixture(params=["directory", "file-uri", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param == "s3":
        uri = request.getfixturevalue("s3_uri")
        return open_target(uri, endpoint_url=request.getfixturevalue("s3_endpoint"))
    path = tmp_path / "bucket with space"
    return open_target(path if request.param == "directory" else path.as_uri())


def test_what_was_put_comes_back(target: Target, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    target.put_file("run/a/file.bin", source)
    target.put_bytes("run/a.json", b"{}")
    target.put_bytes("run/a.json", b"[]")
    target.get_file("run/a/file.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert target.get_bytes("run/a.json") == b"[]"
    assert target.list("run/") == (ObjectInfo("run/a.json", 2), ObjectInfo("run/a/file.bin", 100_000))
    assert target.list("run/a/") == (ObjectInfo("run/a/file.bin", 100_000),)
    assert target.children("run/") == ("a", "a.json")
    assert target.children("") == ("run",)
    assert target.exists("run/a.json")


def test_what_is_not_there_is_said(target: Target, tmp_path: Path) -> None:
    assert target.list("none/") == ()
    assert target.children("none/") == ()
    assert not target.exists("none")
    with pytest.raises(MissingObjectError, match="has no none"):
        target.get_bytes("none")
    with pytest.raises(MissingObjectError):
        target.get_file("none", tmp_path / "copy")
    target.delete(["none"])


def test_deleting_leaves_no_trace(target: Target) -> None:
    for key in ("run/x/1", "run/x/2", "run/y/1"):
        target.put_bytes(key, b"1")
    target.delete(["run/x/2", "run/x/1"])
    assert target.children("run/") == ("y",)


def test_keys_stay_inside(target: Target) -> None:
    for key in ("../outside", "/etc/passwd", "run/../../outside", "run//x", "", "run/.", "a\0b"):
        with pytest.raises(CorruptCheckpointError, match="does not stay inside"):
            target.put_bytes(key, b"")


def test_exactly_one_of_many_conditional_puts_wins(target: Target) -> None:
    """Eight threads at one key, ten keys: one winner each, and its content is what stays."""
    for round_number in range(10):
        key, start = f"claims/{round_number}", threading.Barrier(8)
        won: list[int] = []

        def race(number: int, key: str = key, start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if target.put_bytes_if_absent(key, b"%d" % number):
                won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert target.get_bytes(key) == b"%d" % won[0]
    assert len(target.children("claims/")) == 10


def test_large_files_go_in_parts(s3_uri: str, s3_endpoint: str, tmp_path: Path) -> None:
    """Above 16 MiB both ways are multipart; the content is the same."""
    seen: list[str] = []

    def watch(method: str, path: str) -> None:
        seen.append(f"{method} {path.partition('?')[2][:11]}")

    source = tmp_path / "source"
    source.write_bytes(os.urandom(1024) * (33 * 1024))
    with FaultProxy(s3_endpoint, watch).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        target.put_file("big", source)
        target.get_file("big", tmp_path / "copy")
    assert sum(request.startswith("PUT") for request in seen) == 3, seen
    assert sum(request.startswith("GET") for request in seen) == 3, seen
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def break_first(count: int, fault: Fault, method: str) -> Callable[[str, str], Fault | None]:
    left = count

    def script(asked: str, _: str) -> Fault | None:
        nonlocal left
        if asked == method and left:
            left -= 1
            return fault
        return None

    return script


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost-answer"])
def test_faults_on_the_way_up_are_ridden_out(s3_uri: str, s3_endpoint: str, fault: Fault, monkeypatch) -> None:
    """The first two puts go wrong; botocore's standard retries send them again."""
    without_waiting(monkeypatch)
    with FaultProxy(s3_endpoint, break_first(2, fault, "PUT")).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        target.put_bytes("run/object", b"content")
        assert target.get_bytes("run/object") == b"content"
        assert [name for name, _, _ in proxy.fired] == [fault] * 2


def test_a_conditional_put_whose_answer_was_lost_is_still_ours(s3_uri: str, s3_endpoint: str, monkeypatch) -> None:
    """The store wrote it, the answer broke, the retry is refused as taken: it was taken by us."""
    without_waiting(monkeypatch)
    with FaultProxy(s3_endpoint, break_first(1, "lost-answer", "PUT")).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        assert target.put_bytes_if_absent("run/claim", b"mine")
        assert len(proxy.fired) == 1
        assert not target.put_bytes_if_absent("run/claim", b"another's")


@pytest.mark.parametrize("fault", ["500", "reset", "truncate"])
def test_faults_on_the_way_down_are_ridden_out(
    s3_uri: str, s3_endpoint: str, fault: Fault, tmp_path: Path, monkeypatch
) -> None:
    without_waiting(monkeypatch)
    open_target(s3_uri, endpoint_url=s3_endpoint).put_bytes("run/object", b"content" * 1000)
    with FaultProxy(s3_endpoint, break_first(2, fault, "GET")).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        target.get_file("run/object", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"content" * 1000
        assert len(proxy.fired) == 2
    with FaultProxy(s3_endpoint, break_first(2, fault, "GET")).running() as proxy:
        assert open_target(s3_uri, endpoint_url=proxy.url).get_bytes("run/object") == b"content" * 1000
        assert len(proxy.fired) == 2


def test_a_body_that_the_stores_own_checksum_refutes_is_fetched_again(
    s3_uri: str, s3_endpoint: str, tmp_path: Path, monkeypatch
) -> None:
    """Damaged on the way: fetched again.  Damaged every time: it is the object that is damaged."""
    without_waiting(monkeypatch)
    open_target(s3_uri, endpoint_url=s3_endpoint).put_bytes("run/object", b"content")
    with FaultProxy(s3_endpoint, break_first(2, "corrupt", "GET")).running() as proxy:
        assert open_target(s3_uri, endpoint_url=proxy.url).get_bytes("run/object") == b"content"
        assert len(proxy.fired) == 2
    with FaultProxy(s3_endpoint, lambda method, _: "corrupt" if method == "GET" else None).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        with pytest.raises(CorruptCheckpointError, match="differs from the checksum"):
            target.get_bytes("run/object")
        with pytest.raises(CorruptCheckpointError, match="differs from the checksum"):
            target.get_file("run/object", tmp_path / "copy")
        assert proxy.fired


def test_a_store_that_never_answers_is_an_error_of_one_line(s3_uri: str, s3_endpoint: str, monkeypatch) -> None:
    without_waiting(monkeypatch)
    with FaultProxy(s3_endpoint, lambda *_: "503").running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        with pytest.raises(ExternalServiceError, match="cannot write s3://bucket") as told:
            target.put_bytes("run/object", b"")
        assert "\n" not in str(told.value)
        assert len(proxy.fired) == 8


def test_a_bucket_that_does_not_exist_says_what_to_do(s3_endpoint: str, tmp_path: Path) -> None:
    target = open_target("s3://no-such-bucket/prefix", endpoint_url=s3_endpoint)
    (tmp_path / "file").write_bytes(b"1")
    for use in (
        lambda: target.put_bytes("a", b""),
        lambda: target.put_file("a", tmp_path / "file"),
        lambda: target.list(""),
        lambda: target.get_bytes("a"),
        lambda: target.delete(["a"]),
    ):
        with pytest.raises(ExternalServiceError, match=r"NoSuchBucket \(create the bucket or correct"):
            use()


def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    target = open_target(blocked)
    blocked.rmdir()
    blocked.write_text("a file where the directory was")
    with pytest.raises(ExternalServiceError, match=r"cannot write .*blocked"):
        target.put_bytes("run/object", b"")
    with pytest.raises(InvalidInputError, match="expected a directory"):
        open_target(blocked)


@pytest.mark.parametrize("uri", ["s4://bucket", "s3://", "s3://bucket/a/../b", "file://host/path", "http://x/y"])
def test_unknown_targets_are_refused(uri: str) -> None:
    with pytest.raises(InvalidInputError, match=r"remote: got .*expected .*(s3://|file:///)"):
        open_target(uri)


def test_targets_need_neither_torch_nor_boto3_to_be_named() -> None:
    """Importing the targets, generations and progress costs neither."""
    import subprocess
    import sys

    program = (
        "import sys, harness.checkpoint, harness.checkpoint.targets, harness.checkpoint.generation, "
        "harness.checkpoint.progress, harness.checkpoint.inspect; harness.checkpoint.open_target('.'); "
        ""
        "sys.exit(' '.join({'torch', 'boto3'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, their back-off does not."""
    import botocore.endpoint

    import harness.checkpoint.targets.s3

    class NoTime:
        def __getattr__(self, name: str) -> object:
            import time

            return (lambda _: None) if name == "sleep" else getattr(time, name)

    monkeypatch.setattr(botocore.endpoint, "time", NoTime())
    monkeypatch.setattr(harness.checkpoint.targets.s3, "time", NoTime())
