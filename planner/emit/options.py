"""Flags about the emitted files that no scenario field covers: where checkpoints go, the run's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
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
    script: str | None = None
    """The training script with its arguments."""
    image: str | None = None
    """Container image, for Kubernetes."""


def emit_options(function: F) -> F:
    """Adds the flags."""
    function = click.option(
        "--target",
        "targets",
        type=Words(),
        multiple=True,
        metavar="NAME",
        help="What to write beside harness.yaml: torchrun (the default), skypilot, kubernetes, slurm, ec2, gce, azure, "
        "or all that fit. May be repeated.",
    )(function)
    for flag, text in reversed(
        (
            ("--run-id", "Name of the run in the emitted files and the durable target."),
            ("--remote", "Durable target of the emitted files, e.g. s3://bucket/prefix."),
            ("--local-directory", "This node's own disk for checkpoints, in the emitted files."),
            ("--telemetry-directory", "This node's folder for telemetry, in the emitted files."),
            ("--rdzv-endpoint", "HOST:PORT of the rendezvous store on a stable host, for several nodes."),
            ("--script", "Training script and its arguments, in the emitted files; train.py if not given."),
            ("--image", "Container image with your code, in the emitted Kubernetes manifest."),
        )
    ):
        variable = "PLANNER_" + flag.removeprefix("--").replace("-", "_").upper()
        function = click.option(flag, type=Words(), envvar=variable, help=text)(function)
    return function


def setting_flags() -> dict[str, str]:
    """Flag (without its dashes) → help of every field of `EmitSettings`."""
    known = {field.name for field in fields(EmitSettings)}

    @emit_options
    def command() -> None: ...

    options: list[click.Option] = command.__click_params__  # type: ignore[attr-defined]
    return {o.opts[0].removeprefix("--"): o.help or "" for o in reversed(options) if o.name in known}


def emit_folder_options(function: F) -> F:
    """Adds ``--emit`` and ``--emit-all`` to a command that ranks candidates."""
    for flag, text in (
        ("--emit-all", "Write a folder for every candidate below this one, in the order of the ranking."),
        ("--emit", "Write harness.yaml and torchrun.env (see --target) of the best into this folder."),
    ):
        function = click.option(flag, type=click.Path(path_type=Path), metavar="DIR", help=text)(function)
    return function


def emit_targets(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """What to write, by name; torchrun where nothing was said."""
    return tuple(parameters["targets"]) or ("torchrun",)


def emit_settings(parameters: Mapping[str, Any]) -> EmitSettings:
    """The flags' values."""
    return EmitSettings(
        **{
            name: parameters[name]
            for name in (
                "run_id",
                "remote",
                "local_directory",
                "telemetry_directory",
                "rdzv_endpoint",
                "script",
                "image",
            )
        }
    )
