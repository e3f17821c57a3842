"""Where a step's data comes from, when the run loads it: a map-style dataset, or a stream that keeps its own place.

`SampleLoader` is torch's DataLoader over the run's own order.  What its workers have prefetched when the run is
interrupted is loaded again: only a step that was done moves the position, so nothing is lost and nothing seen twice.
`StatefulStream` is for iterable datasets whose loader has `state_dict` (torchdata's StatefulDataLoader).
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info

from harness.batches import BatchPlan
from harness.data import SampleOrder
from harness.errors import InvalidInputError
from harness.randomness import RandomState

_OWN_OPTIONS = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "generator")
_TAKEN_OVER = (
    "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "prefetch_factor", "persistent_workers", "in_order",
)  # fmt: skip
# Their order means nothing but "any" or "as it is": the run's own takes their place.
_REPLACEABLE_SAMPLERS = ("RandomSampler", "SequentialSampler", "DistributedSampler", "StatefulDistributedSampler")

BUSY_WORKER_SECONDS = 0.5
"""That a worker may take to finish its batch when the loader is closed."""


class Loader(Protocol):
    """What `Run.steps(loader=…)` takes."""

    samples: int | None
    """Size of the dataset; None for a stream."""

    @property
    def micro_batch_samples(self) -> int | None:
        """At most so many samples in one forward pass; None leaves it to the config."""

    def start(self, plan: BatchPlan, order: SampleOrder | None, samples_seen: int, *, seed: int) -> Callable[[], Any]:
        """Begin at a position of the run; the result gives the next micro-batch's data at every call."""

    def close(self) -> None:
        """End worker processes."""


class _Positions:
    """Endless batch sampler: the positions of this rank's micro-batches, one after the other."""

    def __init__(self, plan: BatchPlan, samples_seen: int) -> None:
        self._plan, self._samples_seen = plan, samples_seen

    def __iter__(self) -> Iterator[list[int]]:
        begin, parts = self._samples_seen, self._plan.parts
        while True:
            for part in parts:
                yield list(range(begin + part.start, begin + part.stop))
            begin += self._plan.global_batch_samples


class _AtPositions(Dataset[Any]):
    """The dataset by position instead of index.

    Each item is made under random streams of its own, and so is the batch that `collate` makes of them (which may mask
    tokens or mix images).
    """

    def __init__(self, dataset: Any, order: SampleOrder, seed: int, collate: Callable[[list[Any]], Any]) -> None:
        self._dataset, self._order, self._seed, self._collate = dataset, order, seed, collate

    def __getitems__(self, positions: list[int]) -> Any:
        """Called by torch's fetcher with a whole micro-batch, in a worker or in the training process."""
        indices = self._order.at(np.asarray(positions, dtype=np.int64)).tolist()
        # In the training process the rank's own streams must come out as they went in.
        kept = None if get_worker_info() is not None else RandomState(torch.device("cpu"))
        state = None if kept is None else kept.state_dict()
        items = []
        for position, index in zip(positions, indices, strict=True):
            seed_sample(self._seed, position)
            items.append(self._dataset[index])
        seed_sample(self._seed, positions[0], "collate")
        batch = self._collate(items)
        if kept is not None and state is not None:
            kept.load_state_dict(state)
        return batch


def _as_it_is(batch: Any) -> Any:
    return batch


def seed_sample(seed: int, position: int, purpose: str = "load") -> None:
    """Seed the CPU generators for the sample at `position`: whoever loads it draws the same augmentation."""
    mixed = random.Random(f"{seed}/{purpose}/{position}").getrandbits(63)  # noqa: S311  training, not secrets
    random.seed(mixed)
    torch.default_generator.manual_seed(mixed)
    if "numpy" in sys.modules:
        np.random.seed(mixed & 0xFFFF_FFFF)  # noqa: NPY002  the global state is what datasets draw from


