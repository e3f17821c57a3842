"""The ledger: exactly once per epoch, proven from what the ranks wrote down, and refuted where it is not so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.__main__ import main
from harness.errors import InvalidInputError
from harness.ledger import LedgerHead, prove
from harness.ledger_writer import LedgerWriter
from tests.harness.elastic_support import SAMPLES, Job, train_fleet
from tests.harness.run_support import write_config

STEPS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 → 2 → 1 ranks, 13 samples a step, each launch interrupted at a step."""
    folder = tmp_path_factory.mktemp("ledger")
    config = write_config(folder, data={"ledger": True}, checkpoint={"interval": {"steps": 1000}})
    job = Job(steps=STEPS, batch=13, nodes="1:3")
    assert train_fleet(folder, config, 3, Job(**{**job.__dict__, "interrupt": (2, 3)}))[0].code == 75
    assert train_fleet(folder, config, 2, Job(**{**job.__dict__, "interrupt": (0, 8)}))[0].code == 75
    assert train_fleet(folder, config, 1, job)[0].code == 0
    return folder


def test_three_sizes_use_every_sample_once_per_epoch(folder: Path) -> None:
    """The proof names the history; node directories and the bucket hold the same ledgers."""
    proof = prove([folder])
    assert proof.proven, proof.problems
    assert (proof.steps, proof.samples_used, proof.samples) == (STEPS, STEPS * 13, SAMPLES)
    assert [(part.world_size, part.first_step, part.steps) for part in proof.history] == [
        (3, 0, 5),
        (2, 5, 5),
        (1, 10, 6),
    ]
    assert prove([folder / "bucket"]) == proof
    assert proof.epochs_complete == STEPS * 13 // SAMPLES == 3


def test_the_command_proves_and_refutes(folder: Path, tmp_path: Path) -> None:
    """Exit 0 and one line that says so; after one index was changed, exit 1 and which sample."""
    good = CliRunner().invoke(main, ["ledger", str(folder / "bucket")])
    assert good.exit_code == 0
    assert "proven: 3 complete epochs" in good.output
    for file in (folder / "bucket").rglob("ledger-*.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = next(tmp_path.glob("ledger-g000002-r00001.jsonl"))
    lines = victim.read_text().splitlines()
    record = json.loads(lines[2])
    other = json.loads(lines[1])["indices"][0]
    record["indices"][0] = other
    victim.write_text("\n".join([*lines[:2], json.dumps(record), *lines[3:]]) + "\n")
    bad = CliRunner().invoke(main, ["ledger", str(tmp_path), "--json"])
    assert bad.exit_code == 1
    document = json.loads(bad.output)
    assert not document["proven"]
    assert any("more than once" in problem for problem in document["problems"])


def test_gaps_are_no_proof(folder: Path, tmp_path: Path) -> None:
    """A missing rank, a missing step, a missing attempt: each is named; nothing at all is bad input."""

    def copy() -> Path:
        target = tmp_path / str(len(list(tmp_path.iterdir())))
        target.mkdir()
        for file in (folder / "bucket").rglob("ledger-*.jsonl"):
            (target / file.name).write_bytes(file.read_bytes())
        return target

    without_rank = copy()
    (without_rank / "ledger-g000001-r00002.jsonl").unlink()
    assert any("no ledger of rank 2" in problem for problem in prove([without_rank]).problems)
    torn = copy()
    file = torn / "ledger-g000003-r00000.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], *lines[4:]]) + "\n" + '{"step": 99, "ind')
    assert any("step 12: not written down" in problem for problem in prove([torn]).problems)
    full = copy()  # a full disk: one rank's head was cut short, a line of another's in the middle
    (full / "ledger-g000001-r00001.jsonl").write_text('{"ledger_version": 1, "ru')
    for name in ("ledger-g000001-r00001.jsonl", "ledger-g000001-r00000.jsonl"):
        lines = (full / name).read_text().splitlines()
        (full / name).write_text("\n".join([*lines[:1], *(line[:14] for line in lines[1:2]), *lines[2:]]) + "\n")
    problems = prove([full]).problems
    assert any("generation 1: no ledger of rank 1" in problem for problem in problems)
    assert any("generation 1, step 0: not written down" in problem for problem in problems)
    (tmp_path / "ledger-g000009-r00000.jsonl").write_text("")
    with pytest.raises(InvalidInputError, match="cut off in its first line"):
        prove([tmp_path / "ledger-g000009-r00000.jsonl"])
    gap = copy()
    for rank in (0, 1):
        (gap / f"ledger-g000002-r0000{rank}.jsonl").unlink()
    assert any(
        "began at step 10, position 130; the history before it ends at step 5" in p for p in prove([gap]).problems
    )
    with pytest.raises(InvalidInputError, match=r"data\.ledger"):
        prove([tmp_path / "nothing"])


def test_a_disk_that_takes_half_a_line_costs_that_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next line begins on its own: the proof misses one step, and reads the others."""
    head = LedgerHead(
        run_id="r",
        generation=1,
        rank=0,
        world_size=1,
        samples=9,
        start_step=0,
        start_position=0,
        global_batch_samples=1,
    )
    path = tmp_path / "ledger-g000001-r00000.jsonl"
    ledger, write = LedgerWriter(path, head), os.write
    for step in range(3):
        with monkeypatch.context() as disk:
            if step == 1:
                disk.setattr("harness.ledger_writer.os.write", lambda to, data: write(to, data[: len(data) // 2]))
            ledger.record(step, np.array([step]))
    ledger.close()
    proof = prove([tmp_path])
    assert proof.steps == 3
    assert proof.problems[0] == "generation 1, step 1: not written down by every rank"
    assert not any("step 2" in problem for problem in proof.problems)


def test_steps_that_were_rolled_back_do_not_count(folder: Path, tmp_path: Path) -> None:
    """An attempt that did ten steps and was lost, with a later one from its fifth: only five are in the history."""
    for file in (folder / "bucket").rglob("ledger-*.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    # As if generation 1 had gone on for two steps that nobody saved.
    for rank in range(3):
        with (tmp_path / f"ledger-g000001-r{rank:05d}.jsonl").open("a") as ledger:
            for step in (5, 6):
                ledger.write(json.dumps({"step": step, "indices": [1, 2]}) + "\n")
    proof = prove([tmp_path])
    assert proof.proven, proof.problems
    assert proof.history[0].rolled_back_steps == 2
