"""harness.yaml and torchrun.env: accepted by their readers, reasoned, consistent, written all or nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import RunConfig, load_run_config
from harness.errors import InvalidInputError
from planner.catalogue import load_catalogue
from planner.completion import Knowledge, complete
from planner.emit import files as files_module
from planner.emit.commented_yaml import to_yaml
from planner.emit.files import write_folder
from planner.emit.options import EmitSettings
from planner.emit.plan import EmitPlan, emitted_files
from planner.emit.torchrun_env import torchrun_variables
from planner.hazard_source import HazardSource, counted_source
from planner.layers import layer
from planner.plan_spec import planned_scenario
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from tests.planner.conftest import Outcome

Planner = Callable[..., Outcome]
CATALOGUE = load_catalogue()


def plan(
    settings: EmitSettings | None = None,
    steps: int | None = None,
    own: HazardSource | None = None,
    **sections: dict[str, Any],
) -> EmitPlan:
    """A plan for p4d.24xlarge with changes; no simulation is needed for the files."""
    document: dict[str, Any] = {
        "job": {"work_hours": 100, "checkpoint_gib": 50},
        "fleet": {"instance": "p4d.24xlarge", "zone": "use1-az2"},
    }
    for section, values in sections.items():
        document[section] = {**document.get(section, {}), **values}
    completed = complete(layer(document, "s.yaml", {}), Knowledge(CATALOGUE, CATALOGUE.assumptions, own=own))
    return EmitPlan(
        completed=completed,
        interval_seconds=1800.0,
        interval_low_seconds=900.0,
        interval_high_seconds=3600.0,
        interval_steps=steps,
        predicted={"cost_usd_p50": 494.5, "interruptions_mean": 16.2},
        interruptions_mean=16.2,
        assumptions=completed.assumptions,
        settings=settings or EmitSettings(),
    )


def loaded(tmp_path: Path, emit_plan: EmitPlan) -> RunConfig:
    """The emitted harness.yaml, read back by the harness."""
    write_folder(tmp_path / "out", emitted_files(emit_plan))
    return load_run_config(tmp_path / "out" / "harness.yaml")


def test_the_harness_accepts_the_file_and_finds_the_plan_in_it(tmp_path: Path) -> None:
    """Strictly loaded: interval and plateau, notice and budget, fleet, prediction and assumptions."""
    config = loaded(tmp_path, plan(steps=720))
    assert config.checkpoint.interval.seconds == 1800.0
    assert (config.checkpoint.interval.low_seconds, config.checkpoint.interval.high_seconds) == (900.0, 3600.0)
    assert (config.checkpoint.interval.steps, config.checkpoint.interval.retune) == (720, False)
    assert loaded(tmp_path / "by-seconds", plan()).checkpoint.interval.retune
    assert config.torchrun.nnodes == "1:1"
    assert config.torchrun.nproc_per_node == 8
    assert config.torchrun.max_restarts >= 100
    assert config.notices.notice_seconds == 120.0
    assert [source.kind for source in config.notices.sources] == ["aws", "sigterm"]
    assert config.plan.zone == "use1-az2"
    assert config.plan.cost_usd_p50 == 494.5
    assert {row.name for row in config.plan.assumptions} >= {"spot_usd_per_hour", "rate_per_hour", "notice_success"}


@pytest.mark.parametrize("lifetime", [Exponential(1.5 / 35.0), Weibull(0.5, 20.0), Bathtub(0.45, 1.2, 24.0, 0.8)])
def test_a_plan_from_ones_own_log_keeps_its_shape_and_how_little_was_seen(tmp_path: Path, lifetime: Lifetime) -> None:
    """No table has it: what report simulates again is as uncertain as what was planned."""
    own = replace(counted_source("own-logs", 1, 35.0, "your log one.csv", "2026-11-24"), lifetime=lifetime)
    config = loaded(tmp_path, plan(own=own))
    again = planned_scenario(config, Knowledge(CATALOGUE, CATALOGUE.assumptions))
    assert (again.spec.rate_events, again.spec.rate_exposure_hours) == (1.0, 35.0)
    assert type(again.spec.lifetime) is type(lifetime)
    assert again.spec.lifetime.mean_hours == pytest.approx(lifetime.mean_hours, rel=1e-4)
    assert not [note for note in again.notes if "interruption rate" in note]


def test_every_tuned_value_has_its_reason_above_it() -> None:
    """Each key that differs from RunConfig's default, outside the recorded prediction, follows a comment."""
    text = emitted_files(plan(fleet={"nodes": 4, "min_nodes": 2}))["harness.yaml"]
    document = yaml.safe_load(text)
    defaults = RunConfig.model_validate(
        {"run_id": "x", "checkpoint": {"directory": "x", "remote": "x"}, "telemetry": {"directory": "x"}}
    ).model_dump(mode="json")
    lines = text.splitlines()
    tuned = 0
    for path, value in _leaves(document):
        default: Any = defaults
        for key in path:
            default = default.get(key) if isinstance(default, dict) else None
        if path[0] in {"plan", "schema_version"} or value == default:
            continue
        tuned += 1
        indent = "  " * (len(path) - 1)
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{indent}{path[-1]}:"))
        above = lines[at - 1].strip()
        # low_seconds explains the pair.
        assert above.startswith("#") or path[-1] == "high_seconds", (path, above)
    assert tuned >= 10


