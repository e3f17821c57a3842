"""One process: what was saved comes back bit for bit; what went wrong is said, and never loaded."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.checkpoint import Progress, claim_generation, open_target
from harness.checkpoint.faults import installed
from harness.clock import FakeClock
from harness.errors import CheckpointError, ExternalServiceError, FencedError, InvalidInputError
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointSkipped, CheckpointStarted
from harness.telemetry.writer import TelemetryWriter
from tests.harness.checkpoint_support import RUN_ID, Events, Job, make_config, save_steps, single
from tests.harness.fault_proxy import Fault, FaultProxy


def fresh(config, **options):
    """(what a new attempt restores, its job)."""
    job = Job()
    checkpointer = single(config, **options)
    restored = checkpointer.restore(job.components)
    checkpointer.close()
    return restored, job


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Weights, moments, schedule, random streams and progress; training goes on as if nothing had happened."""
    config = make_config(tmp_path)
    uninterrupted = Job()
    uninterrupted.train(9)
    prints = save_steps(config, 3, 6)
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.progress.samples_seen, restored.source) == (6, 96, "local")
    assert job.fingerprint() == prints[6]
    job.train(3)
    assert job.fingerprint() == uninterrupted.fingerprint()


def test_nothing_to_restore_is_none(tmp_path: Path) -> None:
    restored, _ = fresh(make_config(tmp_path))
    assert restored is None


def test_a_node_that_has_nothing_restores_from_the_durable_target(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    prints = save_steps(config, 2)
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config)
    assert restored is not None
    assert restored.source == "remote"
    assert restored.bytes_fetched > 0
    assert job.fingerprint() == prints[2]


def test_a_durable_target_of_s3(tmp_path: Path, s3_uri: str, s3_endpoint: str) -> None:
    """The same over the S3 protocol: saved, deleted by retention, restored onto a node that has nothing."""
    config = make_config(tmp_path, s3_uri, s3_endpoint_url=s3_endpoint, keep_last=1)
    prints = save_steps(config, 1, 2)
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.source) == (2, "remote")
    assert job.fingerprint() == prints[2]
    assert [
        name for name in open_target(s3_uri, endpoint_url=s3_endpoint).children(f"{RUN_ID}/") if "step" in name
    ] == ["step-000000002-g0001"]


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, damage_remove])
def test_damage_to_any_file_is_found_and_the_older_one_is_taken(tmp_path: Path, damage) -> None:
    """Every file of the newest checkpoint, one at a time, on the only place that has it."""
    config = make_config(tmp_path)
    prints = save_steps(config, 2, 4)
    shutil.rmtree(tmp_path / "node0")
    newest = tmp_path / "bucket" / RUN_ID / "step-000000004-g0001"
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    assert len(files) >= 8
    for path in files:
        if path.name == "part-00000.json":
            continue  # the node's own note of what it wrote: nothing is restored by it once the manifest is there
        intact = path.read_bytes()
        damage(path)
        # Every attempt sees the same history: what an earlier one noted down would disown the newest checkpoint.
        for record in (tmp_path / "bucket" / RUN_ID / "generations").glob("*-restored.json"):
            record.unlink()
        restored, job = fresh(config)
        assert restored is not None, path
        assert (restored.step, job.fingerprint()) == (2, prints[2]), path
        assert restored.skipped[0][0] == "step-000000004-g0001"
        assert path.name in restored.line or "never became complete" in restored.line
        path.write_bytes(intact)
        shutil.rmtree(tmp_path / "node0")


def test_two_files_swapped_are_found(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2, 4)
    shutil.rmtree(tmp_path / "node0")
    bucket = tmp_path / "bucket" / RUN_ID
    shards = [sorted((bucket / f"step-00000000{step}-g0001").rglob("*.distcp")) for step in (2, 4)]
    for older, newer in zip(*shards, strict=True):
        a, b = older.read_bytes(), newer.read_bytes()
        assert a != b
        older.write_bytes(b)
        newer.write_bytes(a)
    with pytest.raises(CheckpointError, match=r"no checkpoint verifies.*step-000000004-g0001.*step-000000002-g0001"):
        fresh(config)


