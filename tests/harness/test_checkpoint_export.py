"""``export``: one component in one file that other tools read, verified on the way, whole or not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from harness.checkpoint.commands import export_command
from harness.checkpoint.export import export_checkpoint
from harness.errors import CorruptCheckpointError, InvalidInputError
from tests.harness.checkpoint_support import RUN_ID, Job, make_config, save_steps, single


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Job]:
    """A run saved at steps 2 and 4, and the job as it was at 4."""
    root = tmp_path_factory.mktemp("saved")
    save_steps(make_config(root), 2, 4)
    job = Job()
    single(make_config(root)).restore(job.components)
    return root, job


def test_a_pt_file_holds_the_state_dict_and_loads_safely(saved: tuple[Path, Job], tmp_path: Path) -> None:
    root, job = saved
    for component in ("model", "optimizer", "scheduler"):
        done = export_checkpoint(root / "bucket", tmp_path / f"{component}.pt", component=component)
        assert (done.step, done.component) == (4, component)
        state = torch.load(tmp_path / f"{component}.pt", weights_only=True)
        fresh = Job()
        fresh.components[component].load_state_dict(state)
        for name, holder in fresh.components.items():
            if name == component:
                assert repr(holder.state_dict()) == repr(job.components[component].state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "optimizer.pt", "scheduler.pt"]


def test_safetensors_holds_the_tensors_and_says_where_they_are_from(
    saved: tuple[Path, Job], tmp_path: Path, s3_uri: str, s3_endpoint: str
) -> None:
    root, job = saved
    from harness.checkpoint import open_target

    target = open_target(s3_uri, endpoint_url=s3_endpoint)
    for path in (root / "bucket").rglob("*"):
        if path.is_file():
            target.put_file(path.relative_to(root / "bucket").as_posix(), path)
    for number, (source, endpoint) in enumerate(((root / "node0", None), (s3_uri, s3_endpoint))):
        out = tmp_path / f"{number}.safetensors"
        runner = CliRunner().invoke(
            export_command,
            [str(source), str(out), "--json", *(["--endpoint-url", endpoint] if endpoint else [])],
        )
        document = json.loads(runner.output)
        assert (document["schema_version"], document["checkpoint"]) == (1, "step-000000004-g0001")
        found, expected = load_file(out), job.components["model"].state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    header = (tmp_path / "0.safetensors").read_bytes()[8:]
    assert b'"checkpoint":"step-000000004-g0001"' in header


def test_what_cannot_be_exported_says_what_to_do(saved: tuple[Path, Job], tmp_path: Path) -> None:
    root, _ = saved
    out = tmp_path / "out.pt"
    for options, match in (
        ({"component": "modle"}, "did you mean 'model'"),
        ({"component": "rng"}, "for each rank"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            export_checkpoint(root / "bucket", out, **options)
    with pytest.raises(InvalidInputError, match=r"a \.pt file for component optimizer"):
        export_checkpoint(root / "bucket", tmp_path / "out.safetensors", component="optimizer")
    with pytest.raises(InvalidInputError, match=r"ends in \.pt or \.safetensors"):
        export_checkpoint(root / "bucket", tmp_path / "out.bin")
    out.write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match="--force"):
        export_checkpoint(root / "bucket", out)
    assert out.read_bytes() == b"mine"
    export_checkpoint(root / "bucket", out, force=True)
    assert torch.load(out, weights_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.pt"]


def test_a_damaged_checkpoint_is_not_exported(saved: tuple[Path, Job], tmp_path: Path) -> None:
    root, _ = saved
    shutil.copytree(root / "bucket", tmp_path / "bucket")
    shard = tmp_path / "bucket" / RUN_ID / "step-000000004-g0001" / "model" / "__0_0.distcp"
    data = bytearray(shard.read_bytes())
    data[-10] ^= 4
    shard.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match=r"__0_0\.distcp differs from its digest"):
        export_checkpoint(tmp_path / "bucket", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_one_nodes_part_of_several_is_refused(tmp_path: Path) -> None:
    from tests.harness.checkpoint_support import fork_ranks
    from tests.harness.test_checkpoint_ranks import save_as_two

    fork_ranks(2, save_as_two, tmp_path, tmp_path / "store", (1,))
    with pytest.raises(InvalidInputError, match="from the durable target, which has all parts"):
        export_checkpoint(tmp_path / "node1", tmp_path / "out.pt")
    done = export_checkpoint(tmp_path / "bucket", tmp_path / "out.pt")
    assert done.tensors == 9
