"""A world that changes size: batch, learning rate, buckets and random streams, on real gloo ranks where it matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.batches import BatchPlan, plan_batches
from harness.config import ElasticConfig, load_run_config
from harness.errors import InvalidInputError
from harness.learning_rate import LearningRateScale
from harness.ledger import prove
from harness.loading import SampleLoader
from harness.randomness import seed_everything
from harness.run import Run
from harness.status import read_status
from harness.streams import SampleDropout, enter_samples, leave_samples, number_streams
from harness.telemetry.reader import read_telemetry
from harness.telemetry.schema import Window
from tests.harness.elastic_support import FEATURES, SAMPLES, Ended, Job, train_fleet, train_here
from tests.harness.run_support import write_config

CUT = 3


def two_halves(folder: Path, sizes: tuple[int, ...], job: Job, **sections: Any) -> Ended:
    """Train through `sizes`: every fleet but the last is interrupted after `CUT` more steps; rank 0's end."""
    config = write_config(folder, checkpoint={"interval": {"steps": 1000}}, **sections)
    done = 0
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        # Heard in the body of a step, agreed on and left one step later.
        part = job if last else Job(**{**job.__dict__, "interrupt": (size - 1, done + CUT - 2)})
        ends = train_fleet(folder, config, size, part)
        assert [end.code for end in ends] == [0 if last else 75] * size
        done += CUT
    assert len({end.weights for end in ends}) == 1
    assert ends[0].weights is not None
    return ends[0]


# ---- bit for bit


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_an_interrupted_fleet_ends_with_the_same_weights(tmp_path: Path, ranks: int) -> None:
    """2, 3 and 4 gloo ranks, dropout from per-rank streams, several DDP buckets: the uninterrupted run's hash."""
    job = Job(dropout="rank")
    whole = two_halves(tmp_path / "whole", (ranks,), job)
    cut = two_halves(tmp_path / "cut", (ranks, ranks), job)
    assert (cut.weights, cut.pinned) == (whole.weights, whole.pinned)
    assert "," in whole.pinned  # more than one bucket


def test_without_pinned_buckets_three_ranks_differ(tmp_path: Path) -> None:
    """The trap is real: plain DDP's resume differs in the last bits, and only there.

    False-failure rate 0: both runs are deterministic.
    """
    job, off = Job(dropout="rank"), {"pin_buckets": False}
    whole = two_halves(tmp_path / "whole", (3,), job, elastic=off)
    cut = two_halves(tmp_path / "cut", (3, 3), job, elastic=off)
    assert cut.weights != whole.weights
    np.testing.assert_allclose(cut.flat, whole.flat, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dropout", "randomness"), [("none", "per-rank"), ("rank", "per-sample")])
def test_two_one_two_ranks_are_bitwise_equal(tmp_path: Path, dropout: str, randomness: str) -> None:
    """A constant global batch in two equal micro-batches: 2 → 1 → 2 ranks give the hash of 2 ranks throughout.

    With dropout, too, once random numbers belong to the samples.
    """
    job = Job(dropout=dropout, nodes="1:2", steps=9)
    data = {"randomness": randomness}
    whole = two_halves(tmp_path / "whole", (2,), job, data=data)
    assert two_halves(tmp_path / "cut", (2, 1, 2), job, data=data).weights == whole.weights


def test_other_sizes_stay_within_the_stated_tolerance(tmp_path: Path) -> None:
    """3 → 2 → 1 ranks with masks per sample: the same samples and masks, sums in another order; 1e-5 after 9 steps.

    AdamW moves weights by 0.01 a step here: one sample with another mask, or a share with a wrong weight, is 1e-3.
    """
    job = Job(dropout="sample", nodes="1:3", steps=9, batch=13)
    data = {"randomness": "per-sample"}
    whole = two_halves(tmp_path / "whole", (3,), job, data=data)
    cut = two_halves(tmp_path / "cut", (3, 2, 1), job, data=data)
    np.testing.assert_allclose(cut.flat, whole.flat, rtol=0, atol=1e-5)
    other = two_halves(tmp_path / "other", (3, 2, 1), job, data={"randomness": "per-rank"})
    assert np.abs(np.subtract(other.flat, whole.flat)).max() > 1e-3


# ---- batch


@given(batch=st.integers(1, 200), world=st.integers(1, 9), micro=st.integers(1, 40), data=st.data())
def test_weights_make_the_mean_over_the_global_batch(batch: int, world: int, micro: int, data: st.DataObject) -> None:
    """Σ over ranks and micro-batches of weight/W · mean equals the mean of all samples, whatever the division."""
    if batch < world:
        return
    plans = [BatchPlan(batch, batch, micro, rank, world) for rank in range(world)]
    assert len({plan.accumulation_steps for plan in plans}) == 1
    values = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=batch, max_size=batch)), dtype=float)
    mean, covered = 0.0, np.zeros(batch)
    for plan in plans:
        for part in plan.parts:
            assert 1 <= part.stop - part.start <= micro
            assert plan.share[0] <= part.start < part.stop <= plan.share[1]
            mean += part.weight / world * values[part.start : part.stop].mean()
            covered[part.start : part.stop] += part.weight > 0
        assert sum(part.weight for part in plan.parts) == pytest.approx(plan.weight)
    assert (covered == 1).all()
    assert mean == pytest.approx(values.mean(), abs=1e-9)