def test_a_damaged_local_file_is_fetched_instead(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    prints = save_steps(config, 2)
    damage_flip(tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "model" / "__0_0.distcp")
    restored, job = fresh(config)
    assert restored is not None
    assert restored.source == "local and remote"
    assert "model/__0_0.distcp" in restored.line
    assert job.fingerprint() == prints[2]


def test_local_files_may_be_trusted_unread(tmp_path: Path) -> None:
    """``verify: remote-only`` compares the size only of what lies on this disk; what is fetched is always verified."""
    config = make_config(tmp_path, verify="remote-only")
    save_steps(config, 2)
    rng = tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "rng" / "rank-00000.pt"
    damage_flip(rng)
    restored, _ = fresh(config)
    assert restored is not None
    assert restored.source == "local"
    damage_truncate(rng)
    restored, _ = fresh(config)
    assert restored is not None
    assert restored.source == "local and remote"


def test_the_newest_model_without_its_damaged_optimizer_if_asked_for(tmp_path: Path, caplog) -> None:
    """``on_corrupt: newest-model``: the model of the newest checkpoint, said loudly; a damaged model means older."""
    config = make_config(tmp_path, on_corrupt="newest-model")
    save_steps(config, 2, 4)
    reference = Job()
    single(config).restore(reference.components)
    shutil.rmtree(tmp_path / "node0")
    newest = tmp_path / "bucket" / RUN_ID / "step-000000004-g0001"
    damage_flip(newest / "optimizer" / "__0_0.distcp")
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.missing) == (4, ("optimizer", "rng", "scheduler"))
    assert "DAMAGED AND NOT RESTORED" in restored.line
    assert "optimizer/__0_0.distcp" in caplog.text
    assert not job.components["optimizer"].state_dict()["state"]
    model = reference.components["model"].state_dict()
    assert all(
        torch.equal(a, b) for a, b in zip(model.values(), job.components["model"].state_dict().values(), strict=True)
    )
    for record in (tmp_path / "bucket" / RUN_ID / "generations").glob("*-restored.json"):
        record.unlink()
    damage_flip(newest / "model" / "__0_0.distcp")
    restored, _ = fresh(config)
    assert restored is not None
    assert (restored.step, restored.missing) == (2, ())


class Odd:
    """A user's component with every kind of tensor that is easy to get wrong."""

    def __init__(self, fill: float) -> None:
        base = torch.full((4, 6), fill)
        self.state: dict[str, Any] = {
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(fill, dtype=torch.float64),
            "strided": base.t()[::2],
            "expanded": torch.tensor([fill]).expand(5),
            "bfloat16": base.bfloat16(),
            "float8": base.to(torch.float8_e4m3fn),
            "bool": base > 0,
            "complex": base.to(torch.complex64),
            "int8": base.to(torch.int8),
            "nan": torch.tensor([float("nan"), -0.0]),
            "tied": [base, base],
            "nested": {3: {"count": int(fill), "lr": torch.tensor(0.1)}},
            "none": None,
        }

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def test_a_users_component_of_odd_tensors_comes_back(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    checkpointer = single(config)
    assert checkpointer.save({"user": Odd(2)}, Progress(step=1)).result(30).durable
    checkpointer.close()
    again = Odd(3)
    restored = single(config).restore({"user": again})
    assert restored is not None
    wanted = Odd(2).state
    assert again.state.keys() == wanted.keys()
    assert again.state["nested"].keys() == {3}
    assert again.state["nested"][3]["count"] == 2
    for key in ("empty", "scalar", "strided", "expanded", "bfloat16", "float8", "bool", "complex", "int8", "nan"):
        found, expected = again.state[key], wanted[key]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), key
        assert (
            found.contiguous().view(-1).view(torch.uint8).tolist()
            == expected.contiguous().view(-1).view(torch.uint8).tolist()
        )


