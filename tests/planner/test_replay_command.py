"""`planner replay`: its document, its table, and a clear line for everything that a user can get wrong."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import planner
from planner.cli import main

SCHEMA = json.loads((Path(planner.__file__).parent / "schemas" / "replay.json").read_text(encoding="utf-8"))

# Ticks of six minutes; a job of 12 minutes with a deadline of 30 minutes and no overhead.
SERIES = [1, 0, 1, 1, 0, 0, 1, 1, 1, 1]
JOB = ("--work-hours", "0.2", "--deadline-hours", "0.5", "--restart-hours", "0", "--on-demand-usd-per-hour", "3")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "zone.json", SERIES)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "zone.csv"
    path.write_text("tick,usd_per_hour\n0,1\n2,2\n3,5\n", encoding="utf-8")
    return path


def write_trace(path: Path, data: list[Any], **more: Any) -> Path:
    metadata = {"gap_seconds": 360, **more.pop("metadata", {})}
    path.write_text(json.dumps({"metadata": metadata, "data": data, **more}), encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The document of a replay that must succeed; it fits its published schema."""
    code = main(["replay", *map(str, arguments), "--json"])
    output = capsys.readouterr()
    assert code == 0, output.err
    document = json.loads(output.out)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert isinstance(document, dict)
    return document


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an invocation that must be refused as bad input."""
    code = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    assert code == 2, (output.out, output.err)
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_document_by_hand(capsys: pytest.CaptureFixture[str], trace: Path, prices: Path) -> None:
    """Spot-only from tick 0: spot in ticks 0 and 2 at 1 and 2 USD/h, one tick of waiting, done after 18 minutes."""
    document = run(capsys, "--trace", trace, "--prices", prices, "--policy", "spot-only", *JOB)
    (window,) = document["windows"]
    assert window == pytest.approx(
        {
            "start_tick": 0,
            "cost_usd": 0.1 * 1 + 0.1 * 2,
            "finish_hours": 0.3,
            "met_deadline": True,
            "spot_hours": 0.2,
            "on_demand_hours": 0.0,
            "waiting_hours": 0.1,
            "launches": 2,
        }
    )
    assert document["mean_cost_usd"] == pytest.approx(0.3)
    assert document["mean_finish_hours"] == pytest.approx(0.3)
    assert (document["windows_met_deadline"], document["windows_unfinished"]) == (1, 0)
    assert document["on_demand_cost_usd"] == pytest.approx(0.6)
    assert document["schema_version"] == 1


def test_price_of_the_next_tick(capsys: pytest.CaptureFixture[str], trace: Path, prices: Path) -> None:
    """With `next`, ticks 0 and 2 are charged at the prices of ticks 1 and 3: 1 and 5."""
    options = ("--trace", trace, "--prices", prices, "--policy", "spot-only", "--spot-price-tick", "next", *JOB)
    assert run(capsys, *options)["mean_cost_usd"] == pytest.approx(0.6)


@pytest.mark.parametrize("starts", [("--window-start", 4, 2), ("--window-start", 4, "--window-start", 2)])
def test_several_windows(capsys: pytest.CaptureFixture[str], trace: Path, starts: tuple[object, ...]) -> None:
    """`--window-start 4 2` and the flag given twice are the same; results come in the order asked for."""
    options = ("--trace", trace, "--spot-usd-per-hour", 1, "--policy", "spot-only", *JOB, "--window-ticks", 5)
    document = run(capsys, *options, *starts)
    assert [window["start_tick"] for window in document["windows"]] == [4, 2]
    assert [window["finish_hours"] for window in document["windows"]] == pytest.approx([0.4, 0.2])
    assert document["mean_finish_hours"] == pytest.approx(0.3)


@pytest.mark.parametrize("policy", ["spot-only", "on-demand", "greedy", "uniform-progress", "adaptive"])
def test_every_policy_runs(capsys: pytest.CaptureFixture[str], trace: Path, policy: str) -> None:
    document = run(capsys, "--trace", trace, "--spot-usd-per-hour", 1, "--policy", policy, *JOB)
    assert document["policy"] == policy
    assert document["windows"][0]["met_deadline"]


def test_a_run_that_never_finishes_is_null_not_nan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dead = write_trace(tmp_path / "dead.json", [0] * 6)
    document = run(capsys, "--trace", dead, "--spot-usd-per-hour", 1, "--policy", "spot-only", *JOB)
    assert document["windows"][0]["finish_hours"] is None
    assert document["mean_finish_hours"] is None
    assert (document["windows_met_deadline"], document["windows_unfinished"]) == (0, 1)
    assert main(["replay", "--trace", str(dead), "--spot-usd-per-hour", "1", "--policy", "spot-only", *JOB]) == 0
    assert "1 not finished" in capsys.readouterr().out


def test_inverted_compressed_trace_with_its_own_prices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A probe file as GCP's: 1 is unavailable, prices and the on-demand price are inside."""
    plain = write_trace(
        tmp_path / "probe.json",
        [1, 0, 0, 1, 1, 1],
        prices=[1, 2, 4, 1, 1, 1],
        metadata={"price_info": {"on_demand_price": 50.0}},
    )
    packed = tmp_path / "probe.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    job = JOB[: JOB.index("--on-demand-usd-per-hour")]
    document = run(capsys, "--trace", packed, "--inverted", "--policy", "spot-only", *job)
    assert document["mean_cost_usd"] == pytest.approx(0.1 * 2 + 0.1 * 4)
    assert document["job"]["on_demand_usd_per_hour"] == 50.0


