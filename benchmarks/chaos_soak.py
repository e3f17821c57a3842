"""Counted chaos: many short real jobs, each interrupted by a schedule of its own, each proven afterwards.

    python -m benchmarks chaos_soak [--pieces 60] [--parallel 2] [--folder build/chaos-soak] [--minutes M]

A piece is one job of 120 steps under one schedule of `planner schedule`, on a rigid fleet of 2 nodes or an elastic one
of 1 to 2 or 1 to 3.  By turns the schedule is a simulated run under exponential lifetimes (notices, some not acted on),
one under Weibull lifetimes (likewise), and a trace of capacity (kills, several nodes at once), which is a seeded random
walk.  A run with fewer than 3 interruptions is passed over and the next run number taken; of longer schedules the first
4 are used.  So each piece has interruptions: that counts schedules, and is no sample of the market.  Every third piece
has a cut link, a second launch (split brain) or the death of the store besides.  `python -m harness chaos` runs it and
gives the verdict.

It can be stopped at any time: what is done is in FOLDER/pieces.jsonl, and is not done again, unless it failed: then the
failure is moved to FOLDER/failed.jsonl.  Prints the counts so far.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.processes import die_with_parent

TRAIN = Path(__file__).resolve().parent / "tiny_training.py"
STEPS, STEP_SECONDS = 120, 0.15
LONG_STEP_SECONDS = 0.5
"""With a split brain: the second launch must be up before the first one has finished."""
FLEETS = ("1:2", "2", "1:3")
MARKETS = ("exponential", "weibull", "trace")
HORIZON_HOURS, PLAN_HOURS_PER_STEP = 12.0, 0.15
"""The schedule's 12 hours are the first 80 steps."""
FEWEST, MOST = 3, 4
"""Interruptions of a schedule."""
TRACE_GAP_SECONDS = 1800
BESIDES = ("cut", "split-brain", "store-death")
BESIDES_STEP = 20
TOLERANCE = 1e-4


def schedule_of(piece: int, nodes: str, folder: Path) -> list[dict[str, Any]]:
    """The interruptions of `piece`, and one besides in every third."""
    maximum = int(nodes.split(":")[-1])
    market = MARKETS[(piece // len(FLEETS)) % len(MARKETS)]
    found: list[dict[str, Any]] = []
    number = piece
    while len(found) < FEWEST:
        found = _planner_schedule(
            _trace(number, maximum, folder) if market == "trace" else _market(market, number, maximum)
        )
        number += 1000  # the run numbers of other pieces are theirs
    found = found[:MOST]
    turn = piece // 3
    if (piece + turn) % 3 == 0:  # another fleet every time
        besides = BESIDES[(turn // 3) % len(BESIDES)]
        item: dict[str, Any] = {"at_step": BESIDES_STEP, "kind": besides}
        if besides == "cut" or (besides == "store-death" and ":" not in nodes):
            item |= {"kind": "cut", "node": 1, "cut_seconds": 15}
        found = sorted([*found, item], key=lambda i: int(i["at_step"]))
    return found


def _market(distribution: str, run: int, maximum: int) -> dict[str, object]:
    """Simulated run number `run`: about 5 interruptions of the fleet."""
    options: dict[str, object] = {"nodes": maximum, "run": run, "notice-seconds": 25, "notice-success": 0.6}
    if distribution == "exponential":
        return options | {"rate-per-hour": 0.45 / maximum}
    return options | {
        "lifetime-distribution": "weibull",
        "lifetime-shape": 0.7,
        "lifetime-scale-hours": 1.75 * maximum,
    }


def _trace(number: int, maximum: int, folder: Path) -> dict[str, object]:
    """A walk of the capacity between none and all, by one or two nodes each hour and a half or so."""
    draw = random.Random(number)
    counts = [maximum]
    for _ in range(int(2 * HORIZON_HOURS * 3600 / TRACE_GAP_SECONDS)):
        change = draw.choice((-2, -1, 1, 1, 2)) if draw.random() < 0.4 else 0
        counts.append(min(maximum, max(0, counts[-1] + change)))
    path = folder / "trace.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": TRACE_GAP_SECONDS}, "data": counts}), encoding="utf-8")
    return {"trace": path, "nodes": maximum}


