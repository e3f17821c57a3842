"""Durable targets: one behaviour for a directory and for the S3 protocol; faults on the way are ridden out or told."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint import Target, open_target
from harness.checkpoint.digests import digest_file
from harness.checkpoint.targets import MissingObjectError, ObjectInfo
from harness.checkpoint.targets.directory import DirectoryTarget
from harness.checkpoint.targets.s3 import MAX_ATTEMPTS
from harness.checkpoint.targets.throttle import Throttle
from harness.errors import CorruptCheckpointError, ExternalServiceError, InvalidInputError
from tests.harness.fault_proxy import Fault, FaultProxy


@pytest.fixture(params=["directory", "file-uri", "s3", "gs", "az"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param in {"gs", "az"}:
        uri, endpoint = request.getfixturevalue("gcs" if request.param == "gs" else "azure")
        return open_target(uri, endpoint_url=endpoint)
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


@pytest.mark.parametrize("kind", ["gs", "az"])
def test_google_and_azure_take_large_files_and_whole_checkpoints(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Parts both ways; a run that saves, retains and restores there; a bucket that is not there says what to do."""
    from tests.harness.checkpoint_support import Job, make_config, save_steps, single

    uri, endpoint = request.getfixturevalue("gcs" if kind == "gs" else "azure")
    target = open_target(uri, endpoint_url=endpoint)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1024) * (17 * 1024))
    target.put_file("big", source)
    target.get_file("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    config = make_config(tmp_path, uri, keep_last=1)
    prints = save_steps(config, 1, 2, target=target)
    shutil.rmtree(tmp_path / "node0")
    job = Job()
    restored = single(config, target=target).restore(job.components)
    assert restored is not None
    assert (restored.step, restored.source, job.fingerprint()) == (2, "remote", prints[2])
    assert [name for name in target.children("demo/") if name.startswith("step-")] == ["step-000000002-g0001"]
    nowhere = open_target(f"{kind}://no-such-place/prefix", endpoint_url=endpoint)
    with pytest.raises(ExternalServiceError, match=r"create the bucket or correct checkpoint\.remote"):
        nowhere.put_bytes("a", b"")


def big_file(path: Path) -> str:
    """Three parts (16, 16 and 1 MiB); its digest as `put_file` takes it."""
    path.write_bytes(b"".join(bytes([number]) * (1024 * 1024) for number in range(33)))
    return f"xxh3_128:{digest_file(path, 'xxh3_128')[1]}"


def test_a_broken_upload_goes_on_where_it_broke_off(s3_uri: str, s3_endpoint: str, tmp_path: Path, monkeypatch) -> None:
    """The second part never arrives; the next attempt sends that part alone, and then nothing at all."""
    without_waiting(monkeypatch)
    source = tmp_path / "source"
    digest = big_file(source)
    parts: list[str] = []

    def no_second_part(method: str, path: str) -> Fault | None:
        return "503" if method == "PUT" and "partNumber=2" in path else None

    def count_parts(method: str, path: str) -> None:
        if method == "PUT":
            parts.append(path.partition("partNumber=")[2].partition("&")[0])

    with FaultProxy(s3_endpoint, no_second_part).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        with pytest.raises(ExternalServiceError, match="cannot write"):
            target.put_file("run/step/file", source, digest=digest)
        assert proxy.fired
        assert not target.exists("run/step/file")
    with FaultProxy(s3_endpoint, count_parts).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        target.put_file("run/step/file", source, digest=digest, resume=True)
        sent = list(parts)
        target.put_file("run/step/file", source, digest=digest, resume=True)
        target.get_file("run/step/file", tmp_path / "copy")
    assert "2" in sent
    assert len(sent) < 3
    assert parts == sent
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_parts_of_another_file_are_not_kept(s3_uri: str, s3_endpoint: str, tmp_path: Path) -> None:
    """An upload of the same name whose first part has other bytes: only what is the same is kept."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint)
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    key = f"{prefix}/file"
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32C")["UploadId"]
    other = b"x" * (16 * 1024 * 1024)
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=other, ChecksumAlgorithm="CRC32C")
    source = tmp_path / "source"
    digest = big_file(source)
    target = open_target(s3_uri, endpoint_url=s3_endpoint)
    target.put_file("file", source, digest=digest, resume=True)
    assert target.get_bytes("file") == source.read_bytes()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_retention_removes_what_broken_uploads_left(tmp_path: Path, s3_uri: str, s3_endpoint: str) -> None:
    """Unfinished uploads of older checkpoints go; one of a newer name (in flight) and another run's stay."""
    import boto3

    from tests.harness.checkpoint_support import make_config, save_steps

    client = boto3.client("s3", endpoint_url=s3_endpoint)
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    for name in ("demo/step-000000001-g0001", "demo/step-000000009-g0001", "other/step-000000001-g0001"):
        client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{name}/model/__0_0.distcp")
    save_steps(make_config(tmp_path, s3_uri, s3_endpoint_url=s3_endpoint), 2)
    left = [upload["Key"].split("/")[2:4] for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]]
    assert sorted(left) == [["demo", "step-000000009-g0001"], ["other", "step-000000001-g0001"]]