def test_a_gang_needs_all_its_nodes_and_pays_for_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Counts 4 1 4 4 0 0 0 with three nodes: up in ticks 0, 2; every price three times."""
    counts = write_trace(tmp_path / "counts.json", [4, 1, 4, 4, 0, 0, 0])
    document = run(capsys, "--trace", counts, "--nodes", 3, "--spot-usd-per-hour", 1, "--policy", "spot-only", *JOB)
    assert document["windows"][0]["finish_hours"] == pytest.approx(0.3)
    assert document["mean_cost_usd"] == pytest.approx(3 * 0.2)
    assert document["on_demand_cost_usd"] == pytest.approx(3 * 0.6)


def test_table_fits_a_pipe(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    """No line of the table is cut or wrapped in 80 columns, and the sentence on top says what matters."""
    options = ("--trace", trace, "--spot-usd-per-hour", 1, "--policy", "greedy", "--window-start", 0, 5)
    assert main(["replay", *map(str, options), *JOB]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("greedy: $0.20 on average over 2 windows, 66.7% less than $0.60 on demand")
    table = [line for line in lines if line.strip() and not line.startswith("Prices:")]
    assert all(len(line.rstrip()) <= 80 for line in table)
    assert not any("…" in line for line in table)


def test_environment_variables(
    capsys: pytest.CaptureFixture[str], trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNER_POLICY", "on-demand")
    document = run(capsys, "--trace", trace, *JOB)
    assert document["policy"] == "on-demand"
    assert document["prices"] == "none"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("--policy", "gredy"), "--policy: got 'gredy', expected one of spot-only, on-demand, greedy"),
        (("--deadline-hours", "0.1"), "--deadline-hours: got 0.1, expected at least the work itself, 0.2 hours"),
        (("--work-hours", "-1"), "--work-hours: got -1, expected a number > 0"),
        (("--restart-hours", "-1"), "--restart-hours: got -1, expected a number >= 0"),
        (("--window-start", "10"), "--window-start: got 10, expected a tick of the trace, 0 to 9"),
        (("--window-start", "6", "--window-ticks", "5"), "a window inside the trace's 10 ticks"),
        (("--window-ticks", "4"), "--window-ticks: got 4, expected a window that holds the deadline: 5 ticks"),
        (("--window-start", "1.5"), "--window-start: got 1.5, expected a whole number"),
        (("--spot-price-tick", "last"), "--spot-price-tick: got 'last', expected one of same, next"),
        (("--nodes", "0"), "--nodes: got 0, expected a whole number >= 1"),
        (("--prices", "zone.csv"), "--spot-usd-per-hour: got 1, expected nothing beside --prices"),
        (("7",), "argument: got 7, expected a flag before it (as in --window-start 5 9)"),
    ],
)
def test_bad_flags(capsys: pytest.CaptureFixture[str], trace: Path, change: tuple[str, ...], expected: str) -> None:
    """One line that names the flag, the value and what would be right."""
    base = ["--trace", trace, "--spot-usd-per-hour", 1, "--policy", "greedy", *JOB]
    assert expected in fail(capsys, *base, *change)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not a trace", "expected a trace"),
        ("{", "expected valid JSON"),
        ('{"metadata": {}, "data": [1]}', "metadata.gap_seconds: got 'nothing'"),
        ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "metadata.gap_seconds: got 0"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, 0.5]}', "data[1]: got 0.5"),
        ('{"metadata": {"gap_seconds": 60}, "data": []}', "data: got '[]'"),
        (
            '{"metadata": {"gap_seconds": 360}, "data": [1,1,1,1,1,1], "prices": [1]}',
            "prices: got 1, expected one price",
        ),
        ('{"metadata": {"gap_seconds": 360}, "data": [1,1,1,1,1,1], "prices": [1,1,1,1,1,null]}', "prices[5]: got"),
        ("0,add,a\n1000,remove,a\n", "a file of membership"),
        ("lifetime_s,end_event\n3600,preempted\n", "a file of lifetimes"),
    ],
)
def test_bad_traces(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, expected: str) -> None:
    """The line names the file and the place in it."""
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    line = fail(capsys, "--trace", path, "--policy", "greedy", *JOB)
    assert "bad.json" in line
    assert expected in line


def test_a_trace_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fail(capsys, "--trace", tmp_path / "no.json", "--spot-usd-per-hour", 1, "--policy", "greedy", *JOB)
    assert "no.json" in line
    assert "an existing file" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the columns tick,usd_per_hour"),
        ("tick,price\n0,1\n", "the columns tick,usd_per_hour"),
        ("tick,usd_per_hour\n", "at least the price at tick 0"),
        ("tick,usd_per_hour\n3,1\n", "line 2, tick: got 3, expected 0"),
        ("tick,usd_per_hour\n0,1\n0,2\n", "line 3, tick: got 0, expected a tick after the previous row's, 0"),
        ("tick,usd_per_hour\n0,1\n2,cheap\n", "line 3, usd_per_hour: got 'cheap', expected a finite price >= 0"),
        ("tick,usd_per_h\n0,-1\n", "line 2, usd_per_h: got '-1', expected a finite price >= 0"),
        ("tick,usd_per_hour\nx,1\n", "line 2, tick: got 'x', expected a whole number >= 0"),
        ("tick,usd_per_hour\n0\n", "line 2, usd_per_hour: got 'nothing'"),
    ],
)
def test_bad_prices(capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    assert expected in fail(capsys, "--trace", trace, "--prices", path, "--policy", "greedy", *JOB)


def test_prices_are_asked_for(capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path) -> None:
    """No spot price at all, a price file that is missing, and no on-demand price."""
    line = fail(capsys, "--trace", trace, "--policy", "greedy", *JOB)
    assert "--prices: got 'nothing', expected a file of price changes, or --spot-usd-per-hour" in line
    assert "an existing file" in fail(
        capsys, "--trace", trace, "--prices", tmp_path / "no.csv", "--policy", "greedy", *JOB
    )
    job = JOB[: JOB.index("--on-demand-usd-per-hour")]
    line = fail(capsys, "--trace", trace, "--spot-usd-per-hour", 1, "--policy", "greedy", *job)
    assert "--on-demand-usd-per-hour: got 'nothing'" in line


def test_help_imports_nothing_heavy() -> None:
    """`planner replay --help` answers without numpy and numba."""
    code = (
        "import sys; from planner.cli import main; main(['replay', '--help']); "
        "sys.exit(bool({'numpy', 'numba', 'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--window-start TICK..." in done.stdout