class SampleLoader:
    """A map-style dataset in the run's order.  `options` are torch's DataLoader's: num_workers, collate_fn,
    prefetch_factor, pin_memory, worker_init_fn, …; what decides on batches and order is the run's.

    Workers live as long as the run, with ``persistent_workers`` or without: batches are one stream across epochs, so no
    epoch waits for them to start.  What `collate_fn` draws depends on the micro-batch alone, as what items draw on the
    sample.
    """

    micro_batch_samples: int | None = None

    def __init__(self, dataset: Any, **options: Any) -> None:
        taken = [name for name in _OWN_OPTIONS if name in options]
        if taken:
            raise InvalidInputError(
                f"SampleLoader({taken[0]}=…)",
                options[taken[0]],
                "no such option: the run decides on batches and order",
                "global_batch_samples of `steps`, and elastic and data in harness.yaml",
            )
        if not options.get("in_order", True):
            raise InvalidInputError(
                "loader", "in_order=False", "in_order=True: a step's data must be that of its own samples"
            )
        self.samples: int | None = len(dataset)
        self._dataset, self._options = dataset, options
        self._collate = options.pop("collate_fn", None) or default_collate
        self._batches: Iterator[Any] | None = None

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> SampleLoader:
        """What `loader` loads, and how, in the run's order.

        Its ``batch_size``, where it is more than 1, becomes the largest micro-batch.  Its sampler must be one of
        torch's that mean "shuffled" or "as it is"; InvalidInputError for one whose order has a meaning of its own.
        """
        for sampler, kinds in ((loader.sampler, _REPLACEABLE_SAMPLERS), (loader.batch_sampler, ("BatchSampler",))):
            # Torch's own, and torchdata's, which are the same with a state, but no subclasses.
            own = type(sampler).__module__.startswith(("torch.utils.data.", "torchdata."))
            if sampler is not None and not (own and type(sampler).__name__ in kinds):
                raise InvalidInputError(
                    "loader",
                    f"a DataLoader with a {type(sampler).__name__}",
                    "one without: the run decides on the order",
                    "take samples more often, or leave them out, in the dataset",
                )
        return cls.like(loader, micro_batch_samples=loader.batch_size or 1)

    @classmethod
    def like(cls, loader: DataLoader[Any], *, micro_batch_samples: int) -> SampleLoader:
        """As `of`, for trainers' loaders: whatever the sampler, and in micro-batches of this size (1: of any)."""
        taken = cls(loader.dataset, **{name: getattr(loader, name) for name in _TAKEN_OVER if hasattr(loader, name)})
        taken.micro_batch_samples = micro_batch_samples if micro_batch_samples > 1 else None
        return taken

    def start(self, plan: BatchPlan, order: SampleOrder | None, samples_seen: int, *, seed: int) -> Callable[[], Any]:
        """As `Loader` says."""
        assert order is not None, "a dataset has an order"
        loader: DataLoader[Any] = DataLoader(
            _AtPositions(self._dataset, order, seed, self._collate),
            batch_sampler=_Positions(plan, samples_seen),
            # Its own: torch's DataLoader otherwise draws from the rank's stream when it starts.
            generator=torch.Generator().manual_seed(seed),
            collate_fn=_as_it_is,
            **self._options,
        )
        self._batches = iter(loader)
        return self._next

    def _next(self) -> Any:
        assert self._batches is not None, "start() comes first"
        return next(self._batches)

    def close(self) -> None:
        """End worker processes, and wait until they have."""
        batches, self._batches = self._batches, None
        end_workers(batches)


def end_workers(batches: object) -> None:
    """End the workers of a DataLoader's iterator, and wait until they have ended.

    torch does so when the iterator is forgotten, which a frame or a traceback that still knows it puts off to the end
    of the process; and it gives a worker that is busy with what nobody will use 5 s.  Here it has half a second.
    """
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is None:  # loaded in this process
        return
    ended = threading.Event()

    def hurry() -> None:
        while not ended.wait(BUSY_WORKER_SECONDS):
            # Only then have they been told: one that is killed while it looks would leave the event locked.
            if batches._workers_done_event.is_set():  # type: ignore[attr-defined]
                for worker in batches._workers:  # type: ignore[attr-defined]
                    worker.terminate()
                return

    thread = threading.Thread(target=hurry, name="harness-end-workers", daemon=True)
    thread.start()
    try:
        shut_down()
    finally:
        ended.set()
        thread.join()


