"""Damage to what is restored: found in any file, made good from elsewhere, or passed over; never loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from harness.checkpoint import open_target
from harness.errors import CheckpointError
from tests.harness.checkpoint_support import RUN_ID, Job, fresh, make_config, save_steps, single


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


def test_a_run_that_went_on_from_a_checkpoint_never_starts_over_silently(tmp_path: Path) -> None:
    """What the last attempt went on from is gone, and what is left is void: somebody must say what to do."""
    config = make_config(tmp_path)
    save_steps(config, 2)
    for _ in range(2):
        assert fresh(config)[0] is not None
    target = open_target(config.checkpoint.remote)
    target.put_bytes(f"{RUN_ID}/step-000000004-g0001/manifest.json", b"published by a process that was overtaken")
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000002-g0001")
    shutil.rmtree(tmp_path / "node0")
    with pytest.raises(
        CheckpointError, match=r"generation 3 went on from step-000000002-g0001, .*step-000000004-g0001: .*new run_id"
    ):
        fresh(config)
    # It stays so: an attempt that could not restore leaves no record of a start from nothing.
    shutil.rmtree(tmp_path / "bucket" / RUN_ID / "step-000000004-g0001")
    with pytest.raises(CheckpointError, match=r"generation 3 went on from step-000000002-g0001, .* no other is there"):
        fresh(config)