def test_a_batch_that_does_not_divide_trains_as_one_process_does(tmp_path: Path) -> None:
    """13 samples on 3 ranks: the weights of 13 samples on one, within rounding; unweighted means would be 1e-3 off."""
    job = Job(batch=13, steps=4, optimizer=torch.optim.SGD, learning_rate=0.5)
    three = train_fleet(tmp_path, write_config(tmp_path / "three"), 3, job)[0]
    one = train_fleet(tmp_path, write_config(tmp_path / "one"), 1, job)[0]
    np.testing.assert_allclose(three.flat, one.flat, rtol=0, atol=1e-6)


def test_an_uneven_batch_without_weights_is_refused(tmp_path: Path) -> None:
    """A loop over `step, indices` without weights, 7 samples on 2 ranks: a wrong mean, so exit 2, naming the remedy."""
    plain = Job(batch=7, steps=2, weights=False)
    ends = train_fleet(tmp_path, write_config(tmp_path / "uneven"), 2, plain)
    assert [end.code for end in ends] == [2, 2]
    status = read_status(tmp_path / "uneven" / "node-0" / "telemetry")
    assert status is not None
    assert status.state == "bad-input"
    assert "multiply the loss by step.weight" in (status.message or "")
    even = train_fleet(tmp_path, write_config(tmp_path / "even"), 2, Job(batch=8, steps=2, weights=False))
    assert [end.code for end in even] == [0, 0]


def test_a_batch_smaller_than_the_world_is_refused() -> None:
    """Every rank needs a sample; the weights of unequal shares make up for their sizes."""
    plan = BatchPlan(7, 7, 7, 0, 2)
    assert not plan.even
    assert (plan.weight, BatchPlan(7, 7, 7, 1, 2).weight) == (6 / 7, 8 / 7)
    with pytest.raises(InvalidInputError, match="at least 4, one sample for each rank"):
        plan_batches(ElasticConfig(), 3, rank=0, world_size=4, reference_world_size=4)


def test_memory_per_pass_stays_that_of_the_full_fleet() -> None:
    """A fleet of 8 that shrinks to 3 accumulates: no pass has more samples than at 8."""
    for world in (8, 5, 3, 1):
        plan = plan_batches(ElasticConfig(), 64, rank=0, world_size=world, reference_world_size=8)
        assert plan.global_batch_samples == 64
        assert max(part.stop - part.start for part in plan.parts) <= 8
    follow = plan_batches(ElasticConfig(batch="follow-world"), 64, rank=0, world_size=3, reference_world_size=8)
    assert (follow.global_batch_samples, follow.accumulation_steps) == (24, 1)
    assert follow.learning_rate_factors == {"unchanged": 1.0, "linear": 0.375, "sqrt": 0.375**0.5}


# ---- learning rate


def note_update(run: Any, step: Any, optimizer: Any, seen: dict[str, Any]) -> None:
    """The learning rate that the optimizer's own kernel used, and what it shows outside of its step."""
    seen.setdefault("outside", []).append(optimizer.param_groups[0]["lr"])
    seen.setdefault("scales", []).append(step.learning_rate_scale)
    seen.setdefault("inside", []).append(getattr(optimizer, "inside", None))
    seen.setdefault("batches", []).append(step.global_batch_samples)
    seen.setdefault("scheduler", []).append(step.scheduler_steps)


class WatchedSGD(torch.optim.SGD):
    """Notes the learning rate with which it really steps."""

    def step(self, closure: Any = None) -> Any:
        self.inside = self.param_groups[0]["lr"]
        before = [p.detach().clone() for p in self.param_groups[0]["params"]]
        result = super().step(closure)
        p, old = self.param_groups[0]["params"][0], before[0]
        # p = old − lr·grad: the update itself says which rate it was made with.
        self.measured = float((old - p.detach()).norm() / p.grad.norm())
        return result


