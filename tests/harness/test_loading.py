"""Loaders: prefetched is not trained on, workers change nothing, augmentation belongs to the sample."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from harness.batches import BatchPlan
from harness.config import load_run_config
from harness.data import SampleOrder
from harness.errors import InvalidInputError
from harness.loading import SampleLoader, StatefulStream, as_loader
from harness.run import Run
from tests.harness.run_support import sigterm_at, write_config

SAMPLES = 30


class Noisy(torch.utils.data.Dataset[torch.Tensor]):
    """(index, a number drawn by torch, one drawn by Python): an augmentation from the global streams."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index), torch.rand(()).item(), random.random()])


def take(loader: SampleLoader, plan: BatchPlan, samples_seen: int, micro_batches: int) -> list[torch.Tensor]:
    following = loader.start(plan, SampleOrder(SAMPLES, 4), samples_seen, seed=4)
    found = [following() for _ in range(micro_batches)]
    loader.close()
    return found


def test_workers_sizes_and_resuming_change_nothing() -> None:
    """0 and 2 workers, 1 and 2 ranks, from the start and from the middle: equal samples, equally augmented."""
    one = BatchPlan(6, 6, 6, 0, 1)
    reference = torch.cat(take(SampleLoader(Noisy()), one, 0, 7))
    assert len(reference[:SAMPLES, 0].unique()) == SAMPLES  # type: ignore[no-untyped-call]
    with_workers = SampleLoader(Noisy(), num_workers=2, prefetch_factor=4)
    assert torch.equal(torch.cat(take(with_workers, one, 0, 7)), reference)
    assert torch.equal(torch.cat(take(with_workers, one, 18, 4)), reference[18:])
    ranks = [take(SampleLoader(Noisy()), BatchPlan(6, 6, 3, rank, 2), 0, 7) for rank in (0, 1)]
    shuffled = [part for step in zip(*ranks, strict=True) for part in step]
    assert torch.equal(torch.cat(shuffled), reference)
    # The second epoch shows a sample again, with other noise.
    again = reference[SAMPLES:]
    before = {row[0].item(): row[1].item() for row in reference[:SAMPLES]}
    assert all(before[row[0].item()] != row[1].item() for row in again)


def test_loading_leaves_the_ranks_streams_alone() -> None:
    """Neither starting a DataLoader nor augmenting in the training process draws from what dropout draws from."""
    torch.manual_seed(1)
    random.seed(1)
    wanted = (torch.rand(3).tolist(), random.random())
    torch.manual_seed(1)
    random.seed(1)
    take(SampleLoader(Noisy()), BatchPlan(6, 6, 6, 0, 1), 0, 2)
    assert (torch.rand(3).tolist(), random.random()) == wanted


def test_the_run_decides_on_batches_and_order() -> None:
    """Options of DataLoader that contradict the run are refused by name; so are samplers that mean something."""
    for option in ("batch_size", "shuffle", "sampler"):
        with pytest.raises(InvalidInputError, match=rf"SampleLoader\({option}"):
            SampleLoader(Noisy(), **{option: 1})
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * SAMPLES, SAMPLES)
    with pytest.raises(InvalidInputError, match="a DataLoader with a WeightedRandomSampler"):
        as_loader(DataLoader(Noisy(), sampler=weighted))
    with pytest.raises(InvalidInputError, match="got 'in_order=False', expected in_order=True"):
        as_loader(DataLoader(Noisy(), num_workers=2, in_order=False))
    with pytest.raises(InvalidInputError, match=r"a DataLoader over an iterable dataset.*StatefulDataLoader"):
        as_loader(DataLoader(Numbers()))


def draw_and_stack(items: list[torch.Tensor]) -> torch.Tensor:
    """A collate function that draws, as those that mask tokens do."""
    return torch.stack(items) + torch.rand(())


def test_a_dataloader_is_taken_over_as_it_is(tmp_path: Path) -> None:
    """Its workers, collate function and batch size; with persistent workers or in the process, interrupted or not."""
    elastic = {"micro_batch_samples": None}

    def make(**options: Any) -> Any:
        return lambda: DataLoader(Noisy(), batch_size=2, shuffle=True, collate_fn=draw_and_stack, **options)

    code, whole = run_once(write_config(tmp_path / "whole", elastic=elastic), make())
    assert (code, len(whole)) == (0, 9)
    config = write_config(tmp_path / "cut", elastic=elastic)
    code, first = run_once(config, make(num_workers=2, persistent_workers=True, prefetch_factor=3), interrupt=2)
    assert (code, len(first)) == (75, 4)
    code, second = run_once(config, make(num_workers=1))
    assert (code, first + second) == (0, whole)
    taken = as_loader(make(num_workers=2)())
    assert (taken.samples, taken.micro_batch_samples) == (SAMPLES, 2)
    assert as_loader(StatefulDataLoader(Noisy(), batch_size=2, shuffle=True)).samples == SAMPLES


class Numbers(torch.utils.data.IterableDataset[int]):
    """0 … 20, and it knows where it is."""

    def __init__(self) -> None:
        self._next = 0

    def __iter__(self) -> Iterator[int]:
        while self._next < 21:
            self._next += 1
            yield self._next - 1
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = state["next"]


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_goes_on_after_the_last_batch(tmp_path: Path, workers: int) -> None:
    """The real library, in the process and with workers that prefetch: both launches see the batches of one."""

    def make() -> Any:
        return StatefulDataLoader(Numbers(), batch_size=3, num_workers=workers)

    code, whole = run_once(write_config(tmp_path / "whole"), make)
    assert (code, len(whole)) == (0, 9)
    config = write_config(tmp_path / "cut")
    code, first = run_once(config, make, interrupt=3)
    assert code == 75
    code, second = run_once(config, make)
    assert (code, first + second) == (0, whole)