def as_loader(given: Loader | DataLoader[Any]) -> Loader:
    """`given`, or what the run makes of a torch DataLoader; InvalidInputError for one that it cannot resume."""
    if not isinstance(given, DataLoader):
        return given
    if not isinstance(given.dataset, IterableDataset):
        return SampleLoader.of(given)
    if hasattr(given, "state_dict") and given.batch_size:
        return StatefulStream(given, batch_samples=given.batch_size)
    raise InvalidInputError(
        "loader",
        "a DataLoader over an iterable dataset",
        "a map-style dataset, or a loader that keeps its own place, such as torchdata's StatefulDataLoader",
    )


class StatefulStream:
    """An iterable's loader with `state_dict` and `load_state_dict`, whose place is saved per rank.

    What it promises: at an unchanged world size every rank goes on with the batch after the last one it trained on, if
    the loader's state is what it says.  What it cannot promise, because only the loader knows its order: that every
    sample is used once at another world size (a change is refused, or starts the stream anew with
    ``on_resize="restart"``, which repeats samples), that resuming is fast (torchdata replays a sampler), that the same
    number of workers is not needed, and a ledger.

    Parameters
    ----------
    loader:         iterable over batches, the same for the whole run; it begins again when it is exhausted.
    batch_samples:  samples in each of its batches; a rank's share of the global batch is a multiple of it.
    """

    per_rank = True
    samples: int | None = None

    def __init__(self, loader: Any, *, batch_samples: int, on_resize: Literal["refuse", "restart"] = "refuse") -> None:
        for method in ("__iter__", "state_dict", "load_state_dict"):
            if not hasattr(loader, method):
                raise InvalidInputError(
                    "StatefulStream", f"a {type(loader).__name__} without {method}", "a loader that keeps its own place"
                )
        self._loader, self._batch_samples, self._on_resize = loader, batch_samples, on_resize
        self._saved: dict[str, Any] | None = None
        self._batches: Iterator[Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The loader's state after the last batch that was taken from it."""
        return {"loader": self._loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep it until `start` knows whether it fits the world."""
        self._saved = state

    def check_world(self, saved_world_size: int, world_size: int) -> None:
        """InvalidInputError where the saved places are those of another number of ranks."""
        if saved_world_size == world_size:
            return
        if self._on_resize == "refuse":
            raise InvalidInputError(
                "world size",
                world_size,
                f"{saved_world_size}: a stateful loader cannot be shared out anew",
                'on_resize="restart" begins the stream again and repeats samples',
            )
        self._saved = None

    def start(self, plan: BatchPlan, order: SampleOrder | None, samples_seen: int, *, seed: int) -> Callable[[], Any]:
        """As `Loader` says; the position is the loader's own."""
        del order, samples_seen, seed
        per_round = self._batch_samples * plan.world_size
        if plan.global_batch_samples % per_round:
            raise InvalidInputError(
                "global_batch_samples",
                plan.global_batch_samples,
                f"a multiple of {per_round}, one batch of the stream on each rank",
            )
        if self._saved is not None:
            self._loader.load_state_dict(self._saved["loader"])
        self._batches = iter(self._loader)
        return self._next

    @property
    def micro_batch_samples(self) -> int:
        """Each batch of the loader is one micro-batch."""
        return self._batch_samples

    def _next(self) -> Any:
        assert self._batches is not None
        for _ in range(2):
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = iter(self._loader)  # the next epoch
        raise InvalidInputError("StatefulStream", "an empty iterable", "at least one batch per epoch")

    def close(self) -> None:
        """End the loader's workers."""
        batches, self._batches = self._batches, None
        end_workers(batches)
