"""Answers on disk, each with the time it was given, so that a second plan within the hour asks nobody.

One JSON file per question in the user's cache folder (PLANNER_CACHE_DIR overrides it), written whole or not at all.  A
file that cannot be read is as good as none: it is a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clock import Clock

CACHE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered and how long ago (seconds, never negative)."""

    document: Any
    age_seconds: float


class AnswerCache:
    """Documents by question.  A folder that cannot be written to makes every lookup a miss, never an error."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    def get(self, question: str) -> Answer | None:
        """The newest answer to `question`, of any age; None when there is none."""
        try:
            stored = json.loads(self._path(question).read_text(encoding="utf-8"))
            if stored["cache_version"] != CACHE_VERSION or stored["question"] != question:
                return None
            age_seconds = self._clock.wall() - float(stored["answered_at"])
            return Answer(stored["document"], max(0.0, age_seconds))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, question: str, document: Any) -> None:
        """Keep `document` (JSON values only) as the answer to `question`, given now."""
        stored = {
            "cache_version": CACHE_VERSION,
            "question": question,
            "answered_at": self._clock.wall(),
            "document": document,
        }
        path = self._path(question)
        with contextlib.suppress(OSError):  # a full or read-only disk costs the cache, not the plan
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    json.dump(stored, stream)
                Path(temporary).replace(path)
            finally:
                Path(temporary).unlink(missing_ok=True)

    def _path(self, question: str) -> Path:
        return self._directory / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"


def default_cache_directory() -> Path:
    """PLANNER_CACHE_DIR, else the folder that the platform has for caches."""
    given = os.environ.get("PLANNER_CACHE_DIR")
    if given:
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("spot-planner") / "prices"
