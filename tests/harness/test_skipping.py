"""Data that is skipped on request: the same at every size and after every restart, logged, in the ledger's proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from harness.__main__ import main
from harness.config import load_run_config
from harness.data import SampleOrder
from harness.ledger import prove
from harness.run import Run
from harness.status import read_status
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import DataSkipped
from tests.harness.elastic_support import SAMPLES, Job, train_fleet
from tests.harness.run_support import write_config

BATCH, STEPS, AT, SKIPPED = 12, 8, 4, 3


def note(_run: Run, step: Any, _optimizer: Any, seen: dict[str, Any]) -> None:
    seen[step.number] = step.indices.tolist()


JOB = Job(steps=STEPS, batch=BATCH, on_step=note)
ONCE_CUT = Job(steps=STEPS, batch=BATCH, nodes="1:2", interrupt=(1, AT - 2), on_step=note)


def config_in(folder: Path, *skips: tuple[int, int]) -> Path:
    """harness.yaml with a ledger and skips of (at_step, steps)."""
    asked = [{"at_step": at_step, "steps": steps} for at_step, steps in skips]
    return write_config(folder, data={"ledger": True, "skip": asked}, checkpoint={"interval": {"steps": 1000}})


def test_skipped_data_is_not_used_at_any_size(tmp_path: Path) -> None:
    """Two ranks are interrupted where the skip begins; one goes on: the samples are those of the order without it."""
    config = config_in(tmp_path, (AT, SKIPPED))
    assert [ended.code for ended in train_fleet(tmp_path, config, 2, ONCE_CUT)] == [75, 75]
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert status.step == AT  # the checkpoint is of the moment before the skip
    ended = train_fleet(tmp_path, config, 1, JOB)[0]
    order = SampleOrder(SAMPLES, load_run_config(config).seed)
    for step in range(AT, STEPS):
        begin = (step + SKIPPED) * BATCH
        assert ended.seen[step] == order.at(np.arange(begin, begin + BATCH)).tolist()
    events = [event for event in read_telemetry(tmp_path).events if isinstance(event, DataSkipped)]
    assert [(event.step, event.samples) for event in events] == [(AT, SKIPPED * BATCH)]
    proof = prove([tmp_path / "bucket"])
    assert proof.proven, proof.problems
    assert (proof.samples_used, proof.samples_skipped) == (STEPS * BATCH, SKIPPED * BATCH)
    told = CliRunner().invoke(main, ["ledger", str(tmp_path / "bucket")])
    assert f"{SKIPPED * BATCH} samples skipped on request" in told.output

    # The next start does not skip again, though the config still asks for it; a skip that comes too late is refused.
    again = train_fleet(tmp_path, config, 1, Job(steps=STEPS + 1, batch=BATCH, on_step=note))[0]
    begin = (STEPS + SKIPPED) * BATCH
    assert again.seen == {STEPS: order.at(np.arange(begin, begin + BATCH)).tolist()}
    late = config_in(tmp_path, (AT, SKIPPED), (AT + 1, 1))
    assert train_fleet(tmp_path, late, 1, Job(steps=STEPS + 2, batch=BATCH))[0].code == 2
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert f"at_step {AT + 1}" in str(status.message)


def test_a_ledger_without_its_skip_is_refuted(tmp_path: Path) -> None:
    """What was passed over without a word is a gap."""
    config = config_in(tmp_path, (1, 1))
    train_fleet(tmp_path, config, 1, Job(steps=5, batch=BATCH))
    assert prove([tmp_path / "bucket"]).proven
    (ledger,) = (tmp_path / "bucket").rglob("ledger-*.jsonl")
    copy = tmp_path / "copy" / ledger.name
    copy.parent.mkdir()
    lines = ledger.read_text().splitlines(keepends=True)
    copy.write_text("".join(line for line in lines if "skipped_before" not in line))
    assert not prove([copy]).proven
