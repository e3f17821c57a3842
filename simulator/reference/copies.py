"""Durable checkpoints: which one is the newest, which are bad, what they cost (rules 6 and 7)."""

from __future__ import annotations

from dataclasses import dataclass

from simulator import draws
from simulator.spec import HOURS_PER_MONTH, TOLERANCE_HOURS, Spec


@dataclass(slots=True)
class Copy:
    """One durable checkpoint."""

    progress: float
    durable_at: float
    known_good: bool = False


class Copies:
    """The durable checkpoints of one run, by progress, at most `keep_last` of them."""

    def __init__(self, spec: Spec, seed: int, run: int) -> None:
        self._spec, self._seed, self._run = spec, seed, run
        self._kept: list[Copy] = []
        self._coming: list[Copy] = []
        """Emergency saves: certain, so that they count as saved, but durable only later."""
        self._verdicts = 0
        self._gib_hours = 0.0
        self._puts = 0
        self._gets = 0

    @property
    def newest_progress(self) -> float:
        """What a restore would bring back if the newest copy is good; 0 when there is none (rule 4)."""
        return max((copy.progress for copy in (*self._kept, *self._coming)), default=0.0)

    def is_saved(self, progress: float) -> bool:
        """Whether nothing would be lost by a restore; the start of the job needs no copy."""
        return progress <= self.newest_progress + TOLERANCE_HOURS

    def add(self, progress: float, now: float) -> None:
        """A copy that is durable now; the oldest goes when there are more than `keep_last` (rule 6)."""
        self._settle(now)
        self._keep(Copy(progress, now))

    def add_later(self, progress: float, durable_at: float) -> None:
        """An emergency save, which always succeeds, and is durable later."""
        self._coming.append(Copy(progress, durable_at))

    def _settle(self, now: float) -> None:
        """Emergency saves that have become durable by now, in their order."""
        for copy in [copy for copy in self._coming if copy.durable_at <= now]:
            self._coming.remove(copy)
            self._keep(copy)

    def _keep(self, copy: Copy) -> None:
        # A periodic upload may become durable after an emergency copy of later progress: "oldest" is by progress.
        self._kept.append(copy)
        self._kept.sort(key=lambda kept: kept.progress)
        self._puts += self._spec.shards
        if len(self._kept) > self._spec.keep_last:
            self._delete(0, copy.durable_at)

    def restore(self, now: float) -> bool:
        """Read the newest copy at the end of a startup: True when it is good (or the job starts from 0), False when
        it was bad and is deleted, and one more startup is needed for the one before (rule 6).

        A verdict is drawn once per copy, at its first restore that completes.
        """
        for copy in self._coming:
            copy.durable_at = min(copy.durable_at, now)  # one that is not due yet succeeds all the same: it is there
        self._settle(now)
        if not self._kept:
            return True
        newest = self._kept[-1]
        self._gets += self._spec.shards
        if newest.known_good or self._spec.corruption == 0.0:
            return True
        u, _ = draws.uniforms(self._seed, self._run, 0, self._verdicts, draws.STREAM_CORRUPTION)
        self._verdicts += 1
        if u < self._spec.corruption:
            self._delete(-1, now)
            return False
        newest.known_good = True
        return True

    def storage_usd(self, end: float) -> float:
        """GiB-months of all copies until the run's end, plus requests per shard: a put each, a get per restore.

        The final copy becomes durable at the end: its puts are paid, its storage lasts no time.
        """
        spec = self._spec
        self._settle(end)
        gib_hours = self._gib_hours + sum(spec.checkpoint_gib * (end - copy.durable_at) for copy in self._kept)
        puts = self._puts + spec.shards
        return (
            gib_hours / HOURS_PER_MONTH * spec.storage_usd_per_gib_month
            + puts / 1000.0 * spec.usd_per_1000_puts
            + self._gets / 1000.0 * spec.usd_per_1000_gets
        )

    def _delete(self, index: int, now: float) -> None:
        copy = self._kept.pop(index)
        self._gib_hours += self._spec.checkpoint_gib * (now - copy.durable_at)
