"""Begin to listen for notices: signals in every process, polled sources once per node."""

from __future__ import annotations

import os
from typing import Protocol

from harness.attempt import Attempt
from harness.board import NoticeBoard
from harness.notices import Notice, NoticeWatcher, open_sources
from harness.notices.signals import SIGNALS, SignalListener
from harness.notices.sources import wants_signals, warning_signals
from harness.warning_signals import warned_before_start


class Listener(Protocol):
    """Something that listens until it is closed."""

    def close(self) -> None:
        """Stop listening."""


def listen(attempt: Attempt, listeners: list[Listener]) -> NoticeBoard:
    """Listen from now on, appending to `listeners` what has to be closed; the board that collects what is heard."""
    config = attempt.config.notices

    def on_notice(notice: Notice, seconds_left: float | None) -> None:
        attempt.telemetry.emit(
            "notice", source=notice.source, kind=notice.kind, seconds_left=seconds_left, detail=notice.detail or None
        )

    board = NoticeBoard(
        attempt.clock,
        on_notice=on_notice,
        shutdown_timeout_seconds=attempt.config.torchrun.shutdown_timeout_seconds,
        warnings=warning_signals(config),
    )
    if (warned := warned_before_start(os.environ)) is not None:
        board.hear_warning(warned[0], sent_wall=warned[1])
    signals = (*(SIGNALS if wants_signals(config) else ()), *warning_signals(config))
    if signals:
        listeners.append(SignalListener(board.hear_signal, signals))
    if attempt.leads_node:
        watcher = NoticeWatcher(
            open_sources(config, node=attempt.placement.node_name, clock=attempt.clock),
            poll_seconds=config.poll_seconds,
            on_notice=board.hear,
            clock=attempt.clock,
        )
        watcher.start()
        listeners.append(watcher)
    return board
