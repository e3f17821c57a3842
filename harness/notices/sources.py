"""From the config's list of sources to objects."""

from __future__ import annotations

import signal

from harness.clock import Clock
from harness.config import NoticesConfig
from harness.errors import InvalidInputError
from harness.notices.aws import AwsSource
from harness.notices.azure import AzureSource
from harness.notices.base import PolledSource
from harness.notices.gcp import GcpSource
from harness.notices.simple import FileSource, HttpSource


def open_sources(config: NoticesConfig, *, node: int, clock: Clock) -> list[PolledSource]:
    """The polled sources that `config` names (signals are not polled); ``{node}`` in an address is the node."""
    opened: list[PolledSource] = []
    for source in config.sources:
        address = source.address.replace("{node}", str(node)) if source.address else None
        seconds = config.notice_seconds if source.seconds is None else source.seconds
        match source.kind:
            case "aws":
                opened.append(AwsSource(address, clock=clock))
            case "gcp":
                opened.append(GcpSource(address, clock=clock, notice_seconds=seconds))
            case "azure":
                opened.append(AzureSource(address, clock=clock, notice_seconds=seconds))
            case "file":
                opened.append(FileSource(_needed(address, "file"), clock=clock, notice_seconds=seconds))
            case "http":
                opened.append(HttpSource(_needed(address, "http"), clock=clock, notice_seconds=seconds))
            case "sigterm" | "signal":
                continue
    return opened


def wants_signals(config: NoticesConfig) -> bool:
    """Whether SIGTERM and SIGINT are to be taken as notices."""
    return any(source.kind == "sigterm" for source in config.sources)


def warning_signals(config: NoticesConfig) -> dict[signal.Signals, float]:
    """Signals that a scheduler sends ahead of the end, and how many seconds ahead."""
    return {
        signal.Signals[source.address]: config.notice_seconds if source.seconds is None else source.seconds
        for source in config.sources
        if source.kind == "signal" and source.address is not None
    }


def _needed(address: str | None, kind: str) -> str:
    if not address:
        raise InvalidInputError("notices.sources.address", "nothing", f"an address for a source of kind {kind}")
    return address
