"""Chaos: positions, and real runs that are noticed, killed, cut off and joined, finished and judged."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.command import parse_nodes
from harness.chaos.interruptions import Interruption, parse_position
from harness.chaos.judge import Happened, Verdict, lost_steps_bound
from harness.errors import InvalidInputError
from harness.processes import descendants, kill_tree, wait_gone
from harness.telemetry.reader import FILE_PATTERN
from harness.validation import parse
from tests.harness.run_support import ROOT, write_config
from tests.harness.test_launch import until

TINY = ROOT / "benchmarks" / "tiny_training.py"


def test_positions_are_read_as_they_are_described() -> None:
    """What a person types is what the verdict says."""
    item = parse_position("node 1 at step 7 during upload:between_files")
    assert item == Interruption(node=1, at_step=7, kind="kill", during="upload:between_files")
    for text in (
        "node 1 at step 7 kill during upload:between_files",
        "node 0 at step 3 notice 30 s",
        "node 0 at step 3 late-notice 2.5 s",
        "node 2 at step 5 cut 12 s",
        "node 1 at step 5 join",
        "store-death at step 9",
        "split-brain at step 9",
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
        ({"at_step": 3, "kind": "kill"}, "node with kind: kill"),
        ({"node": 0, "at_step": 3, "kind": "store-death"}, "no node with kind: store-death"),
        ({"node": 0, "at_step": 3, "kind": "cut"}, "cut_seconds"),
        ({"node": 0, "at_step": 3, "kind": "kill", "cut_seconds": 3}, "cut_seconds with kind: cut, and only there"),
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


@pytest.mark.parametrize(("text", "nodes"), [("2", (2, 2)), ("1:3", (1, 3))])
def test_sizes_of_a_fleet(text: str, nodes: tuple[int, int]) -> None:
    """N, or MIN:MAX."""
    assert parse_nodes(text) == nodes


@pytest.mark.parametrize("text", ["1", "3:2", "0:2", "11", "two", "2:", "1:2:3"])
def test_fleets_that_cannot_be_interrupted_are_refused(text: str) -> None:
    """One node alone, an upside-down range, more than one machine takes, and nonsense."""
    with pytest.raises(InvalidInputError, match=r"--nodes.*2 to 10, or MIN:MAX"):
        parse_nodes(text)


def test_what_a_run_may_lose() -> None:
    """Two intervals for what nobody announced in time, three for a split brain, nothing for a notice or a newcomer."""
    kinds = ("notice", "join", "kill", "late-notice 1 s", "cut 9 s")
    items = [parse_position(f"node 0 at step 1 {kind}") for kind in kinds]
    items += [parse_position("store-death at step 1"), parse_position("split-brain at step 1")]
    bounds = [lost_steps_bound([Happened(interruption=item, fired=True)], 5) for item in items]
    assert bounds == [0, 0, 10, 10, 10, 10, 15]


def judged(place: Path, *options: str) -> Verdict:
    """The verdict of ``chaos`` in a process of its own, which must have passed."""
    config = write_config(place / "config", torchrun={"process_group_timeout_seconds": 5})
    folder = place / "chaos"
    command = [sys.executable, "-m", "harness", "chaos", "--folder", str(folder), *options]
    done = subprocess.run([*command, str(config), str(TINY), "200"], capture_output=True, text=True)
    logs = "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in sorted(folder.rglob("logs/*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert all(item.fired for item in verdict.happened)
    assert (verdict.passed, verdict.orphans, verdict.samples_proven) == (True, 0, True)
    return verdict


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_silent_link_changes_nothing(tmp_path: Path) -> None:
    """A rigid fleet: the others notice by the process group's timeout, and what was cut off changes nothing any more.

    As root the link is cut between network namespaces, else the node is stopped.
    """
    cut = judged(tmp_path, "--at", "node 1 at step 6 cut 8 s")
    assert cut.weights_difference == 0.0
    assert cut.happened[0].noticed_seconds is not None
    assert cut.lost_steps <= cut.lost_steps_bound == 10
    assert cut.launches == 4


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_newcomer_and_a_kill_inside_an_upload_change_nothing(tmp_path: Path) -> None:
    """An elastic fleet, its nodes in processes: 1 → 2 → 1."""
    options = ["--network", "processes", "--nodes", "1:2", "--tolerance", "1e-5", "--replace-after-steps", "1000"]
    options += ["--at", "node 1 at step 5 join", "--at", "node 1 at step 6 during upload:between_files"]
    killed = judged(tmp_path, *options)
    assert killed.sizes == (1, 2, 1)
    assert killed.lost_steps <= killed.lost_steps_bound == 10


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    """Exit 130, and no process that has this run's folder on its command line."""
    config = write_config(tmp_path / "config")
    command = [
        sys.executable,
        "-m",
        "harness",
        "chaos",
        "--folder",
        str(tmp_path / "chaos"),
        "--at",
        "node 1 at step 9",
    ]
    process = subprocess.Popen([*command, str(config), str(TINY), "1000000", "1"])
    try:
        telemetry = tmp_path / "chaos" / "node-1" / "telemetry"
        until("training", lambda: any(telemetry.glob(FILE_PATTERN)), process)
        everything = descendants(process.pid)
        assert len(everything) >= 4  # two launches and their agents
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert wait_gone(everything, 10.0) == []
    finally:
        kill_tree(process.pid)
        process.wait()