def note_measured(run: Any, step: Any, optimizer: Any, seen: dict[str, Any]) -> None:
    note_update(run, step, optimizer, seen)
    seen.setdefault("measured", []).append(optimizer.measured)
    seen.setdefault("draws", []).append(torch.rand(4).tolist())


@pytest.mark.parametrize(("rule", "factor"), [("unchanged", 1.0), ("linear", 0.5), ("sqrt", 0.5**0.5)])
def test_the_rule_changes_the_update_after_the_optimizer_was_loaded(tmp_path: Path, rule: str, factor: float) -> None:
    """2 → 1 → 2 ranks, batch follows: the real update has the scaled rate, although the loaded state says 0.5."""
    job = Job(optimizer=WatchedSGD, learning_rate=0.5, nodes="1:2", steps=9, on_step=note_measured)
    config = write_config(
        tmp_path,
        checkpoint={"interval": {"steps": 1000}},
        elastic={"batch": "follow-world", "learning_rate": rule, "schedule": "samples"},
    )
    first = train_fleet(tmp_path, config, 2, Job(**{**job.__dict__, "interrupt": (1, 1)}))
    middle = train_fleet(tmp_path, config, 1, Job(**{**job.__dict__, "interrupt": (0, 4)}))
    last = train_fleet(tmp_path, config, 2, job)
    assert [end.code for end in (*first, *middle, *last)] == [75, 75, 75, 0, 0]
    assert first[0].seen["measured"] == pytest.approx([0.5] * 3, rel=1e-5)
    assert middle[0].seen["measured"] == pytest.approx([0.5 * factor] * 3, rel=1e-5)
    assert last[0].seen["measured"] == pytest.approx([0.5] * 3, rel=1e-5)
    for end in (first[0], middle[0], last[0]):
        assert set(end.seen["outside"]) == {0.5}  # what schedules and checkpoints see never holds the scale
    assert middle[0].seen["batches"] == [6] * 3
    # By samples: 36 = 3 · 12, then 18 more make one whole 12, then 36 on top of 54 three.
    assert [sum(end.seen["scheduler"]) for end in (first[0], middle[0], last[0])] == [3, 1, 3]
    # Rank 1 was not there when the middle one saved: a stream of its own from (seed, rank, step), not the model's.
    with torch.random.fork_rng():
        seed_everything(5, stream=2, step=6)
        assert last[1].seen["draws"][0] == torch.rand(4).tolist() != last[0].seen["draws"][0]


def test_a_subclass_that_calls_its_hooked_parent_is_scaled_once() -> None:
    """PyTorch hooks `step` per class, so both steps run the hooks; the rate is scaled once all the same."""
    parameter = nn.Parameter(torch.ones(1))
    torch.optim.SGD([parameter], lr=1.0)  # from now on SGD.step itself is hooked
    optimizer = WatchedSGD([parameter], lr=0.5)
    scale = LearningRateScale(0)
    scale.begin(0.5, 0)
    scale.apply_to([optimizer])
    for _ in range(2):
        parameter.grad = torch.ones(1)
        optimizer.step()
        assert optimizer.measured == pytest.approx(0.25, rel=1e-6)
        assert optimizer.param_groups[0]["lr"] == 0.5


def test_one_loop_per_epoch_is_one_run(tmp_path: Path) -> None:
    """Four loops, one left by `break`, one done already: one ledger, each step once, the rate scaled once."""
    elastic = {"batch": "follow-world", "learning_rate": "linear", "reference_world_size": 4}
    data = {"ledger": True, "skip": [{"at_step": 1, "steps": 1}]}
    config = load_run_config(write_config(tmp_path, elastic=elastic, data=data))
    model = nn.Linear(8, 3)
    optimizer = WatchedSGD(model.parameters(), lr=0.5)
    loaders = [SampleLoader(list(range(SAMPLES))) for _ in range(4)]
    done, measured = [], []
    with Run.from_env(config, device="cpu", model=model, optimizer=optimizer) as run:
        for loader, total in zip(loaders, (2, 4, 3, 6), strict=True):
            for step in run.steps(total, loader=loader, global_batch_samples=8):
                for micro in step.micro_batches:
                    assert micro.data.tolist() == micro.indices.tolist()
                    model(FEATURES[micro.data]).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                done.append(step.number)
                measured.append(optimizer.measured)
                if step.number == 2:
                    break
    assert done == list(range(6))
    assert measured == pytest.approx([0.125] * 6, rel=1e-4)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert [loader._batches for loader in loaders] == [None] * 4
    proof = prove([tmp_path / "node-0"])
    assert proof.proven, proof.problems
    assert (proof.steps, proof.samples_used, proof.samples_skipped) == (6, 12, 8)
    windows = [event.steps for event in read_telemetry(tmp_path).events if isinstance(event, Window)]
    assert sum(windows) == 6


