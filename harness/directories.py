"""Directories of several nodes on one machine: ``{node}`` in a path.  Importable without torch."""

from __future__ import annotations

from pathlib import Path

from harness.config import RunConfig

NODE = "{node}"


def uses_node(config: RunConfig) -> bool:
    """Whether any directory or notice address of `config` depends on the node."""
    paths = [str(config.checkpoint.directory), str(config.telemetry.directory)]
    addresses = [source.address or "" for source in config.notices.sources]
    return any(NODE in text for text in (*paths, *addresses))


def resolve_directories(config: RunConfig, node: int) -> RunConfig:
    """`config` with ``{node}`` in its directories replaced by `node`."""

    def resolved(path: Path) -> Path:
        return Path(str(path).replace(NODE, str(node)))

    return config.model_copy(
        update={
            "checkpoint": config.checkpoint.model_copy(update={"directory": resolved(config.checkpoint.directory)}),
            "telemetry": config.telemetry.model_copy(update={"directory": resolved(config.telemetry.directory)}),
        }
    )
