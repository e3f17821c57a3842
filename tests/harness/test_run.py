"""The whole run in one process, and in two forked ranks: interrupted is, bit for bit, uninterrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.clock import FakeClock
from harness.config import load_run_config
from harness.errors import InvalidInputError
from harness.notices import Notice
from harness.position import Position
from harness.randomness import RandomState
from harness.report import report_document
from harness.run import Run
from harness.status import read_status
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import CheckpointDurable, EmergencySaved, NoticeReceived, Restored, Window
from harness.telemetry.summary import summarize_run
from tests.harness.checkpoint_support import fork_ranks
from tests.harness.run_support import Outcome, example, sigterm_at, train, train_rank, write_config

STEPS = 14
INTERRUPT_AT = 6


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The reference: one process, no interruption."""
    outcome = train(write_config(tmp_path_factory.mktemp("reference")), steps=STEPS)
    assert outcome.code == 0
    assert outcome.weights is not None
    return outcome


def interrupted(folder: Path) -> Outcome:
    """The same training, interrupted once by SIGTERM and then finished."""
    config = write_config(folder)
    first = train(config, steps=STEPS, at_step=sigterm_at(INTERRUPT_AT))
    assert (first.code, first.weights) == (75, None)
    status = read_status(folder / "node-0" / "telemetry")
    assert status is not None
    # Heard in the body of step 6, contributed after it, consumed one step later.
    assert (status.state, status.reason, status.resumable) == ("interrupted", "notice", True)
    assert status.durable_step == status.step == INTERRUPT_AT + 2
    second = train(config, steps=STEPS)
    assert second.code == 0
    return second


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, uninterrupted: Outcome) -> None:
    """SIGTERM, save, exit 75, launch again: weights and loss are those of the uninterrupted run, bit for bit."""
    assert interrupted(tmp_path) == uninterrupted
    telemetry = read_telemetry(tmp_path)
    summary = summarize_run(telemetry.events)
    assert [(a.start_step, a.last_step, a.end) for a in summary.attempts] == [(0, 8, "notice"), (8, 14, "finished")]
    assert [event.source for event in telemetry.events if isinstance(event, NoticeReceived)] == ["sigterm"]
    assert [event.durable for event in telemetry.events if isinstance(event, EmergencySaved)] == [True]
    assert sum(event.steps for event in telemetry.events if isinstance(event, Window)) == STEPS
    assert (summary.profile.lost_steps, summary.profile.useful_steps) == (0, STEPS)


def forget_random_state(self: RandomState, state: dict[str, Any]) -> None:
    """A restore that leaves the random streams where a fresh start has them."""


def forget_position(self: Position, restored: Any, *, generation: int) -> None:
    """A restore that goes on at the right step, with the data of the beginning."""
    self.step = restored.progress.step


def forget_one_stream(self: RandomState, state: dict[str, Any]) -> None:
    """A restore of everything but PyTorch's stream, which dropout draws from."""
    RESTORE_RANDOM_STATE(self, {**state, "torch_cpu": torch.get_rng_state()})


RESTORE_RANDOM_STATE = RandomState.load_state_dict


@pytest.mark.parametrize(
    ("owner", "method", "broken"),
    [
        (RandomState, "load_state_dict", forget_random_state),
        (RandomState, "load_state_dict", forget_one_stream),
        (Position, "adopt", forget_position),
    ],
    ids=["random state not restored", "torch's stream not restored", "data position not restored"],
)
def test_the_bitwise_check_sees_a_broken_restore(
    tmp_path: Path, uninterrupted: Outcome, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, broken: Any
) -> None:
    """Break the random state or the data position, and the weights are other ones: the check is no formality."""
    monkeypatch.setattr(owner, method, broken)
    outcome = interrupted(tmp_path)
    assert outcome.weights is not None
    assert outcome.weights != uninterrupted.weights


def test_two_ranks_save_the_same_step_when_one_hears_a_notice(tmp_path: Path) -> None:
    """SIGTERM at rank 1 only: both leave at the same step with 75, and the run ends as if nothing had happened."""
    whole = fork_ranks(2, train_rank, 2, tmp_path / "s1", write_config(tmp_path / "whole"), {"steps": STEPS})
    config = write_config(tmp_path / "cut")
    options: dict[str, Any] = {"steps": STEPS, "interrupt": (1, INTERRUPT_AT)}
    assert [outcome.code for outcome in fork_ranks(2, train_rank, 2, tmp_path / "s2", config, options)] == [75, 75]
    reasons = [read_status(tmp_path / "cut" / f"node-{node}" / "telemetry") for node in (0, 1)]
    assert [status and status.reason for status in reasons] == ["below-minimum", "notice"]
    events = read_telemetry(tmp_path / "cut").events
    saved = [event for event in events if isinstance(event, EmergencySaved)]
    assert sorted(event.node for event in saved) == [0, 1]
    assert {event.step for event in saved} == {INTERRUPT_AT + 2}
    resumed = fork_ranks(2, train_rank, 2, tmp_path / "s3", config, {"steps": STEPS})
    assert resumed == whole
    assert whole[0].weights is not None
    # One file per life of a node's disk, on the durable target too.
    assert len(list((tmp_path / "cut" / "bucket" / "run" / "telemetry").iterdir())) == 2


