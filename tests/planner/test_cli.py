"""The command line's manners: light start, help, exit codes, one line per mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.cli import COMMANDS
from tests.planner.conftest import Outcome
from tests.planner.golden_files import assert_golden

Planner = Callable[..., Outcome]
ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"numpy", "pandas", "numba", "scipy", "boto3", "torch", "streamlit", "matplotlib", "pydantic", "yaml", "rich"}
JOB = ("--instance", "p4d.24xlarge", "--work-hours", "100", "--checkpoint-gib", "50")


def loaded_modules(*arguments: str) -> set[str]:
    """Top-level modules in memory after `planner ARGUMENTS` in a fresh interpreter."""
    code = (
        "import sys, json, contextlib, io\n"
        "from planner.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()): code = main({list(arguments)!r})\n"
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    code_, names = json.loads(result.stdout.splitlines()[-1])
    assert code_ == 0, result.stderr
    return set(names)


def test_help_imports_nothing_heavy() -> None:
    """`planner --help` costs what Python and click cost."""
    loaded = loaded_modules("--help")
    assert "click" in loaded
    assert not loaded & HEAVY


def test_recommend_needs_neither_torch_nor_streamlit_nor_boto3() -> None:
    """The main question is answered without the other half of the product and without a cloud library."""
    loaded = loaded_modules("recommend", *JOB, "--runs", "200", "--zone", "use1-az2", "--json")
    assert "numba" in loaded
    assert not loaded & {"torch", "streamlit", "boto3", "botocore", "matplotlib", "pandas"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_golden(planner: Planner, command: str) -> None:
    """What a command says about itself changes only on purpose."""
    outcome = planner(*([command] if command else []), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert max(len(line) for line in outcome.out.splitlines()) <= 100
    assert_golden(f"help-{command or 'planner'}.txt", outcome.out)


def test_every_command_answers_to_short_help(planner: Planner) -> None:
    """-h is --help."""
    assert planner("simulate", "-h").out == planner("simulate", "--help").out


def write(path: Path, text: str | bytes) -> None:
    """Text or bytes into a file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


FILES: dict[str, str | bytes] = {
    "unknown_key.yaml": "job: {work_hours: 100, checkpoint_gb: 50}\n",
    "unknown_section.yaml": "jobs: {work_hours: 100}\n",
    "nan.yaml": "job: {work_hours: .nan}\n",
    "text.yaml": "job: {work_hours: a lot}\n",
    "quoted.yaml": 'job: {work_hours: "100"}\n',
    "boolean.yaml": "job: {work_hours: true}\n",
    "list.yaml": "- 1\n- 2\n",
    "section.yaml": "job: 5\n",
    "empty.yaml": "",
    "corrupt.yaml": "job: {work_hours: [100\n",
    "corrupt.json": '{"job": {',
    "binary.yaml": b"\xff\xfe\x00\x01",
    "two_rates.yaml": "market: {lifetime: {distribution: exponential, rate_per_hour: 1, probability_per_hour: 0.5}}\n",
    "distribution.yaml": "market: {lifetime: {distribution: weibul, shape: 1, scale_hours: 2}}\n",
    "shape.yaml": "market: {lifetime: {distribution: weibull, shape: -1, scale_hours: 2}}\n",
    "lifetime_key.yaml": "market: {lifetime: {distribution: weibull, shap: 1, scale_hours: 2}}\n",
    "interval.yaml": "checkpoint: {interval_seconds: often}\n",
    "number_key.yaml": "job: {1: 2}\n",
}