def test_a_schedule_cannot_overwrite_the_scale() -> None:
    """LambdaLR sets the rate anew at every step; the scale is there all the same, and gone outside."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (step + 1))
    scale = LearningRateScale(0)
    scale.begin(0.25, 0)
    scale.apply_to([optimizer])
    moved = []
    for step in range(3):
        scale.at(step)
        parameter.grad = torch.ones(1)
        before = parameter.item()
        optimizer.step()
        schedule.step()
        moved.append(before - parameter.item())
    assert moved == pytest.approx([0.25, 0.125, 0.25 / 3])
    assert optimizer.state_dict()["param_groups"][0]["lr"] == schedule.get_last_lr()[0] == 0.25


def test_the_warm_up_goes_on_where_it_was_interrupted() -> None:
    """From 1 to 0.5 over four steps, stopped after two, resumed; then back up from where it had come to."""
    begun = LearningRateScale(4)
    assert not begun.begin(1.0, 0)
    assert begun.at(0) == 1.0
    shrunk = LearningRateScale(4)
    shrunk.adopt(dict(begun.remembered()))
    assert shrunk.begin(0.5, 10)
    assert [shrunk.at(step) for step in (10, 11)] == [0.875, 0.75]
    again = LearningRateScale(4)
    again.adopt(dict(shrunk.remembered()))
    assert not again.begin(0.5, 12)
    assert [again.at(step) for step in (12, 13, 14)] == [0.625, 0.5, 0.5]
    grown = LearningRateScale(4)
    grown.adopt(dict(shrunk.remembered()))
    assert grown.begin(1.0, 12)
    assert [grown.at(step) for step in (12, 13, 14, 15)] == [0.71875, 0.8125, 0.90625, 1.0]


# ---- random streams


def test_a_samples_mask_does_not_depend_on_its_neighbours() -> None:
    """However a batch is cut, each sample has its mask; other samples, layers, epochs and seeds have others."""
    model = nn.Sequential(SampleDropout(0.5), SampleDropout(0.5))
    number_streams([model])
    ones = torch.ones(6, 400)

    def masks(layer: int, positions: list[int], seed: int = 1) -> torch.Tensor:
        enter_samples(seed, np.array(positions))
        try:
            found: torch.Tensor = model[layer](ones[: len(positions)])
        finally:
            leave_samples()
        return found

    whole = masks(0, [5, 6, 7, 8, 9, 10])
    assert torch.equal(torch.cat([masks(0, [5, 6]), masks(0, [7, 8, 9, 10])]), whole)
    assert set(whole.flatten().tolist()) == {0.0, 2.0}
    rows = [*whole, masks(1, [5])[0], masks(0, [65])[0], masks(0, [5], seed=2)[0]]
    # Agreement of two independent masks of 400: mean 200, standard deviation 10; outside of 140…260 with p < 2e-9.
    for i, first in enumerate(rows):
        for second in rows[:i]:
            assert 140 < int((first == second).sum()) < 260


def test_sample_dropout_drops_the_stated_share() -> None:
    """200,000 elements at p = 0.3: the share is within 5 standard deviations (false-failure rate 6e-7, fixed seed)."""
    layer = SampleDropout(0.3)
    enter_samples(3, np.arange(200))
    dropped = (layer(torch.ones(200, 10, 100)) == 0).double().mean().item()
    leave_samples()
    assert abs(dropped - 0.3) < 5 * (0.3 * 0.7 / 200_000) ** 0.5
    assert torch.equal(layer.eval()(torch.ones(2, 2)), torch.ones(2, 2))
    enter_samples(3, np.arange(2))
    with pytest.raises(InvalidInputError, match="first dimension of 3"):
        layer.train()(torch.ones(3, 2))
    leave_samples()


def test_every_rank_keeps_its_own_stream_by_default(tmp_path: Path) -> None:
    """Per-rank mode leaves `SampleDropout` and the generators alone: another world size draws other masks."""
    one = train_here(write_config(tmp_path / "a"), Job(dropout="sample", steps=3))
    two = train_here(write_config(tmp_path / "b", data={"randomness": "per-sample"}), Job(dropout="sample", steps=3))
    assert one.weights != two.weights
