"""Lines for people, on stderr: ``[harness n1 r1] …``."""

from __future__ import annotations

import logging
import sys

_MARK = "_harness_handler"


def configure_logging(node: int, rank: int | None) -> None:
    """Show the harness's lines unless the program has set up handlers for the ``harness`` logger itself.

    `rank` is None in the launcher, which is no training process.
    """
    logger = logging.getLogger("harness")
    ours = [handler for handler in logger.handlers if getattr(handler, _MARK, False)]
    if logger.handlers and not ours:
        return
    for handler in ours:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    setattr(handler, _MARK, True)
    who = f"n{node}" if rank is None else f"n{node} r{rank}"
    handler.setFormatter(logging.Formatter(f"[harness {who}] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
