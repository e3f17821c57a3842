"""The error tree of the whole product: every error that a user can cause or meet is one of these.

    SpotPlannerError               exit code 1 unless a subclass says otherwise
    ├── InvalidInputError          2   a value that the user gave: names the field, the value, what would be right
    ├── ExternalServiceError       3   a cloud API, a bucket, a metadata service failed
    └── HarnessError               1   the training side
        ├── CheckpointError            a checkpoint could not be written, verified or read
        │   └── CorruptCheckpointError     bytes differ from what their manifest vouches for
        ├── FencedError                a newer incarnation of the run exists; this one must stop
        └── InterruptedRunError    75  the run was interrupted and can be resumed (requeue it)

Standard library only: both halves of the product import it, so it sits at the very bottom.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable
from pathlib import PurePath

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_BAD_INPUT = 2
EXIT_EXTERNAL_SERVICE = 3
EXIT_INTERRUPTED_RESUMABLE = 75
EXIT_CTRL_C = 130


class SpotPlannerError(Exception):
    """Base of every error this product raises on purpose."""

    exit_code: int = EXIT_BUG


class InvalidInputError(SpotPlannerError):
    """A value from outside that cannot be used.

    Parameters
    ----------
    field:    what the user calls it: a flag, a key path such as ``market.lifetime.shape``, or a file name.
    value:    what was given: numbers bare, everything else in quotes (shortened when long).
    expected: what would have been accepted, as a phrase that completes "expected …".
    hint:     optional next step, e.g. the nearest valid choice.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, field: str, value: object, expected: str, hint: str | None = None) -> None:
        self.field, self.value, self.expected, self.hint = field, value, expected, hint
        super().__init__(self._one_line())

    def _one_line(self) -> str:
        line = f"{self.field}: got {_shown(self.value)}, expected {self.expected}"
        return f"{line} ({self.hint})" if self.hint else line


def _shown(value: object) -> str:
    """A value in an error: numbers bare, everything else (a number written as text, too) in quotes, shortened."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    is_truth_value = isinstance(value, bool)
    if isinstance(value, numbers.Real) and not is_truth_value:
        return str(value)
    text = " ".join(str(value).split())
    # A path is shown whole: its end is what tells one file from another.
    if len(text) > 80 and not isinstance(value, PurePath):
        text = text[:77] + "..."
    return repr(text)


class ExternalServiceError(SpotPlannerError):
    """Something outside this machine did not do its part."""

    exit_code = EXIT_EXTERNAL_SERVICE


class HarnessError(SpotPlannerError):
    """Base of the training side's errors."""


class CheckpointError(HarnessError):
    """A checkpoint could not be written, verified or read."""


class CorruptCheckpointError(CheckpointError):
    """Bytes differ from what their manifest vouches for, or a file is missing."""


class FencedError(HarnessError):
    """A newer incarnation of this run holds the fence: this one must stop without touching anything."""


class InterruptedRunError(HarnessError):
    """The run was interrupted and can be resumed."""

    exit_code = EXIT_INTERRUPTED_RESUMABLE


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None when nothing is alike (for "did you mean …")."""
    by_folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.55)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """A hint for an unknown name: the nearest choice, as a question; None when nothing is near."""
    guess = nearest(word, choices)
    return f"did you mean {guess!r}?" if guess else None