def test_a_report_that_cannot_be_written_fails_no_save(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise OSError("telemetry is gone")

    assert single(make_config(tmp_path), on_event=broken).save(Job().components, Progress(step=1)).result(30).durable


def test_a_local_checkpoint_that_was_not_uploaded_is_restored(tmp_path: Path) -> None:
    """The process died between its local publication and the durable one; the disk is still there."""
    config = make_config(tmp_path)
    prints = save_steps(config, 2, 4)
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000004-g0001")
    (tmp_path / "node0" / RUN_ID / "step-000000004-g0001" / "manifest.json").unlink()
    restored, job = fresh(config)
    assert restored is not None
    assert (restored.step, restored.source, job.fingerprint()) == (4, "local", prints[4])


def test_an_unreachable_target_is_an_error_not_a_fresh_start(tmp_path: Path, monkeypatch) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    checkpointer = single(config)

    def refuse(*_: object) -> None:
        raise ExternalServiceError("the bucket does not answer")

    monkeypatch.setattr(checkpointer._saver.target, "children", refuse)
    with pytest.raises(ExternalServiceError, match="does not answer"):
        checkpointer.restore(Job().components)


def test_another_models_config_is_refused_in_one_line(tmp_path: Path) -> None:
    """A run's directory is not for another config: before anything is read, and before anything is written."""
    config = make_config(tmp_path)
    save_steps(config, 2)
    checkpointer = single(config)
    with pytest.raises(InvalidInputError, match=r"another config.*component model.*choose a new run_id") as refusal:
        checkpointer.restore(Job(width=16).components)
    assert "\n" not in str(refusal.value)
    checkpointer.save(Job(width=16).components, Progress(step=3))
    with pytest.raises(InvalidInputError, match="another config"):
        checkpointer.wait()
    with pytest.raises(InvalidInputError, match="another config"):
        checkpointer.save(Job(width=16).components, Progress(step=4))


def test_a_tensor_that_differs_is_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    (tmp_path / "bucket" / RUN_ID / "identity.json").unlink()
    with pytest.raises(InvalidInputError, match=r"component model: 0\.weight: got '\[16, 4\] torch.float32'.*\[8, 4\]"):
        single(config).restore(Job(width=16).components)


def test_a_model_that_changes_shape_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """At the save that finds it; the checkpoints of the model that the run began with stay the newest."""
    config, job = make_config(tmp_path), Job()
    checkpointer = single(config)
    checkpointer.restore(job.components)
    assert checkpointer.save(job.components, Progress(step=1)).result(30).durable
    with pytest.raises(InvalidInputError, match=r"0\.weight: got '\[16, 4\].*new run_id for another one \(\[8, 4\]"):
        checkpointer.save({**job.components, "model": Job(width=16).components["model"]}, Progress(step=2))
    assert [path.name for path in (tmp_path / "node0" / RUN_ID).glob("*step-*")] == ["step-000000001-g0001"]
    assert checkpointer.save(job.components, Progress(step=2)).result(30).durable
    checkpointer.close()


def test_missing_and_unknown_components_are_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    components = {**Job().components, "ema": nn.Linear(2, 2)}
    with pytest.raises(InvalidInputError, match="component ema: got 'not in the checkpoint'"):
        single(config).restore(components)


def test_another_runs_directory_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    save_steps(config, 2)
    (tmp_path / "node0" / RUN_ID).rename(tmp_path / "node0" / "other")
    with pytest.raises(InvalidInputError, match="belongs to run demo"):
        single(make_config(tmp_path, run_id="other")).restore(Job().components)
    shutil.copytree(tmp_path / "bucket" / RUN_ID, tmp_path / "bucket" / "third")
    shutil.rmtree(tmp_path / "bucket" / "third" / "generations")
    (tmp_path / "bucket" / "third" / "identity.json").unlink()
    with pytest.raises(InvalidInputError, match="of run demo"):
        single(make_config(tmp_path, run_id="third")).restore(Job().components)


class Unsafe:
    def state_dict(self):
        return {"callback": print}

    def load_state_dict(self, state):
        pass


def test_state_that_cannot_be_stored_safely_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"component user: callback: got 'a builtins"):
        single(make_config(tmp_path)).save({"user": Unsafe()}, Progress(step=1))
    with pytest.raises(InvalidInputError, match=r"component name: got '\.\./model'"):
        single(make_config(tmp_path)).save({"../model": nn.Linear(1, 1)}, Progress(step=1))


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


