"""What `harness.yaml` may say, and the one line that a wrong one gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.config import RunConfig, load_run_config
from harness.errors import InvalidInputError

MINIMAL = {
    "run_id": "gpt-1",
    "checkpoint": {"directory": "/scratch/ckpt", "remote": "s3://bucket/prefix"},
    "telemetry": {"directory": "/scratch/telemetry"},
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "harness.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def merged(**sections: object) -> dict[str, object]:
    return {**MINIMAL, **sections}


def test_minimal_config_round_trips(tmp_path: Path) -> None:
    """The three required things are enough, and what is dumped loads as the same config."""
    config = load_run_config(write(tmp_path, yaml.safe_dump(MINIMAL)))
    again = load_run_config(write(tmp_path, yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
    assert (config.torchrun.min_nodes, config.torchrun.max_nodes) == (1, 1)


@pytest.mark.parametrize(
    ("change", "field", "fragment"),
    [
        ({"checkpiont": {}}, "checkpiont", "did you mean 'checkpoint'?"),
        ({"torchrun": {"nodes": "2"}}, "torchrun.nodes", "did you mean 'nnodes'?"),
        ({"torchrun": {"nnodes": "4:2"}}, "torchrun", "MIN <= MAX"),
        ({"torchrun": {"nnodes": "0:2"}}, "torchrun.nnodes", "0:2"),
        ({"torchrun": {"rdzv_conf": {"keep_alive_max_attempt": 2}}}, "keep_alive_max_attempt", "3"),
        ({"notices": {"poll_seconds": float("nan")}}, "notices.poll_seconds", "nan"),
        ({"notices": {"poll_seconds": -1}}, "notices.poll_seconds", "-1"),
        ({"notices": {"sources": [{"kind": "amazon"}]}}, "notices.sources.0.kind", "aws"),
        ({"run_id": "../other"}, "run_id", "lower-case letters"),
        ({"run_id": "a..b"}, "run_id", "lower-case letters"),
        ({"schema_version": 2}, "schema_version", "1"),
        (
            {"checkpoint": {**MINIMAL["checkpoint"], "remote": "ftp://x/y"}},  # type: ignore[dict-item]
            "checkpoint.remote",
            "s3://bucket/prefix",
        ),
        (
            {"checkpoint": {**MINIMAL["checkpoint"], "interval": {"seconds": None}}},  # type: ignore[dict-item]
            "checkpoint.interval",
            "one of them must be set",
        ),
    ],
)
def test_wrong_values_name_field_and_remedy(
    tmp_path: Path, change: dict[str, object], field: str, fragment: str
) -> None:
    """One line that names the file, the field, the value and what would be right."""
    with pytest.raises(InvalidInputError) as caught:
        load_run_config(write(tmp_path, yaml.safe_dump(merged(**change))))
    line = str(caught.value)
    assert "\n" not in line
    assert "harness.yaml" in line
    assert field in line
    assert fragment in line


@pytest.mark.parametrize("content", ["{", "a: [1", "\x00\x01", "- 1\n- 2\n", "", "just words"])
def test_files_that_are_no_config(tmp_path: Path, content: str) -> None:
    """Corrupt, empty or foreign documents are bad input, not a traceback."""
    with pytest.raises(InvalidInputError, match=r"harness\.yaml"):
        load_run_config(write(tmp_path, content))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """A path that is not there, or is a folder, says so."""
    with pytest.raises(InvalidInputError, match="existing file"):
        load_run_config(tmp_path / "no.yaml")
    with pytest.raises(InvalidInputError, match="name the file"):
        load_run_config(tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """What is required and absent is named by its full path."""
    with pytest.raises(InvalidInputError, match=r"checkpoint\.remote.*required"):
        load_run_config(write(tmp_path, yaml.safe_dump(merged(checkpoint={"directory": "/x"}))))


def test_config_is_importable_without_torch() -> None:
    """The planner shares this module: it must not pull torch, numpy or boto3."""
    code = (
        "import sys; from harness import load_run_config, RunConfig; import harness.policy, harness.clock;"
        "sys.exit(' '.join(m for m in ('torch', 'numpy', 'boto3', 'scipy') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_config_is_immutable() -> None:
    """A loaded config does not change under anyone's hands."""
    config = RunConfig.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
