"""`python -m harness`: launch a run, report on one, look at its checkpoints, test the interruption path."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from harness.chaos.command import chaos
from harness.checkpoint.commands import COMMANDS
from harness.errors import EXIT_CTRL_C, SpotPlannerError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train on interruptible instances: launch, report, look at checkpoints, and test the interruption path."""


class _LaunchCommand(click.Command):
    """CONFIG comes first, options after it or before it, and everything from the script's name on is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-"):
            args = ["--config", *args]
        elif "--config" not in args and not {"-h", "--help"} & set(args):
            # Options first: the first word that is no option's value is the config.
            option_with_value = {name for p in self.params if not getattr(p, "is_flag", False) for name in p.opts}
            index = 0
            while index < len(args) and args[index].startswith("-"):
                index += 2 if args[index] in option_with_value else 1
            args = [*args[:index], "--config", *args[index:]]
        return super().parse_args(ctx, args)


@main.command(
    short_help="Run SCRIPT under torchrun as a harness.yaml says.",
    cls=_LaunchCommand,
    options_metavar="CONFIG [OPTIONS]",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
)
@click.option("--config", required=True, hidden=True, metavar="CONFIG")
@click.option("--node-rank", type=int, help="Which machine of the fleet this is: 0, 1, …  The rendezvous runs on 0.")
@click.option("--nnodes", help="MIN:MAX or a number, instead of the config's.")
@click.option("--nproc-per-node", type=int, help="Training processes on this machine, instead of the config's.")
@click.option("--rdzv-endpoint", help="host:port of the rendezvous, instead of the config's.")
@click.option("--rdzv-id", help="Name of the rendezvous; the run id when not given.")
@click.option("--max-restarts", type=int, help="Restarts that torchrun may spend, instead of the config's.")
@click.option("--local-addr", help="This machine's address, where it has several.")
@click.option("--log-dir", help="Keep each process's output in files below this directory, too.")
@click.option("--dry-run", is_flag=True, help="Check the machine and print the torchrun command, then stop.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def launch(config: str, script: str, arguments: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Run SCRIPT under torchrun as CONFIG (a harness.yaml) says.

    The machine is checked first: config, directories, durable target, port.  Exit code: 0 finished, 75 interrupted and
    resumable (launch again), 2 bad input, 3 the durable target does not answer, 130 stopped by Ctrl-C (resumable), 1
    anything else.
    """
    import shlex

    from harness.launch import LaunchOptions, plan_launch
    from harness.launch import launch as run_launch
    from harness.log import configure_logging
    from harness.preflight import check_machine

    configure_logging(options["node_rank"] or 0, None)
    plan = plan_launch(Path(config), LaunchOptions(**options), Path(script), arguments)
    if dry_run:
        check_machine(plan.config, script=Path(script), hosts_store=plan.hosts_store, node=plan.node or 0)
        click.echo(shlex.join(["torchrun", *plan.arguments]))
        return
    sys.exit(run_launch(plan, script=Path(script)))


@main.command(short_help="What a run did, from its telemetry.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--config", "config_path", help="The run's harness.yaml, for what its plan predicted.")
@click.option("--endpoint-url", metavar="URL", help="Another server than the provider's own, for s3://…")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def report(paths: tuple[str, ...], config_path: str | None, endpoint_url: str | None, as_json: bool) -> None:
    """What a run did, from its telemetry at PATHS: directories or files of its nodes, or the durable target."""
    from harness.report import render_report, report_document

    document = report_document(paths, Path(config_path) if config_path else None, endpoint_url=endpoint_url)
    click.echo(document.model_dump_json(indent=2) if as_json else render_report(document))


@main.command(short_help="Prove that every sample was used once per epoch.")
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def ledger(paths: tuple[str, ...], as_json: bool) -> None:
    """Prove from the ledgers at PATHS that every sample was used exactly once per epoch.

    PATHS are the telemetry directories of all nodes, or the durable target's; the run's harness.yaml had data: {ledger:
    true}.  Exit code 0: proven; 1: not, and why.
    """
    from harness.ledger import prove, render

    proof = prove([Path(path) for path in paths])
    click.echo(proof.model_dump_json(indent=2) if as_json else render(proof))
    sys.exit(0 if proof.proven else 1)