def test_a_state_with_nan_is_refused_if_asked_for(tmp_path: Path) -> None:
    """The checkpoint does not appear, the error names the tensor and what to do, and the next save ends the run."""
    config, events, job = make_config(tmp_path, refuse_nan=True), Events(), Job()
    checkpointer = single(config, on_event=events)
    job.train(1)
    checkpointer.save(job.components, Progress(step=1))
    checkpointer.wait()
    with torch.no_grad():
        job.components["model"][0].bias[3] = torch.nan
    handle = checkpointer.save(job.components, Progress(step=2))
    assert handle.result(30).status == "failed"
    assert events.seen[-1][0] == "checkpoint_failed"
    with pytest.raises(InvalidInputError, match=r"component model: 0.bias: got 'NaN in 1 of 8.*lower learning rate"):
        checkpointer.save(job.components, Progress(step=3))
    assert [path.name for path in (tmp_path / "bucket" / RUN_ID).glob("step-*")] == ["step-000000001-g0001"]
    other = single(make_config(tmp_path / "other"))
    assert other.save(job.components, Progress(step=2)).result(30).durable


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


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.AdamW(parameters, amsgrad=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9, centered=True),
    ],
)
def test_the_memory_for_an_optimizers_state_is_taken_before_its_first_step(tmp_path: Path, make) -> None:
    """Where `prepare` took it is where the first save copies to: no fresh memory is touched then."""
    model = nn.Linear(1024, 1024)
    components = {"model": model, "optimizer": make(model.parameters())}
    checkpointer = single(make_config(tmp_path))
    checkpointer.prepare(components)
    assert checkpointer._buffers is not None
    before = checkpointer._buffers.address
    model(torch.ones(1, 1024)).sum().backward()
    components["optimizer"].step()
    for step in (1, 2):
        checkpointer.save(components, Progress(step=step))
        checkpointer.wait()
        assert checkpointer._buffers.address == before
    shard = tmp_path / "node0" / RUN_ID / "step-000000002-g0001" / "model" / "__0_0.distcp"
    assert shard.stat().st_size < 1.01 * 4 * 1024 * 1025  # the weights, and not the memory that they were copied to


def test_at_most_one_save_in_flight(tmp_path: Path, monkeypatch) -> None:
    """A periodic save that comes too early is skipped or waits, as configured; one for a notice always waits.

    Telemetry says which, and for how long.
    """
    for when_busy in ("skip", "wait"):
        config = make_config(tmp_path / when_busy, when_busy=when_busy)
        log = TelemetryWriter(tmp_path / when_busy / "telemetry", run_id=RUN_ID, node=0, rank=0, world_size=1)
        log.claim("attempt", 1)
        clock = FakeClock()
        job, checkpointer = Job(), single(config, clock=clock, on_event=log.on_event)
        checkpointer.restore(job.components)
        gate, join = threading.Event(), checkpointer._join

        def wait_seven_seconds(timeout_seconds: float, gate=gate, join=join, clock=clock) -> None:
            clock.advance(7.0)
            gate.set()
            join(timeout_seconds)

        def hold(point: str, gate: threading.Event = gate) -> None:
            if point == "upload:before_manifest":
                assert gate.wait(30)

        with installed(hold):
            first = checkpointer.save(job.components, Progress(step=1))
            assert checkpointer.busy
            # The same step again is the same save, in flight or done.
            assert checkpointer.save(job.components, Progress(step=1), reason="notice") is first
            if when_busy == "skip":
                skipped = checkpointer.save(job.components, Progress(step=2))
                assert skipped.result(0).status == "skipped"
            monkeypatch.setattr(checkpointer, "_join", wait_seven_seconds)
            second = checkpointer.save(job.components, Progress(step=3), reason="notice")
            assert gate.is_set()
            assert first.result(0).durable
            assert second.result(30).durable
        assert checkpointer.save(job.components, Progress(step=3)) is second
        checkpointer.close()
        log.close()
        told = read_telemetry(log.path).events
        waits = {event.step: event.waited_seconds for event in told if isinstance(event, CheckpointStarted)}
        assert waits == {1: 0.0, 3: 7.0}
        skips = [(event.step, event.error) for event in told if isinstance(event, CheckpointSkipped)]
        assert skips == ([(2, "an earlier save is still in flight")] if when_busy == "skip" else [])


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


def test_the_state_is_copied_before_save_returns(tmp_path: Path) -> None:
    """Training changes the weights in place while the save is still being written: what was saved is the old state."""
    config = make_config(tmp_path)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    job.train(2)
    before, gate = job.fingerprint(), threading.Event()

    def hold(point: str) -> None:
        if point == "write:before_files":
            assert gate.wait(30)

    with installed(hold):
        handle = checkpointer.save(job.components, Progress(step=2))
        job.train(3)
        assert job.fingerprint() != before
        gate.set()
        assert handle.result(30).durable
    checkpointer.close()
    restored, again = fresh(config)
    assert restored is not None
    assert again.fingerprint() == before


