"""What a test needs of its machine: where it is missing the test is skipped, saying why, and in CI it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End the test that needs what is not here: skipped or, with ``CI`` set, failed, so that CI leaves nothing out."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
