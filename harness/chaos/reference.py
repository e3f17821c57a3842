"""The same run, never interrupted: what an interrupted one is compared with."""

from __future__ import annotations

from pathlib import Path

from harness.chaos.fleet import (
    LIMIT_SECONDS,
    Shape,
    launch_command,
    one_machine,
    start_process,
    wait_until,
    write_config,
)
from harness.chaos.network import ChaosError, free_port
from harness.config import RunConfig
from harness.errors import EXIT_DONE
from harness.processes import kill_tree


def run_uninterrupted(config: RunConfig, shape: Shape, chaos_folder: Path) -> None:
    """All ranks on one node, below ``reference`` in the folder of the chaos run; ChaosError when it does not finish."""
    folder = chaos_folder / "reference"
    alone = one_machine(
        config,
        Shape(1, 1, shape.script, shape.arguments, shape.interval_steps),
        folder,
        folder / "bucket",
        endpoint=f"localhost:{free_port()}",
        metadata="http://127.0.0.1:9",
        external_store=False,
    )
    alone = alone.model_copy(
        update={
            "torchrun": alone.torchrun.model_copy(update={"nproc_per_node": shape.maximum}),
            "notices": alone.notices.model_copy(update={"sources": alone.notices.sources[:1]}),
        }
    )
    write_config(alone, folder / "harness.yaml")
    log = chaos_folder / "logs" / "reference.log"
    process = start_process(launch_command(folder / "harness.yaml", shape, []), log, {})
    try:
        wait_until(lambda: process.poll() is not None, "the end of the uninterrupted run", LIMIT_SECONDS)
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()
    if process.returncode != EXIT_DONE:
        raise ChaosError(f"the uninterrupted run ended with {process.returncode}; see {log}")