MISTAKES: tuple[tuple[str, ...], ...] = (
    ("recomend",),
    ("recommend", "--instanse", "p4d.24xlarge"),
    ("recommend",),
    ("recommend", "--instance", "p4d.24xlarg", "--work-hours", "100", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "100"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "-100", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "nan", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "1e400", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "hundred", "--checkpoint-gib", "50"),
    ("recommend", "--instance", "p4d.24xlarge", "--work-hours"),
    ("recommend", *JOB, "--zone", "use1-az9"),
    ("recommend", *JOB, "--region", "us-east1"),
    ("recommend", *JOB, "--provider", "amazon"),
    ("recommend", *JOB, "--provider", "gcp"),
    ("recommend", *JOB, "--nodes", "0"),
    ("recommend", *JOB, "--nodes", "1.5"),
    ("recommend", *JOB, "--nodes", "2", "--min-nodes", "3"),
    ("recommend", *JOB, "--assume", "boot_secs=1"),
    ("recommend", *JOB, "--assume", "boot_seconds"),
    ("recommend", *JOB, "--assume", "boot_seconds=-1"),
    ("recommend", *JOB, "--step-seconds", "0"),
    ("recommend", *JOB, "--seed", "-1"),
    ("recommend", *JOB, "--provision-seconds", "600"),
    ("recommend", *JOB, "--profile", "missing.json"),
    ("recommend", *JOB, "--interruption-log", "missing.csv"),
    ("recommend", "--jobs", "missing.yaml"),
    ("data", "chek"),
    ("prices", "--instance", "p4d.24xlarg"),
    ("recommend", *JOB, "--lifetime-distribution", "weibul"),
    ("recommend", *JOB, "--lifetime-shape", "0.6"),
    ("recommend", *JOB, "--rate-per-hour", "0.1", "--probability-per-hour", "0.1"),
    ("recommend", *JOB, "--lifetime-file", "x.csv"),
    ("recommend", *JOB, "--run-id", "../up", "--emit", "out", "--zone", "use1-az2", "--runs", "100"),
    ("recommend", *JOB, "--remote", "ftp://x", "--emit", "out", "--zone", "use1-az2", "--runs", "100"),
    ("recommend", *JOB, "--emit", "nan.yaml", "--zone", "use1-az2", "--runs", "100"),
    ("simulate", "missing.yaml"),
    ("simulate", "."),
    *(("simulate", name) for name in FILES),
    ("simulate", "unknown_key.yaml", "extra.yaml"),
    ("simulate", "--work-hours", "10"),
    ("simulate", "--work-hours", "10", "--spot-usd-per-hour", "1"),
    ("simulate", "--work-hours", "10", "--spot-usd-per-hour", "1", "--rate-per-hour", "0.1"),
    ("simulate", *JOB, "--notice-success", "1.5"),
    ("simulate", *JOB, "--interval-seconds", "soon"),
    ("simulate", *JOB, "--interval-seconds", "0"),
    ("simulate", *JOB, "--policy", "gready"),
    ("simulate", *JOB, "--policy", "greedy"),
    ("simulate", *JOB, "--rate-per-hour", "500", "--interval-seconds", "1800"),
    ("sweep", *JOB, "--intervals-seconds", "60,soon"),
    ("emit", *JOB),
)


def test_mistakes_are_golden(planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mistake ends with exit 2, nothing on stdout, and one line that names field, value and what is right."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        write(tmp_path / name, text)
    shown = []
    for arguments in MISTAKES:
        outcome = planner(*arguments)
        assert outcome.code == 2, (arguments, outcome)
        assert outcome.out == "", arguments
        assert outcome.err.count("\n") == 1, (arguments, outcome.err)
        assert "expected" in outcome.err, outcome.err
        shown.append(f"$ planner {' '.join(arguments)}\n{outcome.err}")
    assert_golden("mistakes.txt", "\n".join(shown))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES), "a mistake left a file behind"


def test_an_unknown_hazard_source_names_the_nearest(planner: Planner) -> None:
    """The sources change with the tables, so only the form is fixed."""
    outcome = planner("recommend", *JOB, "--hazard", "articles")
    assert outcome.code == 2
    assert outcome.err.startswith("planner: --hazard: got 'articles', expected one of ")
    assert outcome.err.endswith("(did you mean 'article'?)\n")


def test_a_bad_variable_is_named(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from the environment is complained about by the variable's name."""
    monkeypatch.setenv("PLANNER_WORK_HOURS", "many")
    outcome = planner("simulate")
    assert outcome.code == 2
    assert outcome.err == "planner: PLANNER_WORK_HOURS: got 'many', expected a finite number\n"
    monkeypatch.setenv("PLANNER_WORK_HOURS", "-3")
    assert planner("simulate").err.startswith("planner: PLANNER_WORK_HOURS: got -3, expected a number greater than 0")


def test_a_bug_is_exit_1_with_a_traceback(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is reported as a bug, not as the user's mistake."""
    import planner.commands.simulate as module

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug planted by the test")

    monkeypatch.setattr(module, "completed_scenario", broken)
    outcome = planner("simulate", *JOB)
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "this is a bug" in outcome.err


def test_an_external_failure_is_exit_3(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that fails is neither a bug nor bad input."""
    import planner.commands.simulate as module
    from harness.errors import ExternalServiceError

    def fails(*_: object) -> None:
        raise ExternalServiceError("the price list did not answer")

    monkeypatch.setattr(module, "completed_scenario", fails)
    outcome = planner("simulate", *JOB)
    assert (outcome.code, outcome.err) == (3, "planner: the price list did not answer\n")


def test_version(planner: Planner) -> None:
    """--version prints one line."""
    outcome = planner("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("planner ")
    assert outcome.out.count("\n") == 1


def test_a_closed_pipe_is_no_error() -> None:
    """A reader that has enough (head) does not make the planner complain."""
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    code = "import sys; from planner.cli import main; sys.exit(main(['--help']))"
    writer = subprocess.run(
        [sys.executable, "-c", code], stdout=reader.stdin, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    reader.stdin.close()
    assert (writer.returncode, writer.stderr) == (0, "")