def test_a_fenced_attempt_stops_itself(tmp_path: Path) -> None:
    config, events = make_config(tmp_path), Events()
    job, checkpointer = Job(), single(config, attempt="old", on_event=events)
    checkpointer.restore(job.components)
    assert claim_generation(open_target(config.checkpoint.remote), RUN_ID, "new") == 2
    result = checkpointer.save(job.components, Progress(step=1)).result(30)
    assert result.status == "fenced"
    assert "generation 2 was claimed by attempt new" in str(result.error)
    with pytest.raises(FencedError):
        checkpointer.save(job.components, Progress(step=2))
    assert not [path for path in (tmp_path / "bucket").rglob("*") if "step-" in path.name]


def test_a_checkpoint_published_behind_the_successors_back_is_void(tmp_path: Path) -> None:
    """An old attempt passes its check, is overtaken, and publishes: what it published is never restored."""
    config = make_config(tmp_path)
    prints = save_steps(config, 2)
    old_job, old = Job(), single(config, attempt="old")
    old.restore(old_job.components)
    old_job.train(3)
    overtaken = []

    def overtake(point: str) -> None:
        if point == "upload:before_manifest" and not overtaken:
            overtaken.append(point)
            # Between the old attempt's last check and its put, which is as close as it gets: let the check pass.
            restored, job = fresh(make_config(tmp_path / "elsewhere", str(tmp_path / "bucket")), attempt="new")
            assert restored is not None
            assert (restored.step, job.fingerprint()) == (2, prints[2])

    from harness.checkpoint import persist

    original = persist.check_fence
    try:
        persist.check_fence = lambda *_: None
        with installed(overtake):
            assert old.save(old_job.components, Progress(step=5)).result(30).durable
    finally:
        persist.check_fence = original
    assert overtaken
    old.close()
    shutil.rmtree(tmp_path / "node0")
    restored, job = fresh(config, attempt="newest")
    assert restored is not None
    assert (restored.step, job.fingerprint()) == (2, prints[2])
    assert "step-000000005-g0002: published after generation 3 had gone on from an older one" in restored.line


def test_retention_on_both_sides(tmp_path: Path) -> None:
    config = make_config(tmp_path, keep_last=2, keep_last_local=1)
    save_steps(config, 1, 2, 3, 4)
    local = sorted(path.name for path in (tmp_path / "node0" / RUN_ID).glob("step-*"))
    remote = sorted(path.name for path in (tmp_path / "bucket" / RUN_ID).glob("step-*"))
    assert local == ["step-000000004-g0001"]
    assert remote == ["step-000000003-g0001", "step-000000004-g0001"]


def test_local_retention_keeps_the_last_durable_one_while_the_bucket_is_gone(tmp_path: Path) -> None:
    config = make_config(tmp_path, keep_last_local=1)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    assert checkpointer.save(job.components, Progress(step=1)).result(30).durable

    def refuse(point: str) -> None:
        if point == "upload:before_files":
            raise ExternalServiceError("the bucket is gone")

    with installed(refuse):
        for step in (2, 3, 4):
            assert checkpointer.save(job.components, Progress(step=step)).result(30).status == "failed"
    checkpointer.close()
    names = sorted(path.name for path in (tmp_path / "node0" / RUN_ID).glob("step-*"))
    assert names == ["step-000000001-g0001", "step-000000004-g0001"]


def test_the_index_may_name_nothing_but_records(tmp_path: Path) -> None:
    """A pickle that would run code is refused although its digest is right: somebody who can write can also digest."""
    import pickle

    from harness.checkpoint.shards import read_metadata
    from harness.errors import CorruptCheckpointError

    ran = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (ran,))

    with pytest.raises(CorruptCheckpointError, match="has no business in a checkpoint's index"):
        read_metadata(pickle.dumps(Attack()), "model")
    assert not ran.exists()


def test_plain_dcp_can_read_a_component(tmp_path: Path) -> None:
    """The folders are ordinary DCP checkpoints: no harness is needed to get the weights out."""
    import torch.distributed.checkpoint as dcp

    config = make_config(tmp_path)
    job, checkpointer = Job(), single(config)
    checkpointer.restore(job.components)
    job.train(2)
    assert checkpointer.save(job.components, Progress(step=2)).result(30).durable
    checkpointer.close()
    other = Job().components["model"].state_dict()
    dcp.load(other, checkpoint_id=tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "model", no_dist=True)
    assert all(
        torch.equal(a, b) for a, b in zip(other.values(), job.components["model"].state_dict().values(), strict=True)
    )


def test_progress_json_is_for_people_too(tmp_path: Path) -> None:
    save_steps(make_config(tmp_path), 2)
    document = json.loads((tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "progress.json").read_text())
    assert (document["step"], document["samples_seen"]) == (2, 32)
