"""Counted chaos: many short real jobs, each interrupted by a schedule of its own, each proven afterwards.

    python -m benchmarks chaos_soak [--pieces 60] [--folder build/chaos-soak] [--minutes M]

A piece is one job of 300 steps under one schedule: what one simulated run (number 0, 1, 2, …) of a fleet on the spot
market does to its nodes, at a time scale (`planner schedule`), in rotation under a rigid fleet of 2 nodes and elastic
ones of 1 to 2 and 1 to 3, every fifth one with a cut link, a second launch (split brain) or the death of the store
besides.  `python -m harness chaos` runs it and gives the verdict.

It can be stopped at any time: what is done is in FOLDER/pieces.jsonl, and is not done again.  Prints the counts so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.processes import die_with_parent

TRAIN = Path(__file__).resolve().parent / "tiny_training.py"
STEPS, STEP_SECONDS = 300, 0.2
FLEETS = ("1:2", "2", "1:3")
HORIZON_HOURS, PLAN_HOURS_PER_STEP = 12.0, 0.05
"""The schedule's 12 hours are the first 240 steps."""
BESIDES = ("cut", "split-brain", "store-death")
TOLERANCE = 1e-4


def schedule_of(piece: int, nodes: str) -> list[dict[str, Any]]:
    """The interruptions of simulated run number `piece`, and one besides in every fifth."""
    maximum = int(nodes.split(":")[-1])
    options: dict[str, object] = {
        "rate-per-hour": 0.5 / maximum,
        "nodes": maximum,
        "horizon-hours": HORIZON_HOURS,
        "time-scale": PLAN_HOURS_PER_STEP,
        "step-seconds": 1,
        "notice-seconds": 25,
        "notice-success": 0.6,
        "run": piece,
    }
    command = [sys.executable, "-m", "planner", "schedule", "--json"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["interruptions"]
    if piece % 5 == 4:
        besides = BESIDES[(piece // 5) % len(BESIDES)]
        elastic = ":" in nodes
        item: dict[str, Any] = {"at_step": 60, "kind": besides}
        if besides == "cut":
            item |= {"node": 1, "kind": "cut", "cut_seconds": 20}
        if item["kind"] != "store-death" or elastic:
            found = sorted([*found, item], key=lambda i: int(i["at_step"]))
    return found


def run_piece(piece: int, folder: Path) -> dict[str, Any]:
    """One job under its schedule: what it says is one line of the record."""
    nodes = FLEETS[piece % len(FLEETS)]
    place = folder / f"piece-{piece:04d}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config = place / "harness.yaml"
    document = {
        "run_id": "soak",
        "seed": 5,
        "checkpoint": {"directory": str(place / "unused"), "remote": str(place / "unused")},
        "notices": {"notice_seconds": 25, "emergency_budget_seconds": 15},
        "telemetry": {"directory": str(place / "unused")},
        # Ten seconds until a node counts as dead: at the lowest priority of a busy machine, five are not enough.
        "torchrun": {"process_group_timeout_seconds": 8, "rdzv_conf": {"keep_alive_max_attempt": 10}},
    }
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    schedule = place / "schedule.yaml"
    interruptions = schedule_of(piece, nodes)
    schedule.write_text(yaml.safe_dump({"interruptions": interruptions}, sort_keys=False), encoding="utf-8")
    size = nodes.split(":")[-1]
    reference = folder / f"reference-{size}"
    options: list[object] = ["--folder", place / "chaos", "--nodes", nodes, "--schedule", schedule, "--json"]
    options += ["--tolerance", TOLERANCE, "--replace-after-steps", 5]
    if reference.is_dir():
        options += ["--reference", reference]
    command = [sys.executable, "-m", "harness", "chaos", *options, config, TRAIN, STEPS, STEP_SECONDS]
    # A soak that is stopped takes its piece along; `chaos` takes down what it has started.
    done = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_end_with_this,  # noqa: PLW1509  this process has no other threads
    )
    said = done.communicate()[0]
    try:
        verdict = json.loads(said)
    except ValueError:
        verdict = {"passed": False, "problems": [f"exit code {done.returncode}"]}
    made = place / "chaos" / "reference" / "bucket"
    if made.is_dir() and verdict["passed"] and not reference.exists():
        shutil.copytree(made, folder / "draft", dirs_exist_ok=True)
        (folder / "draft").rename(reference)
    if verdict["passed"]:
        shutil.rmtree(place)  # a piece that failed is kept to be looked at
    return {"piece": piece, "nodes": nodes, "scheduled": len(interruptions), **verdict}


def _end_with_this() -> None:
    die_with_parent(signal.SIGTERM)


def counts(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the record adds up to."""
    happened = [item for record in records for item in record.get("happened", []) if item["fired"]]
    return {
        "pieces": len(records),
        "schedules_with_interruptions": sum(bool(record.get("happened")) for record in records),
        "passed": sum(record["passed"] for record in records),
        "interruptions": len(happened),
        "by_kind": dict(sorted(Counter(item["interruption"]["kind"] for item in happened).items())),
        "membership_changes": sum(record.get("membership_changes", 0) for record in records),
        "launches": sum(record.get("launches", 0) for record in records),
        "lost_steps": sum(record.get("lost_steps", 0) for record in records),
        "weights_equal_bit_for_bit": sum(record.get("weights_difference") == 0.0 for record in records),
        "largest_weights_difference": max((r.get("weights_difference") or 0.0 for r in records), default=0.0),
        "samples_proven": sum(record.get("samples_proven") is True for record in records),
        "orphans": sum(record.get("orphans", 0) for record in records),
        "hours": round(sum(record.get("wall_seconds", 0.0) for record in records) / 3600.0, 2),
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What has been done."""
    path = folder / "pieces.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def soak(folder: Path, pieces: int, *, minutes: float = float("inf")) -> list[dict[str, Any]]:
    """Do what is missing of `pieces`, for about `minutes`; everything that is on record."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60.0 * minutes
    done = {record["piece"] for record in read_records(folder)}
    for piece in range(pieces):
        if piece in done:
            continue
        if time.monotonic() >= end:
            break
        record = run_piece(piece, folder)
        with (folder / "pieces.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
        print(f"piece {piece} ({record['nodes']}): {'passed' if record['passed'] else record['problems']}", flush=True)
    return read_records(folder)


def main(arguments: list[str]) -> int:
    """Exit code 1 when any piece failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("build/chaos-soak"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args(arguments)
    records = soak(options.folder.resolve(), options.pieces, minutes=options.minutes)
    for name, value in counts(records).items():
        print(f"{name:28} {value}")
    return 0 if all(record["passed"] for record in records) else 1