def test_a_new_node_resumes_from_s3_alone(
    tmp_path: Path, s3_uri: str, s3_endpoint: str, uninterrupted: Outcome
) -> None:
    """With an S3 server as durable target and the node's disk gone, the result is the uninterrupted run's."""
    remote = {"remote": s3_uri, "s3_endpoint_url": s3_endpoint}
    config = write_config(tmp_path, checkpoint=remote)
    assert train(config, steps=STEPS, at_step=sigterm_at(INTERRUPT_AT)).code == 75
    shutil.rmtree(tmp_path / "node-0")
    assert train(config, steps=STEPS) == uninterrupted
    restored = [e for e in read_telemetry(tmp_path / "node-0").events if isinstance(e, Restored)]
    assert [(event.step, event.source) for event in restored] == [(INTERRUPT_AT + 2, "remote")]
    # The telemetry of both lives of the disk survives in the bucket, and the report reads it there.
    report = report_document([s3_uri], config, endpoint_url=s3_endpoint)
    assert len(report.files) == 2
    assert [(row.from_step, row.to_step, row.end) for row in report.attempts] == [
        (0, INTERRUPT_AT + 2, "notice"),
        (INTERRUPT_AT + 2, STEPS, "finished"),
    ]


def test_a_rebalance_hint_saves_early_once_and_nobody_leaves(tmp_path: Path) -> None:
    """The hint makes one checkpoint out of turn; training goes on to its end."""

    def hint(run: Run) -> None:
        if run.step == 2:
            run._board.hear(Notice("aws", "rebalance"))

    config = write_config(tmp_path, checkpoint={"interval": {"steps": 100}})
    assert train(config, steps=STEPS, at_step=hint).code == 0
    made = [(e.step, e.reason) for e in read_telemetry(tmp_path).events if isinstance(e, CheckpointDurable)]
    assert made == [(4, "precaution"), (STEPS, "final")]


def test_the_interval_in_seconds_becomes_steps_of_measured_time(tmp_path: Path) -> None:
    """Two seconds of work at half a second a step (by the clock that is passed in) are four steps."""
    clock = FakeClock()
    model = torch.nn.Linear(2, 2)
    config = load_run_config(write_config(tmp_path, checkpoint={"interval": {"seconds": 2.0}}))
    with Run.from_env(config, clock=clock, model=model) as run:
        for _ in run.steps(12, samples=8, global_batch_samples=2):
            clock.advance(0.5)
    made = [(e.step, e.reason) for e in read_telemetry(tmp_path).events if isinstance(e, CheckpointDurable)]
    # The first step only warms up; the second is measured, agreed on one step later, and then the interval counts.
    assert made == [(4, "periodic"), (8, "periodic"), (12, "final")]
    windows = [event for event in read_telemetry(tmp_path).events if isinstance(event, Window)]
    assert sum(window.seconds for window in windows) == pytest.approx(6.0)


def test_a_notice_at_the_last_step_does_not_keep_the_run_from_finishing(tmp_path: Path) -> None:
    """What is left to do is the final checkpoint, which a reclaim wants, too."""
    assert train(write_config(tmp_path), steps=6, at_step=sigterm_at(4)).code == 0
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert (status.state, status.durable_step) == ("finished", 6)


def test_a_finished_run_launched_again_does_nothing(tmp_path: Path) -> None:
    """Requeueing a finished run ends at once with 0 and makes no further checkpoint.

    Also after its bucket was emptied: it goes on from the node's disk, whose generations are not used a second time.
    """
    config = write_config(tmp_path)
    assert train(config, steps=4).code == 0
    before = sorted(path.name for path in (tmp_path / "bucket" / "run").glob("step-*"))
    assert train(config, steps=4).code == 0
    assert sorted(path.name for path in (tmp_path / "bucket" / "run").glob("step-*")) == before
    shutil.rmtree(tmp_path / "bucket")
    assert train(config, steps=4).code == 0
    assert sorted(path.name for path in (tmp_path / "bucket" / "run").glob("step-*")) == before
    claims = [path.name for path in (tmp_path / "bucket" / "run" / "generations").glob("*[0-9].json")]
    assert claims == ["g0003.json"]
    assert [e.step for e in read_telemetry(tmp_path / "node-0").events if isinstance(e, Restored)] == [0, 4, 4]


