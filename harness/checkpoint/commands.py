"""``python -m harness ls|show|verify|export``: checkpoints in a directory or a bucket, for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_BUG

if TYPE_CHECKING:
    from harness.checkpoint.inspect import CheckpointInfo, VerifiedCheckpoint

SCHEMA_VERSION = 1


def _location(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)
    command = click.option("--endpoint-url", metavar="URL", help="Another server than the provider's own.")(command)
    return click.argument("location", metavar="DIR|s3://…")(command)


@click.command("ls", short_help="List the checkpoints at a location, newest first.")
@_location
def ls_command(location: str, endpoint_url: str | None, as_json: bool) -> None:
    """List the checkpoints below a directory or a bucket's prefix, newest first.

    The location may hold several runs, one run, or one checkpoint; a node's own directory works too.
    """
    from harness.checkpoint.inspect import list_checkpoints

    found = list_checkpoints(location, endpoint_url=endpoint_url)
    if as_json:
        _print_json({"checkpoints": [asdict(info) for info in found]})
    else:
        click.echo(render_list(found))


@click.command("show", short_help="Show one checkpoint: step, components, files.")
@_location
def show_command(location: str, endpoint_url: str | None, as_json: bool) -> None:
    """Show one checkpoint: where training stood, its components and files.  Of several the newest complete one."""
    from harness.checkpoint.inspect import show_checkpoint

    document = show_checkpoint(location, endpoint_url=endpoint_url)
    if as_json:
        _print_json(document)
    else:
        click.echo(render_checkpoint(document))


@click.command("verify", short_help="Compare every byte with the manifests.")
@_location
def verify_command(location: str, endpoint_url: str | None, as_json: bool) -> None:
    """Read every byte of every checkpoint at the location and compare it with its manifest.

    Exit code 0 when all are intact, 1 when anything is damaged or missing.  A checkpoint that was never published is
    named but is no damage: an interruption leaves one behind, and nothing ever restores it.
    """
    from harness.checkpoint.inspect import verify_checkpoints

    found = verify_checkpoints(location, endpoint_url=endpoint_url)
    if as_json:
        _print_json({"intact": all(one.intact for one in found), "checkpoints": [asdict(one) for one in found]})
    else:
        click.echo(render_verified(found))
    if not all(one.intact for one in found):
        sys.exit(EXIT_BUG)


@click.command("export", short_help="Write one component of a checkpoint to a file.")
@click.argument("source", metavar="DIR|s3://…")
@click.argument("output", metavar="OUT.pt|OUT.safetensors", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--component", help="Which one; `model` when not given.")
@click.option("--force", is_flag=True, help="Replace OUT when it exists.")
@click.option("--endpoint-url", metavar="URL", help="Another server than the provider's own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def export_command(
    source: str, output: Path, component: str | None, force: bool, endpoint_url: str | None, as_json: bool
) -> None:
    """Write one component of a checkpoint to one file, verified on the way.

    OUT.pt holds its state_dict for torch.load; OUT.safetensors its tensors, for a component that is nothing else.  Of
    several checkpoints at the location the newest complete one is taken.
    """
    from harness.checkpoint.export import export_checkpoint

    done = export_checkpoint(source, output, component=component, endpoint_url=endpoint_url, force=force)
    if as_json:
        _print_json({**asdict(done), "output": str(done.output)})
    else:
        click.echo(
            f"{done.output}: {done.component} of {done.run_id}/{done.checkpoint}, {done.tensors} tensors, "
            f"{_size(done.bytes)}"
        )


COMMANDS = (ls_command, show_command, verify_command, export_command)


def render_list(found: Sequence[CheckpointInfo]) -> str:
    """A table, one checkpoint a line."""
    rows = [("RUN", "CHECKPOINT", "STATE", "SIZE", "FILES", "NODES", "RANKS", "CREATED", "")]
    rows += [
        (
            info.run_id,
            info.name,
            info.state,
            _size(info.bytes),
            str(info.files),
            "-" if info.nodes is None else str(info.nodes),
            "-" if info.world_size is None else str(info.world_size),
            "-" if info.created_unix_seconds is None else _time(info.created_unix_seconds),
            info.note,
        )
        for info in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def render_checkpoint(document: dict[str, Any]) -> str:
    """What `show_checkpoint` found, for a person."""
    lines = [
        f"{document['name']} of run {document['run_id']}: {document['state']}"
        + (f" ({document['note']})" if document["note"] else ""),
        f"  at          {document['location']}",
        f"  size        {_size(document['bytes'])} in {document['objects']} objects",
    ]
    if document.get("world_size"):
        lines.append(f"  saved by    {document['world_size']} ranks on {document['nodes']} nodes")
    if progress := document.get("progress"):
        told = [f"{key} {value}" for key, value in progress.items() if value not in (None, {}, [])]
        lines.append(f"  progress    {', '.join(told)}")
    if document["files"] is not None:
        for name, component in sorted(document["components"].items()):
            size = sum(file["bytes"] for file in document["files"] if file["path"].startswith(f"{name}/"))
            lines.append(f"  component   {name}: {component['kind']}, {component['tensors']} tensors, {_size(size)}")
        lines += [
            f"  {file['bytes']:>12}  {document['digest']}:{file['digest']}  {file['path']}"
            for file in document["files"]
        ]
    return "\n".join(lines)


def render_verified(found: Sequence[VerifiedCheckpoint]) -> str:
    """One line a checkpoint, and one for each problem."""
    lines = []
    for one in found:
        if one.state == "incomplete":
            verdict = "never completed: nothing restores it"
        elif one.intact:
            verdict = f"intact: {one.files_checked} files, {_size(one.bytes_checked)} read"
        else:
            verdict = f"DAMAGED: {len(one.problems)} of {one.files_checked} files"
        void = " (void: a newer generation went on from an older one)" if one.state == "void" else ""
        lines.append(f"{one.run_id}/{one.name}  {verdict}{void}")
        lines += [f"  {problem}" for problem in one.problems]
    return "\n".join(lines)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2))


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _time(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