@main.command(short_help="Host the rendezvous store on a stable machine.")
@click.option("--port", type=click.IntRange(1, 65535), default=29400, show_default=True, help="Port of the store.")
def rendezvous(port: int) -> None:
    """Host the rendezvous store on a stable machine, until SIGTERM (exit 0) or Ctrl-C.

    Trainers name it in their harness.yaml: torchrun.rdzv_endpoint: HOST:PORT, torchrun.rdzv_conf.is_host: false.  Their
    launches get their rdzv_id from it (run id and a number), so that a run which finished or failed can be launched
    again on the same store.
    """
    from harness.rendezvous import host_store

    sys.exit(host_store(port))


@main.command(short_help="Before plain torchrun: ask the running fleet to save.")
@click.option("--rdzv-endpoint", help="host:port of the store, instead of the config's.")
@click.option("--rdzv-id", help="Name of the rendezvous, instead of the one that the store hands out.")
@click.option("--node-rank", type=int, default=0, help="Which machine this is, for what is said on stderr.")
@click.argument("config", type=click.Path(path_type=Path))
def join(config: Path, node_rank: int, rdzv_endpoint: str | None, rdzv_id: str | None) -> None:
    """Before plain torchrun: ask the running fleet to save, and print the rdzv_id to use.

    `harness launch` does this by itself.  torchrun stops the workers of a fleet as soon as a node has entered the
    rendezvous, and gives them 30 s; asked first, the fleet saves at its own pace:

    PET_RDZV_ID=$(python -m harness join harness.yaml) torchrun train.py
    """
    from harness.join import join_fleet
    from harness.log import configure_logging

    configure_logging(node_rank, None)
    click.echo(join_fleet(config, endpoint=rdzv_endpoint, rdzv_id=rdzv_id))


@main.command("fake-metadata", short_help="A metadata service that announces a reclaim.")
@click.argument("provider", type=click.Choice(["aws", "gcp", "azure"]))
@click.option("--port", type=int, default=0, help="Port on 127.0.0.1; 0 picks a free one.")
@click.option("--notice-seconds", type=float, default=120.0, show_default=True, help="Time that a notice leaves.")
@click.option("--when-step", type=int, help="Announce the reclaim when the run's telemetry has reached this step.")
@click.option("--telemetry", "telemetry_directory", help="Where that telemetry is written.")
@click.option("--now", is_flag=True, help="Announce the reclaim at once.")
def fake_metadata(
    provider: str,
    port: int,
    notice_seconds: float,
    when_step: int | None,
    telemetry_directory: str | None,
    now: bool,
) -> None:
    """A metadata service on loopback that announces a reclaim when told to: test your interruption path with it.

    Point the config's notice source at it (address: http://127.0.0.1:PORT), then:
    curl -X POST http://127.0.0.1:PORT/control/notice -d '{"seconds": 120}'
    """
    from harness.errors import InvalidInputError
    from harness.fakes.metadata import FAKES
    from harness.fakes.position import StepWatcher
    from harness.fakes.position import when_step as run_when_step

    if (when_step is None) != (telemetry_directory is None):
        raise InvalidInputError("--when-step", when_step, "together with --telemetry DIR")
    stop = threading.Event()
    with FAKES[provider](port) as metadata:
        click.echo(f"{provider} metadata service at {metadata.url}")
        if now:
            metadata.announce(seconds=notice_seconds)
        if when_step is not None and telemetry_directory is not None:
            watcher = StepWatcher(Path(telemetry_directory))
            run_when_step(watcher, when_step, lambda: metadata.announce(seconds=notice_seconds), stop=stop)
            click.echo(f"step {when_step} was reached: reclaim announced, {notice_seconds:g} s left")
        stop.wait()


for _command in (*COMMANDS, chaos):
    main.add_command(_command)


def cli() -> None:
    """`main` with the exit contract: errors are one line on stderr, Ctrl-C is 130."""
    try:
        main.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_CTRL_C)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SpotPlannerError as error:
        click.echo(f"harness: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    cli()