@pytest.mark.parametrize(
    ("change", "extra", "says"),
    [
        ({}, ("--channels", "32"), "run_id"),
        ({"seed": 6}, (), "seed: got 6, expected 5"),
        ({}, ("--corpus-bytes", "9000"), "samples: got"),
        ({"seed": -1}, (), "seed"),
        ({}, ("--batch", "0"), "global_batch_samples"),
    ],
    ids=["another model", "another seed", "another dataset", "a config that is wrong", "no batch size"],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], extra: tuple[str, ...], says: str
) -> None:
    """What does not fit the run is refused with exit 2, one line, and without touching its checkpoints."""
    assert train(write_config(tmp_path), steps=2).code == 0
    capsys.readouterr()
    assert train(write_config(tmp_path, **change), steps=4, extra=extra).code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len([line for line in lines if says in line]) == 1, lines
    assert not any("Traceback" in line for line in lines)
    assert train(write_config(tmp_path), steps=4).code == 0


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damaged", ["**/*.distcp", "**/rank-00000.pt", "**/manifest.json", "**/identity.json"])
def test_a_checkpoint_directory_that_is_damaged_everywhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    """No silent fresh start over somebody's damaged run: exit 2, one line that says what to do, nothing touched."""
    config = write_config(tmp_path)
    assert train(config, steps=2).code == 0
    files = [*tmp_path.glob(f"node-0/checkpoints/{damaged}"), *tmp_path.glob(f"bucket/{damaged}")]
    assert files
    for file in files:
        flip_a_byte(file)
    before = {file: file.read_bytes() for file in files}
    capsys.readouterr()
    assert train(config, steps=4).code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "checkpoint.remote: got" in line]
    assert len(lines) == 1
    assert "choose a new run_id" in lines[0]
    assert {file: file.read_bytes() for file in files} == before
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert (status.state, status.resumable) == ("bad-input", False)


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path: Path, uninterrupted: Outcome
) -> None:
    """The older complete one is taken, telemetry says what was skipped and why, and the end is the same."""
    config = write_config(tmp_path)
    assert train(config, steps=STEPS, at_step=sigterm_at(INTERRUPT_AT)).code == 75
    newest = f"step-{INTERRUPT_AT + 2:09d}-g0001"
    files = list(tmp_path.glob(f"*/**/{newest}/model/*.distcp"))
    assert len(files) == 2  # here and on the durable target
    for file in files:
        flip_a_byte(file)
    assert train(config, steps=STEPS) == uninterrupted
    restored = [e for e in read_telemetry(tmp_path).events if isinstance(e, Restored) and e.checkpoint]
    assert [event.step for event in restored] == [4]
    assert len(restored[0].skipped) == 1
    assert restored[0].skipped[0].startswith(newest)


def test_a_failure_of_training_code_is_exit_1_with_its_traceback(tmp_path: Path) -> None:
    """The script's own exception comes through, and status.json calls it failed."""

    def fail(run: Run) -> None:
        if run.step == 3:
            raise ZeroDivisionError("in the loss")

    with pytest.raises(ZeroDivisionError, match="in the loss"):
        train(write_config(tmp_path), steps=8, at_step=fail)
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert (status.state, status.exit_code, status.step) == ("failed", 1, 3)
    assert status.message == "ZeroDivisionError: in the loss"


def test_the_loss_goes_down(tmp_path: Path) -> None:
    """The example learns: from ln 256 ≈ 5.5 to well below in 40 steps."""
    outcome = train(write_config(tmp_path), steps=40, extra=("--learning-rate", "0.01"))
    assert outcome.loss is not None
    assert outcome.loss < 4.0


def test_the_demonstration_fails_when_the_weights_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uninterrupted: Outcome
) -> None:
    """`examples/demo.py` compares for real: another digest is reported as different."""
    demo = example("demo")
    config = write_config(tmp_path)
    assert train(config, steps=4).code == 0
    comparison = object.__new__(demo.Demo)
    comparison.folder = tmp_path
    (tmp_path / "reference").mkdir()
    good = {"loss": 1.0, "weights_sha256": uninterrupted.weights}
    (tmp_path / "result.json").write_text(json.dumps(good), encoding="utf-8")
    (tmp_path / "reference" / "result.json").write_text(json.dumps(good), encoding="utf-8")
    (tmp_path / "node-1").mkdir()
    assert comparison.compare(config) is True
    bad = {"loss": 1.0, "weights_sha256": "0" * 64}
    (tmp_path / "reference" / "result.json").write_text(json.dumps(bad), encoding="utf-8")
    assert comparison.compare(config) is False
    assert "DIFFERENT" in capsys.readouterr().out


def test_a_loop_left_by_break_ends_the_run_there(tmp_path: Path) -> None:
    """Early stopping: the step in which the script breaks counts as done and is saved as the last one."""
    model = torch.nn.Linear(2, 2)
    with Run.from_env(write_config(tmp_path), model=model) as run:
        for step, _ in run.steps(10, samples=4, global_batch_samples=2):
            if step == 2:
                break
    status = read_status(tmp_path / "node-0" / "telemetry")
    assert status is not None
    assert (status.state, status.step, status.durable_step) == ("finished", 3, 3)


def test_registering_after_the_first_step_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A component that would not have been restored cannot slip in later; nor can one called like the run's own."""
    model = torch.nn.Linear(2, 2)
    with Run.from_env(write_config(tmp_path)) as run:
        with pytest.raises(InvalidInputError, match="rng"):
            run.register(rng=model)
        run.register(model=model)
        for _ in run.steps(1, samples=4, global_batch_samples=2):
            with pytest.raises(InvalidInputError, match="before the first step"):
                run.register(late=model)