def _leaves(document: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in document.items():
        found += _leaves(value, (*prefix, key)) if isinstance(value, dict) else [((*prefix, key), value)]
    return found


@pytest.mark.parametrize(
    ("sections", "budget", "shutdown"),
    [
        # fits with room for the margin
        ({"checkpoint": {"emergency_seconds": 40.0}}, 40.0, 50),
        # fits, but the margin does not
        ({"checkpoint": {"emergency_seconds": 115.5}}, 116.0, 120),
        # does not fit: all the time there is
        ({"checkpoint": {"emergency_seconds": 300.0}}, 120.0, 120),
        # no notice to fit into
        ({"checkpoint": {"emergency_seconds": 40.0}, "notice": {"seconds": 0}}, 40.0, 50),
        # a short one
        ({"checkpoint": {"emergency_seconds": 40.0}, "notice": {"seconds": 30}}, 30.0, 30),
    ],
)
def test_shutdown_covers_the_budget_and_both_fit_the_notice(
    tmp_path: Path, sections: dict[str, Any], budget: float, shutdown: int
) -> None:
    """What pre-flight demands: budget <= shutdown timeout, and within the notice where there is one."""
    config = loaded(tmp_path, plan(**sections))
    assert config.notices.emergency_budget_seconds == budget
    assert config.torchrun.shutdown_timeout_seconds == shutdown
    assert config.notices.emergency_budget_seconds <= config.torchrun.shutdown_timeout_seconds
    if config.notices.notice_seconds:
        assert config.torchrun.shutdown_timeout_seconds <= config.notices.notice_seconds


def test_fleets_need_a_stable_rendezvous_host(tmp_path: Path) -> None:
    """Several nodes: with an endpoint no spot node may host the store; without one the file says REPLACE."""
    fleet = {"nodes": 4, "min_nodes": 2}
    config = loaded(tmp_path, plan(EmitSettings(rdzv_endpoint="head:29400"), fleet=fleet))
    assert config.torchrun.nnodes == "2:4"
    assert config.torchrun.rdzv_endpoint == "head:29400"
    assert config.torchrun.rdzv_conf.is_host is False
    assert "REPLACE with a small on-demand host" in emitted_files(plan(fleet=fleet))["harness.yaml"]


def test_settings_reach_the_file_and_bad_ones_name_their_flag(tmp_path: Path) -> None:
    """--remote and friends; what the harness refuses is refused before anything is written."""
    settings = EmitSettings(run_id="my-run", remote="s3://bucket/x", local_directory="/nvme", telemetry_directory="/t")
    config = loaded(tmp_path, plan(settings))
    assert (config.run_id, config.checkpoint.remote) == ("my-run", "s3://bucket/x")
    assert (config.checkpoint.directory, config.telemetry.directory) == (Path("/nvme"), Path("/t"))
    with pytest.raises(InvalidInputError) as caught:
        emitted_files(plan(EmitSettings(run_id="../up")))
    assert caught.value.field == "--run-id"


def test_torchrun_reads_the_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torchrun's own parser, given nothing but the emitted environment, arrives at the config's values."""
    run = pytest.importorskip("torch.distributed.run", reason="needs torch")
    config = loaded(tmp_path, plan(fleet={"nodes": 4, "min_nodes": 2}))
    text = (tmp_path / "out" / "torchrun.env").read_text(encoding="utf-8")
    variables = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert variables == {name: value for name, (value, _) in torchrun_variables(config, vcpus=96).items()}
    assert variables["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert variables["OMP_NUM_THREADS"] == "12"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    arguments = run.get_args_parser().parse_args(["train.py"])
    assert arguments.nnodes == "2:4"
    assert int(arguments.nproc_per_node) == 8
    assert arguments.rdzv_backend == "c10d"
    assert arguments.rdzv_endpoint == config.torchrun.rdzv_endpoint
    assert arguments.rdzv_id == config.run_id
    assert "keep_alive_max_attempt=5" in arguments.rdzv_conf
    assert "last_call_timeout=1" in arguments.rdzv_conf
    assert int(arguments.max_restarts) == config.torchrun.max_restarts
    assert int(arguments.shutdown_timeout) == config.torchrun.shutdown_timeout_seconds


def test_yaml_writer_reads_back_what_it_wrote() -> None:
    """Quoting is PyYAML's business: odd strings, numbers that look like text and text that looks like numbers."""
    document = {
        "a": {"b": "1:4", "c": "yes", "d": 1.5, "e": None, "f": [], "g": {}},
        "h": ["x: y", {"k": "v # no comment", "n": 1e-7}],
        "i": 'it\'s "quoted"\nand long ' + "x" * 200,
        "j": "2026-07",
    }
    assert yaml.safe_load(to_yaml(document, {"a.b": "why " * 60, "h": "because"}, header="one\n\ntwo")) == document


# -- writing ------------------------------------------------------------------------------------------------------


def test_a_new_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    """Nothing but the files, with the usual permissions."""
    written = write_folder(tmp_path / "deep" / "out", {"a": "1", "b": "2"})
    assert [path.read_text() for path in written] == ["1", "2"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o777 & ~files_module._umask()


def test_an_existing_folder_keeps_its_other_files(tmp_path: Path) -> None:
    """Only the named files are replaced."""
    (tmp_path / "mine").write_text("keep")
    (tmp_path / "a").write_text("old")
    write_folder(tmp_path, {"a": "new", "b": "2"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "keep", "a": "new", "b": "2"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("fails_at", [0, 1])
@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], fails_at: int, exists: bool
) -> None:
    """Ctrl-C or a full disk while file number `fails_at` is written: old files as before, no new ones, no litter."""
    folder = tmp_path / "out"
    if exists:
        write_folder(folder, {"a": "old", "b": "old"})
    calls: list[Path] = []
    real = files_module._write_durably

    def failing(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == fails_at + 1:
            raise error
        real(path, text)

    monkeypatch.setattr(files_module, "_write_durably", failing)
    with pytest.raises((KeyboardInterrupt, InvalidInputError)):
        write_folder(folder, {"a": "new", "b": "new"})
    assert len(calls) == fails_at + 1, "the fault did not fire"
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == ({"out/a": "old", "out/b": "old"} if exists else {})


def test_a_rename_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three renames fails: the first is taken back, a file that was new is gone again."""
    write_folder(tmp_path, {"b": "old"})
    real, calls = Path.replace, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self.name)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(InvalidInputError, match="No space left"):
        write_folder(tmp_path, {"a": "new", "b": "new", "c": "new"})
    monkeypatch.undo()
    assert calls[:3] == ["a", "b", "c"], "the fault did not fire"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "old"}


def test_ctrl_c_between_two_renames_waits_for_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT that arrives after the first rename takes effect when both files are in place."""
    write_folder(tmp_path, {"a": "old", "b": "old"})
    real, calls = Path.replace, []

    def interrupting(self: Path, target: Path) -> Path:
        result = real(self, target)
        calls.append(self.name)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(Path, "replace", interrupting)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, {"a": "new", "b": "new"})
    assert calls == ["a", "b"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_recommend_writes_both_files(planner: Planner, tmp_path: Path) -> None:
    """--emit end to end; the file holds what was printed."""
    outcome = planner(
        "recommend", "--instance", "p4d.24xlarge", "--work-hours", "100", "--checkpoint-gib", "50", "--zone",
        "use1-az2", "--runs", "500", "--emit", str(tmp_path / "demo"), "--remote", "s3://bucket/runs",
    )  # fmt: skip
    assert outcome.code == 0
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["harness.yaml", "torchrun.env"]
    config = load_run_config(tmp_path / "demo" / "harness.yaml")
    assert config.plan.zone == "use1-az2"
    assert config.checkpoint.remote == "s3://bucket/runs"
    assert config.plan.interruptions_mean is not None


def test_emit_writes_a_scenario_as_it_stands(planner: Planner, tmp_path: Path) -> None:
    """planner emit keeps the interval that was given."""
    outcome = planner(
        "emit", "--instance", "p4d.24xlarge", "--work-hours", "10", "--checkpoint-gib", "50", "--zone", "use1-az2",
        "--interval-seconds", "1234", "--runs", "100", "--output", str(tmp_path / "x"), "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    interval = load_run_config(tmp_path / "x" / "harness.yaml").checkpoint.interval
    assert (interval.seconds, interval.retune) == (1234.0, False)
