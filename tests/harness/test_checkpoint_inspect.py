"""``ls``, ``show`` and ``verify`` tell what is there and what is wrong with it, for directories and buckets alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.checkpoint.commands import ls_command, show_command, verify_command
from harness.checkpoint.inspect import list_checkpoints, show_checkpoint, verify_checkpoints
from harness.errors import InvalidInputError
from tests.harness.checkpoint_support import RUN_ID, make_config, save_steps


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    save_steps(make_config(root), 2, 4)
    return root


def test_a_root_a_run_a_checkpoint_and_a_nodes_disk_can_be_listed(saved: Path) -> None:
    for location, count in (
        (saved / "bucket", 2),
        (saved / "bucket" / RUN_ID, 2),
        (saved / "bucket" / RUN_ID / "step-000000004-g0001", 1),
        (saved / "node0", 2),
    ):
        found = list_checkpoints(location)
        assert len(found) == count, location
        assert (found[0].run_id, found[0].name, found[0].state) == (RUN_ID, "step-000000004-g0001", "complete")
        assert found[0].components == ("model", "optimizer", "rng", "scheduler")
        assert all(one.intact and one.files_checked == 9 for one in verify_checkpoints(location))


def test_a_bucket_is_read_like_a_directory(s3_uri: str, s3_endpoint: str, tmp_path: Path) -> None:
    save_steps(make_config(tmp_path, s3_uri, s3_endpoint_url=s3_endpoint), 3)
    verified = verify_checkpoints(f"{s3_uri}/{RUN_ID}", endpoint_url=s3_endpoint)
    assert [(one.name, one.intact, one.files_checked) for one in verified] == [("step-000000003-g0001", True, 9)]
    assert show_checkpoint(s3_uri, endpoint_url=s3_endpoint)["progress"]["step"] == 3


def test_every_flipped_truncated_missing_or_extra_file_is_named(saved: Path, tmp_path: Path) -> None:
    source = saved / "bucket" / RUN_ID / "step-000000004-g0001"
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        copy = tmp_path / f"{number}" / source.name
        shutil.copytree(source, copy)
        data = bytearray((copy / path).read_bytes())
        data[-1] ^= 1
        (copy / path).write_bytes(data)
        (found,) = verify_checkpoints(copy)
        assert not found.intact
        assert path.as_posix() in found.problems[0]
    copy = tmp_path / "other" / source.name
    shutil.copytree(source, copy)
    (copy / "model" / "__0_0.distcp").unlink()
    (copy / "optimizer" / "__0_0.distcp").write_bytes(b"")
    (copy / "model" / "extra").write_bytes(b"")
    assert list_checkpoints(copy)[0].state == "complete"
    problems = verify_checkpoints(copy)[0].problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "model/__0_0.distcp",
        "optimizer/__0_0.distcp",
        "model/extra",
    ]


def test_what_never_became_complete_is_named_but_is_no_damage(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "bucket", tmp_path / "bucket")
    newest = tmp_path / "bucket" / RUN_ID / "step-000000004-g0001"
    (newest / "manifest.json").unlink()
    (newest / "part-00000.json").unlink()
    assert [info.state for info in list_checkpoints(tmp_path / "bucket")] == ["incomplete", "complete"]
    assert all(one.intact for one in verify_checkpoints(tmp_path / "bucket"))
    assert show_checkpoint(tmp_path / "bucket")["name"] == "step-000000002-g0001"


def test_the_commands_print_tables_and_json(saved: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(ls_command, [str(saved / "bucket")])
    assert listed.exit_code == 0
    assert listed.output.splitlines()[1].split()[:3] == [RUN_ID, "step-000000004-g0001", "complete"]
    shown = runner.invoke(show_command, [str(saved / "bucket"), "--json"])
    document = json.loads(shown.output)
    assert (document["schema_version"], document["progress"]["step"], len(document["files"])) == (1, 4, 9)
    assert "component   model: sharded" in runner.invoke(show_command, [str(saved / "bucket")]).output
    assert runner.invoke(verify_command, [str(saved / "bucket")]).exit_code == 0
    shutil.copytree(saved / "bucket", tmp_path / "bucket")
    (tmp_path / "bucket" / RUN_ID / "step-000000002-g0001" / "progress.json").write_text("{}")
    failed = runner.invoke(verify_command, [str(tmp_path / "bucket"), "--json"])
    assert failed.exit_code == 1
    assert json.loads(failed.output)["intact"] is False
    told = runner.invoke(verify_command, [str(tmp_path / "bucket")]).output
    assert "DAMAGED: 1 of 9 files\n  progress.json: 2 bytes, expected" in told


def test_a_place_without_checkpoints_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="location"):
        list_checkpoints(tmp_path)
    with pytest.raises(InvalidInputError, match="an existing directory"):
        list_checkpoints(tmp_path / "none")