def test_a_directorys_races(tmp_path: Path, monkeypatch) -> None:
    """A folder that another process prunes just now is made again; an NFS that sends our link twice is no rival."""
    target, rival = DirectoryTarget(tmp_path), DirectoryTarget(tmp_path)
    touch, link = Path.touch, Path.hardlink_to
    pruned: list[Path] = []

    def prune_first(path: Path, *arguments: Any, **options: Any) -> None:
        if not pruned:
            pruned.append(path.parent)
            path.parent.rmdir()
        touch(path, *arguments, **options)

    monkeypatch.setattr(Path, "touch", prune_first)
    target.put_bytes("run/folder/object", b"x")
    assert pruned == [tmp_path / "run" / "folder"]
    assert target.get_bytes("run/folder/object") == b"x"

    def link_twice(path: Path, source: Path) -> None:
        link(path, source)
        link(path, source)

    monkeypatch.setattr(Path, "hardlink_to", link_twice)
    assert target.put_bytes_if_absent("run/claim", b"mine")
    assert not rival.put_bytes_if_absent("run/claim", b"theirs")
    assert target.get_bytes("run/claim") == b"mine"
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_file()] == ["claim"]


def test_a_directory_is_rid_of_what_a_killed_copy_left(tmp_path: Path) -> None:
    target = open_target(tmp_path)
    for name in ("run/step-1/model/.tmp-1", "run/step-2/model/.tmp-2"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"half")
    assert target.list("run/") == ()
    assert target.abort_uploads("run/", lambda key: key.startswith("run/step-1/")) == 1
    assert target.children("run/") == ("step-2",)


def test_server_side_encryption_is_asked_for(s3_uri: str, s3_endpoint: str, tmp_path: Path) -> None:
    """Small objects, conditional puts and objects in parts alike."""
    import boto3

    from harness.checkpoint.targets import open_configured
    from tests.harness.checkpoint_support import make_config

    key_id = "arn:aws:kms:us-east-1:123456789012:key/0d2e4f6a-0000-4000-8000-000000000000"
    options = {"s3_endpoint_url": s3_endpoint, "s3_sse": "aws:kms", "s3_kms_key_id": key_id}
    target = open_configured(make_config(tmp_path, s3_uri, **options).checkpoint)
    big_file(tmp_path / "source")
    target.put_bytes("small", b"1")
    target.put_bytes_if_absent("claim", b"1")
    target.put_file("big", tmp_path / "source")
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    for name in ("small", "claim", "big"):
        head = client.head_object(Bucket=bucket, Key=f"{prefix}/{name}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key_id), name
    with pytest.raises(ValueError, match="s3_sse: aws:kms where s3_kms_key_id is set"):
        make_config(tmp_path, s3_uri, s3_kms_key_id=key_id)


def test_a_bandwidth_limit_spreads_bytes_over_time() -> None:
    """40 pieces of 1 MiB at 4 MiB/s: the last one passes after 39/4 seconds, by however many threads."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    throttle = Throttle.of_mib(4)
    throttle = Throttle(throttle.bytes_per_second, monotonic=lambda: now, sleep=sleep)
    for _ in range(40):
        throttle.take(1024 * 1024)
    assert now == pytest.approx(39 / 4)
    Throttle(None, sleep=sleep).take(10**12)
    assert now == pytest.approx(39 / 4)


@pytest.mark.parametrize("kind", ["s3", "directory", "gs"])
def test_every_way_up_passes_the_bandwidth_limit(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch
) -> None:
    """Files in parts, too: all bytes are taken from the limit, in pieces of at most a part."""
    taken: list[int] = []
    monkeypatch.setattr(Throttle, "take", lambda _, count: taken.append(count))
    endpoint, uri = None, str(tmp_path / "bucket")
    if kind == "s3":
        endpoint, uri = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_uri")
    elif kind == "gs":
        uri, endpoint = request.getfixturevalue("gcs")
    target = open_target(uri, endpoint_url=endpoint, bandwidth_limit_mib_per_second=100)
    big_file(tmp_path / "source")
    target.put_file("file", tmp_path / "source")
    assert sum(taken) == 33 * 1024 * 1024
    assert max(taken) <= 16 * 1024 * 1024


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


def test_retries_leave_the_training_scripts_random_numbers_alone(s3_uri: str, s3_endpoint: str, monkeypatch) -> None:
    """Back-off is jittered, and Python's global stream is the training script's: not one number of it is drawn."""
    without_waiting(monkeypatch)
    for fault, method in (("503", "PUT"), ("truncate", "GET")):
        with FaultProxy(s3_endpoint, break_first(3, fault, method)).running() as proxy:
            target = open_target(s3_uri, endpoint_url=proxy.url)
            before = random.getstate()
            target.put_bytes("run/object", b"content")
            target.get_bytes("run/object")
            assert random.getstate() == before
            assert len(proxy.fired) == 3


def test_a_conditional_put_whose_answer_was_lost_is_still_ours(s3_uri: str, s3_endpoint: str, monkeypatch) -> None:
    """The store wrote it, the answer broke, the retry is refused as taken: it was taken by us."""
    without_waiting(monkeypatch)
    with FaultProxy(s3_endpoint, break_first(1, "lost-answer", "PUT")).running() as proxy:
        target = open_target(s3_uri, endpoint_url=proxy.url)
        assert target.put_bytes_if_absent("run/claim", b"mine")
        assert len(proxy.fired) == 1
        assert not target.put_bytes_if_absent("run/claim", b"another's")


@pytest.mark.parametrize("fault", ["500", "reset", "truncate", "timeout", "stall"])
def test_faults_on_the_way_down_are_ridden_out(
    s3_uri: str, s3_endpoint: str, fault: Fault, tmp_path: Path, monkeypatch
) -> None:
    """Before the answer, and in the middle of its body."""
    without_waiting(monkeypatch)
    monkeypatch.setattr("harness.checkpoint.targets.s3.READ_TIMEOUT_SECONDS", 0.5)
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
        assert len(proxy.fired) == MAX_ATTEMPTS


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