def _planner_schedule(options: dict[str, object]) -> list[dict[str, Any]]:
    options = options | {"horizon-hours": HORIZON_HOURS, "time-scale": PLAN_HOURS_PER_STEP, "step-seconds": 1}
    command = [sys.executable, "-m", "planner", "schedule", "--json"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["interruptions"]
    return [{**item, "at_step": max(1, item["at_step"])} for item in found]


@dataclass
class Piece:
    """One job under its schedule, while it runs."""

    number: int
    nodes: str
    scheduled: int
    place: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, number: int, folder: Path) -> Piece:
        """Begin it below `folder`."""
        nodes = FLEETS[number % len(FLEETS)]
        place = folder / f"piece-{number:04d}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        config = place / "harness.yaml"
        document = {
            "run_id": "soak",
            "seed": 5,
            "checkpoint": {"directory": str(place / "unused"), "remote": str(place / "unused")},
            "notices": {"notice_seconds": 25, "emergency_budget_seconds": 15},
            "telemetry": {"directory": str(place / "unused")},
            # Ten seconds until a node counts as dead: on a busy machine, five are not enough.
            "torchrun": {"process_group_timeout_seconds": 8, "rdzv_conf": {"keep_alive_max_attempt": 10}},
        }
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        schedule = place / "schedule.yaml"
        interruptions = schedule_of(number, nodes, place)
        schedule.write_text(yaml.safe_dump({"interruptions": interruptions}, sort_keys=False), encoding="utf-8")
        reference = _reference(folder, nodes)
        options: list[object] = ["--folder", place / "chaos", "--nodes", nodes, "--schedule", schedule, "--json"]
        options += ["--tolerance", TOLERANCE, "--replace-after-steps", 5]
        if reference.is_dir():
            options += ["--reference", reference]
        split = any(item["kind"] == "split-brain" for item in interruptions)
        pace = LONG_STEP_SECONDS if split else STEP_SECONDS
        command = [sys.executable, "-m", "harness", "chaos", *options, config, TRAIN, STEPS, pace]
        with (place / "verdict.json").open("wb") as said, (place / "errors.log").open("wb") as errors:
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=said,
                stderr=errors,
                process_group=0,  # a Ctrl-C is for the soak, which passes it on once
                preexec_fn=_end_with_this,  # noqa: PLW1509  this process has no other threads
            )
        return cls(number, nodes, len(interruptions), place, process)

    def record(self, folder: Path) -> dict[str, Any]:
        """What it says, now that it has ended: one line of the record."""
        try:
            verdict = json.loads((self.place / "verdict.json").read_text(encoding="utf-8"))
        except ValueError:
            said = (self.place / "errors.log").read_text(encoding="utf-8").strip().splitlines()[-1:]
            verdict = {"passed": False, "problems": [f"exit code {self.process.returncode}", *said]}
        made, reference = self.place / "chaos" / "reference" / "bucket", _reference(folder, self.nodes)
        if made.is_dir() and verdict["passed"] and not reference.exists():
            made.rename(reference)
        if verdict["passed"]:
            shutil.rmtree(self.place)  # a piece that failed is kept to be looked at
        return {"piece": self.number, "nodes": self.nodes, "scheduled": self.scheduled, **verdict}

    def stop(self) -> None:
        """`chaos` takes down what it has started."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def _reference(folder: Path, nodes: str) -> Path:
    """Durable target of the uninterrupted run of a fleet that is whole."""
    return folder / f"reference-{nodes.rpartition(':')[2]}"


def _end_with_this() -> None:
    die_with_parent(signal.SIGTERM)


def counts(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the record adds up to."""
    happened = [item for record in records for item in record.get("happened", []) if item["fired"]]
    seconds = sorted(record.get("wall_seconds", 0.0) for record in records) or [0.0]
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
        "median_piece_seconds": round(seconds[len(seconds) // 2]),
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What has been done."""
    path = folder / "pieces.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _set_failures_aside(folder: Path) -> None:
    """A piece that failed is done again; its record is kept apart."""
    records = read_records(folder)
    failed = [record for record in records if not record["passed"]]
    if failed:
        with (folder / "failed.jsonl").open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(record) + "\n" for record in failed)
        kept = "".join(json.dumps(record) + "\n" for record in records if record["passed"])
        (folder / "pieces.jsonl").write_text(kept, encoding="utf-8")


def soak(folder: Path, pieces: int, *, parallel: int = 1, minutes: float = float("inf")) -> list[dict[str, Any]]:
    """Do what is missing of `pieces`, `parallel` at a time, for about `minutes`; everything that is on record."""
    folder.mkdir(parents=True, exist_ok=True)
    _set_failures_aside(folder)
    end = time.monotonic() + 60.0 * minutes
    done = {record["piece"] for record in read_records(folder)}
    missing = [piece for piece in range(pieces) if piece not in done]
    running: list[Piece] = []
    try:
        while running or (missing and time.monotonic() < end):
            while missing and len(running) < parallel and time.monotonic() < end:
                running.append(Piece.start(missing.pop(0), folder))
            time.sleep(0.2)
            for piece in [piece for piece in running if piece.process.poll() is not None]:
                running.remove(piece)
                record = piece.record(folder)
                with (folder / "pieces.jsonl").open("a", encoding="utf-8") as out:
                    out.write(json.dumps(record) + "\n")
                verdict = "passed" if record["passed"] else record["problems"]
                print(f"piece {piece.number} ({piece.nodes}): {verdict}", flush=True)
    finally:
        for piece in running:
            piece.stop()
    return read_records(folder)


def main(arguments: list[str]) -> int:
    """Exit code 1 when any piece failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=2, help="pieces at a time, each in a process of its own")
    parser.add_argument("--folder", type=Path, default=Path("build/chaos-soak"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args(arguments)
    records = soak(options.folder.resolve(), options.pieces, parallel=options.parallel, minutes=options.minutes)
    for name, value in counts(records).items():
        print(f"{name:28} {value}")
    return 0 if all(record["passed"] for record in records) else 1
