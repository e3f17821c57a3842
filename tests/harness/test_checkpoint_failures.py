"""What goes wrong in the background of a save is an event; training goes on, and the last good checkpoint stays."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from harness.checkpoint import Progress
from harness.checkpoint.faults import installed
from harness.checkpoint.inspect import verify_checkpoints
from harness.errors import ExternalServiceError
from tests.harness.checkpoint_support import RUN_ID, Events, Job, fresh, make_config, save_steps, single
from tests.harness.fault_proxy import Fault, FaultProxy


def test_a_report_that_cannot_be_written_fails_no_save(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise OSError("telemetry is gone")

    assert single(make_config(tmp_path), on_event=broken).save(Job().components, Progress(step=1)).result(30).durable


def test_an_unreachable_target_is_an_error_not_a_fresh_start(tmp_path: Path, monkeypatch) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    checkpointer = single(config)

    def refuse(*_: object) -> None:
        raise ExternalServiceError("the bucket does not answer")

    monkeypatch.setattr(checkpointer._saver.target, "children", refuse)
    with pytest.raises(ExternalServiceError, match="does not answer"):
        checkpointer.restore(Job().components)


def test_a_failing_upload_is_an_event_and_training_goes_on(tmp_path: Path) -> None:
    """The bucket refuses one save: the last good one stays, the next save tells, and works."""
    config, events = make_config(tmp_path), Events()
    job, checkpointer = Job(), single(config, on_event=events)
    checkpointer.restore(job.components)
    checkpointer.save(job.components, Progress(step=1))
    checkpointer.wait()

    def refuse(point: str) -> None:
        if point == "upload:between_files":
            raise ExternalServiceError("the bucket refuses")

    with installed(refuse):
        handle = checkpointer.save(job.components, Progress(step=2))
        result = handle.result(30)
    assert (result.status, result.local) == ("failed", True)
    assert "the bucket refuses" in str(result.error)
    with pytest.raises(ExternalServiceError, match="the bucket refuses"):
        checkpointer.wait()
    handle = checkpointer.save(job.components, Progress(step=3))
    assert "the bucket refuses" in str(handle.previous_failure)
    assert handle.result(30).durable
    assert events.names().count("checkpoint_failed") == 1
    assert events.names()[-1] == "checkpoint_durable"
    checkpointer.close()


@pytest.mark.parametrize("trouble", ["credentials expire", "the bucket goes"])
def test_a_store_that_fails_half_way_is_an_event_and_training_goes_on(
    tmp_path: Path, s3_uri: str, s3_endpoint: str, trouble: str
) -> None:
    """In the middle of an upload; once it is put right the next save is durable, and the last good one stayed."""
    import boto3

    client, bucket = boto3.client("s3", endpoint_url=s3_endpoint), s3_uri.split("/")[2]
    puts = 0

    def script(method: str, path: str) -> Fault | None:
        nonlocal puts
        if "/step-000000002-g0001/" not in path or method != "PUT":
            return None
        puts += 1
        if puts == 3 and trouble == "the bucket goes":
            for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
                client.delete_object(Bucket=bucket, Key=found["Key"])
            client.delete_bucket(Bucket=bucket)
        return "expired" if puts >= 3 and trouble == "credentials expire" else None

    events, job = Events(), Job()
    with FaultProxy(s3_endpoint, script).running() as proxy:
        config = make_config(tmp_path, s3_uri, s3_endpoint_url=proxy.url)
        checkpointer = single(config, on_event=events)
        results = []
        for step in (1, 2, 3):
            job.train(1)
            results.append(checkpointer.save(job.components, Progress(step=step)).result(60))
            if step == 2 and trouble == "the bucket goes":
                client.create_bucket(Bucket=bucket)
        checkpointer.close()
    assert puts >= 3
    assert [result.status for result in results] == ["durable", "failed", "durable"]
    hint = "credentials have expired: renew" if trouble == "credentials expire" else "create the bucket or correct"
    assert hint in (results[1].error or "")
    assert [name for name in events.names() if "failed" in name] == ["checkpoint_failed"]
    restored, restored_job = fresh(config.model_copy(update={"checkpoint": config.checkpoint.model_copy(
        update={"s3_endpoint_url": s3_endpoint})}))  # fmt: skip
    assert restored is not None
    assert (restored.step, restored_job.fingerprint()) == (3, job.fingerprint())


def test_a_full_disk_fails_the_save_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    prints = save_steps(config, 1)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    job.train(1)

    def full(point: str) -> None:
        if point == "write:after_files":
            raise OSError(errno.ENOSPC, "No space left on device", "shard")

    with installed(full):
        result = checkpointer.save(job.components, Progress(step=2)).result(30)
    assert (result.status, result.local) == ("failed", False)
    assert "No space left" in str(result.error)
    local = {path.name for path in (tmp_path / "node0" / RUN_ID).iterdir()}
    assert local == {"generations", "step-000000001-g0001"}
    restored, again = fresh(config)
    assert restored is not None
    assert (restored.step, again.fingerprint()) == (1, prints[1])


def test_nobody_waits_for_a_store_that_failed(tmp_path: Path) -> None:
    """After a failed save, training does not stand still for the next one either, although the config says ``wait``."""
    job, checkpointer = Job(), single(make_config(tmp_path))
    checkpointer.restore(job.components)
    gate = threading.Event()

    def fail_then_hang(point: str) -> None:
        if point == "upload:before_files":
            if checkpointer.latest is not None and checkpointer.latest.step == 2:
                assert gate.wait(30)
            raise ExternalServiceError("the bucket is gone")

    with installed(fail_then_hang):
        assert checkpointer.save(job.components, Progress(step=1)).result(30).status == "failed"
        hanging = checkpointer.save(job.components, Progress(step=2))
        assert "the one before it failed" in str(checkpointer.save(job.components, Progress(step=3)).result(0).error)
        gate.set()
        assert hanging.result(30).status == "failed"
    assert checkpointer.save(job.components, Progress(step=4)).result(30).durable
    checkpointer.close()


def test_a_checkpoint_published_without_an_answer_is_not_written_over(tmp_path: Path) -> None:
    """The same step is saved again, with other contents: what the first try published is durable, and stays whole."""
    config = make_config(tmp_path)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    lost: list[str] = []

    def lose_the_answer(point: str) -> None:
        if point == "upload:after_manifest" and not lost:
            lost.append(point)
            raise ExternalServiceError("no answer")

    with installed(lose_the_answer):
        assert checkpointer.save(job.components, Progress(step=1)).result(30).status == "failed"
    again = Progress(step=1, user={"stopped": True})
    assert checkpointer.save(job.components, again, reason="notice").result(30).durable
    checkpointer.close()
    assert lost
    assert [one.intact for one in verify_checkpoints(tmp_path / "bucket")] == [True]
    restored, _ = fresh(config)
    assert restored is not None
    assert (restored.step, restored.progress.user) == (1, {})
