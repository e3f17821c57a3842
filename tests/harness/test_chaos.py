"""Chaos: positions, and a real run that is noticed, killed inside an upload, finished and judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.interruptions import Interruption, parse_position
from harness.chaos.judge import Verdict
from harness.errors import InvalidInputError
from harness.validation import parse
from tests.harness.run_support import SMALL, TRAIN, write_config


def test_positions_are_read_as_they_are_described() -> None:
    """What a person types is what the verdict says."""
    item = parse_position("node 1 at step 7 during upload:between_files")
    assert item == Interruption(node=1, at_step=7, kind="kill", during="upload:between_files")
    for text in (
        "node 1 at step 7 kill during upload:between_files",
        "node 0 at step 3 notice 30 s",
        "node 0 at step 3 late-notice 2.5 s",
    ):
        assert parse_position(text).describe() == text


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"node": 0, "kind": "kill"}, "at_step"),
        ({"node": 0, "at_step": 3, "kind": "late-notice"}, "notice_seconds"),
        ({"node": 0, "at_step": 3, "kind": "kill", "notice_seconds": 2}, "no notice_seconds"),
        (
            {"node": 0, "at_step": 3, "kind": "kill", "during": "upload:between_file"},
            "did you mean 'upload:between_files'",
        ),
        ({"node": 0, "at_step": 3, "kind": "notice", "during": "save:staged"}, "kind: kill"),
        ({"node": 0, "at_step": 3, "kind": "earthquake"}, "kind"),
    ],
)
def test_an_interruption_that_cannot_happen_is_refused(item: dict[str, Any], says: str) -> None:
    """One line that names what is wrong."""
    with pytest.raises(InvalidInputError, match=says):
        parse(Interruption, item, source="--at")


def test_a_position_that_nobody_can_read_is_refused() -> None:
    """One line that shows how to say it."""
    with pytest.raises(InvalidInputError, match=r"--at.*node N at step S"):
        parse_position("node one at noon")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_notice_and_a_kill_inside_an_upload_change_nothing(tmp_path: Path) -> None:
    """Two real nodes: both faults fire, few steps are lost, weights and samples are the uninterrupted run's."""
    config = write_config(tmp_path / "config", torchrun={"process_group_timeout_seconds": 30})
    folder = tmp_path / "chaos"
    command = [sys.executable, "-m", "harness", "chaos", "--folder", folder]
    command += ["--at", "node 1 at step 6 notice", "--at", "node 1 at step 16 during upload:between_files", config]
    done = subprocess.run([*command, TRAIN, "--steps", "100", *SMALL], capture_output=True, text=True)
    logs = "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in sorted((folder / "logs").glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert [item.fired for item in verdict.happened] == [True, True]
    assert verdict.weights_difference == 0.0
    assert 0 < verdict.lost_steps <= verdict.lost_steps_bound == 10
    assert (verdict.passed, verdict.orphans, verdict.launches) == (True, 0, 7)
