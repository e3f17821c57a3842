"""Flags about the emitted files that no scenario field covers: where checkpoints go, the run's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from planner.options import Words

F = TypeVar("F", bound=Callable[..., Any])

LOCAL_DIRECTORY = "checkpoints/local"
REMOTE_DIRECTORY = "checkpoints/durable"
TELEMETRY_DIRECTORY = "telemetry"


@dataclass(frozen=True, slots=True)
class EmitSettings:
    """What the user said about the emitted files; None: not said."""

    run_id: str | None = None
    remote: str | None = None
    local_directory: str | None = None
    telemetry_directory: str | None = None
    rdzv_endpoint: str | None = None


def emit_options(function: F) -> F:
    """Adds the flags."""
    for flag, text in reversed(
        (
            ("--run-id", "Name of the run in the emitted files and the durable target."),
            ("--remote", "Durable target of the emitted files, e.g. s3://bucket/prefix."),
            ("--local-directory", "This node's own disk for checkpoints, in the emitted files."),
            ("--telemetry-directory", "This node's folder for telemetry, in the emitted files."),
            ("--rdzv-endpoint", "HOST:PORT of the rendezvous store on a stable host, for several nodes."),
        )
    ):
        variable = "PLANNER_" + flag.removeprefix("--").replace("-", "_").upper()
        function = click.option(flag, type=Words(), envvar=variable, help=text)(function)
    return function


def emit_settings(parameters: Mapping[str, Any]) -> EmitSettings:
    """The flags' values."""
    return EmitSettings(
        **{
            name: parameters[name]
            for name in ("run_id", "remote", "local_directory", "telemetry_directory", "rdzv_endpoint")
        }
    )