class Slow(torch.utils.data.Dataset[int]):
    """The first sample at once, every other one never."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> int:
        if index != 0:
            threading.Event().wait()
        return index


@pytest.mark.parametrize(
    "make", [SampleLoader, lambda *a, **k: StatefulStream(StatefulDataLoader(*a, **k), batch_samples=1)]
)
def test_closing_ends_workers_that_are_busy(make: Any) -> None:
    """Also while somebody still knows the iterator; a worker that never comes back would be waited for otherwise."""
    loader = make(Slow(), num_workers=2)
    following = loader.start(BatchPlan(1, 1, 1, 0, 1), SampleOrder(SAMPLES, 4, shuffle=False), 0, seed=4)
    assert int(following()) == 0
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    loader.close()
    assert multiprocessing.active_children() == []
    del following


def run_once(config: Path, make: Any, *, interrupt: int | None = None) -> tuple[int, list[list[float]]]:
    """Train 9 steps of 6 samples in micro-batches of 3; the exit code and what each finished step saw."""
    seen: list[list[float]] = []
    act = None if interrupt is None else sigterm_at(interrupt)
    try:
        with Run.from_env(load_run_config(config), device="cpu", model=nn.Linear(2, 2)) as run:
            for step in run.steps(9, global_batch_samples=6, loader=make()):
                seen.append([row for micro in step.micro_batches for row in micro.data.flatten().tolist()])
                if act is not None:
                    act(run)
    except SystemExit as ended:
        return int(ended.code or 0), seen
    return 0, seen


def test_what_was_prefetched_is_loaded_again(tmp_path: Path) -> None:
    """Two workers with eight batches ahead, interrupted and resumed: every step sees what the uninterrupted run saw."""
    elastic = {"micro_batch_samples": 3}

    def make() -> SampleLoader:
        return SampleLoader(Noisy(), num_workers=2, prefetch_factor=4)

    code, whole = run_once(write_config(tmp_path / "whole", elastic=elastic), make)
    assert (code, len(whole)) == (0, 9)
    config = write_config(tmp_path / "cut", elastic=elastic)
    code, first = run_once(config, make, interrupt=2)
    assert (code, len(first)) == (75, 4)
    code, second = run_once(config, make)
    assert (code, first + second) == (0, whole)


class Shards:
    """A loader that keeps its own place, as torchdata's does: batches of three numbers, 21 an epoch."""

    def __init__(self) -> None:
        self._next = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        while self._next < 21:
            self._next += 3
            yield torch.arange(self._next - 3, self._next)
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = state["next"]


def test_a_stream_goes_on_after_the_last_batch_that_was_trained_on(tmp_path: Path) -> None:
    """Interrupted in its second epoch: the batches of both launches are those of one."""

    def make() -> StatefulStream:
        return StatefulStream(Shards(), batch_samples=3)

    code, whole = run_once(write_config(tmp_path / "whole"), make)
    assert code == 0
    config = write_config(tmp_path / "cut")
    code, first = run_once(config, make, interrupt=3)
    assert code == 75
    code, second = run_once(config, make)
    assert (code, first + second) == (0, whole)
    assert whole[3] == [18.0, 19.0, 20.0, 0.0, 1.0, 2.0]


def test_a_stream_is_registered_before_an_explicit_restore(tmp_path: Path) -> None:
    """Then its place is restored, and a second loop goes on where the first one ended; else the remedy is named."""
    config = load_run_config(write_config(tmp_path))
    seen: list[list[int]] = []
    for totals in ((2,), (3, 4)):
        stream = StatefulStream(Shards(), batch_samples=3)
        with Run.from_env(config, device="cpu", model=nn.Linear(2, 2), stream=stream) as run:
            run.restore()
            with pytest.raises(InvalidInputError, match=r"got 'stream', expected components before .* restore\(\)"):
                next(iter(run.steps(2, loader=StatefulStream(Shards(), batch_samples=3), global_batch_samples=3)))
            for total in totals:
                for step in run.steps(total, loader=stream, global_batch_samples=3):
                    seen += [micro.data.tolist() for micro in step.micro_batches]
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_a_stream_says_what_it_cannot_do() -> None:
    """Another world size is refused, or starts anew when asked; so is a batch that is no multiple of its own."""
    stream = StatefulStream(Shards(), batch_samples=3)
    with pytest.raises(InvalidInputError, match="cannot be shared out anew"):
        stream.check_world(2, 1)
    with pytest.raises(InvalidInputError, match="a multiple of 6"):
        stream.start(BatchPlan(9, 9, 3, 0, 2), None, 0, seed=0)
    anew = StatefulStream(Shards(), batch_samples=3, on_resize="restart")
    anew.load_state_dict({"loader": {"next": 9}})
    anew.check_world(2, 1)
    assert anew.start(BatchPlan(3, 3, 3, 0, 1), None, 0, seed=0)().tolist() == [0, 1, 2]
    with pytest.raises(InvalidInputError, match="without state_dict"):
        StatefulStream([1, 2], batch_samples=1)
