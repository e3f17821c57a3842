"""Schedule files: what chaos takes, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.chaos.command import chaos
from harness.chaos.interruptions import Interruption
from harness.chaos.schedule import Schedule, load_schedule
from harness.errors import InvalidInputError
from harness.validation import parse


def test_a_file_by_hand(tmp_path: Path) -> None:
    """YAML, with every key that a person can type with --at."""
    path = tmp_path / "schedule.yaml"
    path.write_text(
        "interruptions:\n"
        "- {node: 1, at_step: 6, kind: notice, notice_seconds: 30}\n"
        "- {node: 0, at_step: 16, kind: kill, during: 'upload:between_files'}\n",
        encoding="utf-8",
    )
    assert [item.by_position() for item in load_schedule(path).interruptions] == [
        Interruption(node=1, at_step=6, kind="notice", notice_seconds=30.0),
        Interruption(node=0, at_step=16, kind="kill", during="upload:between_files"),
    ]


KILL = {"node": 0, "kind": "kill"}


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([KILL], "either at_step or at_seconds"),
        ([KILL | {"at_step": 1, "at_seconds": 1.0}], "either at_step or at_seconds"),
        ([KILL | {"at_step": 9}, KILL | {"at_step": 3}], "order"),
        ([KILL | {"at_step": 1}, KILL | {"at_seconds": 3.0}], "all have at_step or all"),
        ([KILL | {"at_step": 1, "notice_seconds": 3.0}], "no notice_seconds with kind: kill"),
        ([KILL | {"at_step": 1, "during": "upload:between_file"}], "did you mean 'upload:between_files'"),
        ([{"node": 0, "at_step": 1, "kind": "late-notice"}], "notice_seconds with kind: late-notice"),
        ([KILL | {"at_step": 1, "nodes": 3}], "did you mean 'node'"),
    ],
)
def test_what_cannot_happen_is_refused(items: list[dict[str, Any]], says: str) -> None:
    """One line that says what would be right."""
    with pytest.raises(InvalidInputError, match=says):
        parse(Schedule, {"interruptions": items}, source="s")


def test_chaos_takes_positions_and_not_both(tmp_path: Path) -> None:
    """--at or --schedule; a schedule of seconds is refused before anything starts."""
    path = tmp_path / "schedule.json"
    path.write_text('{"interruptions": [{"node": 0, "at_seconds": 3.0, "kind": "kill"}]}', encoding="utf-8")
    for options in ([], ["--at", "node 0 at step 3", "--schedule", str(path)]):
        refused = CliRunner().invoke(chaos, [*options, "config.yaml", "train.py"])
        assert isinstance(refused.exception, InvalidInputError)
        assert refused.exception.expected == "either --at or --schedule"
    refused = CliRunner().invoke(chaos, ["--schedule", str(path), "config.yaml", "train.py"])
    assert isinstance(refused.exception, InvalidInputError)
    assert "--step-seconds" in str(refused.exception)


def test_seconds_become_steps_at_a_pace() -> None:
    """3 s at half a second per step are step 6; nothing happens before the first step."""
    items = [{"node": 0, "at_seconds": 0.1, "kind": "kill"}, {"node": 0, "at_seconds": 3.0, "kind": "kill"}]
    schedule = parse(Schedule, {"interruptions": items}, source="s")
    assert [item.by_position(0.5).at_step for item in schedule.interruptions] == [1, 6]
