"""The command line: which commands there are, and how every way of ending becomes an exit code.

Nothing heavy is imported here: a command's module is loaded when that command is asked for, so that
``planner --help`` costs what Python and click cost.

Exit codes: 0 done; 2 bad input (one line on stderr: field, value, what would be accepted, hint); 3 an external
service failed; 130 interrupted; 1 a bug.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence

import click

from harness.errors import (
    EXIT_BUG,
    EXIT_CTRL_C,
    EXIT_DONE,
    InvalidInputError,
    SpotPlannerError,
    did_you_mean,
)

_EXTRA_ARGUMENT = re.compile(r"unexpected extra arguments? \((.*)\)")
_UNKNOWN_COMMAND = re.compile(r"No such command '([^']+)'")

COMMANDS: dict[str, tuple[str, str]] = {
    "recommend": ("planner.commands.recommend", "Where to rent, how often to save, what it costs, when it is done."),
    "compare": ("planner.commands.compare", "Types, zones and fleet sizes for one job, ranked."),
    "simulate": ("planner.commands.simulate", "Simulate a scenario: cost, makespan, lost work, goodput."),
    "sweep": ("planner.commands.sweep", "Cost against checkpoint interval; the optimum; what the rules cost."),
    "replay": ("planner.commands.replay", "Replay a deadline policy on a recorded spot market."),
    "prices": ("planner.commands.prices", "Prices per zone: bundled, live, history."),
    "fit": ("planner.commands.fit", "Fit lifetime distributions to traces and logs."),
    "calibrate": ("planner.commands.calibrate", "Measure a profile in harness telemetry, for the next plan."),
    "report": ("planner.commands.report", "Predicted against actual, and what explains the difference."),
    "data": ("planner.commands.data", "Check the bundled tables."),
    "schedule": ("planner.commands.schedule", "Write interruptions to rehearse: of a plan, a distribution or a trace."),
    "emit": ("planner.commands.emit", "Write harness.yaml and torchrun.env for a scenario."),
    "dashboard": ("planner.commands.dashboard", "Open the pages: plan, compare, understand, export, follow runs."),
}
"""Command name → (module, what it does).  The module's attribute ``command`` is the click command."""


class LazyGroup(click.Group):
    """Commands whose modules are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = did_you_mean(name, COMMANDS)
            raise InvalidInputError("command", name, f"one of {', '.join(COMMANDS)}", hint)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"planner {version('spot-planner')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def planner() -> None:
    """Plan training on spot and preemptible instances.

    Predicts cost and finish time, finds how often to save, and writes the configuration to run it.
    Every flag can be set as an environment variable PLANNER_NAME_OF_FLAG.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.  Nothing but bugs leaves a traceback."""
    try:
        # Not click's own main(): it would end a closed pipe with exit 1 and Ctrl-C with a blank line.
        given = list(sys.argv[1:] if arguments is None else arguments)
        with planner.make_context("planner", given) as ctx:
            outcome = planner.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        sys.stdout.flush()
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.stdout.flush()
        return EXIT_DONE
    except click.ClickException as error:
        return _fail(usage_error(error))
    except SpotPlannerError as error:
        return _fail(error)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("planner: interrupted\n")
        return EXIT_CTRL_C
    except BrokenPipeError:
        # The reader (head, a pager) has all that it wanted.  Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is reported as one
        traceback.print_exc()
        sys.stderr.write(f"planner: this is a bug, please report it: {type(error).__name__}: {error}\n")
        return EXIT_BUG
    return outcome if isinstance(outcome, int) else EXIT_DONE


def usage_error(error: click.ClickException) -> InvalidInputError:
    """Click's own complaints in the form of every other bad input: field, value, expected, hint."""
    ctx = getattr(error, "ctx", None)
    command = ctx.command_path if isinstance(ctx, click.Context) else "planner"
    help_hint = f"see {command} --help"
    if isinstance(error, click.NoSuchOption):
        known = _known_flags(ctx)
        # --provision-seconds means --provision-hours rather than --decision-seconds: the first word says what it is.
        stem = error.option_name.lstrip("-").partition("-")[0]
        akin = [flag for flag in known if flag.startswith(f"--{stem}-")]
        hint = did_you_mean(error.option_name, akin) or did_you_mean(error.option_name, known)
        return InvalidInputError("flag", error.option_name, f"a flag of {command}", hint or help_hint)
    if isinstance(error, click.BadOptionUsage):
        return InvalidInputError(error.option_name, "nothing", "a value", help_hint)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        is_option = isinstance(error.param, click.Option)
        name = error.param.opts[0] if is_option else error.param.human_readable_name
        return InvalidInputError(name, "nothing", "a value: it is required", help_hint)
    if isinstance(error, click.BadParameter) and error.param is not None:
        from planner.options import called

        return InvalidInputError(called(error.param, ctx), error.message, "a value that it accepts", help_hint)
    unknown = _UNKNOWN_COMMAND.search(error.format_message())
    if unknown is not None and isinstance(ctx, click.Context) and isinstance(ctx.command, click.Group):
        names = list(ctx.command.commands)
        return InvalidInputError("command", unknown[1], f"one of {', '.join(names)}", did_you_mean(unknown[1], names))
    extra = _EXTRA_ARGUMENT.search(error.format_message())
    if extra is not None:
        return InvalidInputError("argument", extra[1], f"no more arguments than {command} takes", help_hint)
    return InvalidInputError("command line", error.format_message(), f"the usage of {command}", help_hint)


def _known_flags(ctx: click.Context | None) -> list[str]:
    if ctx is None:
        return []
    return [
        flag for param in ctx.command.params for flag in (*param.opts, *param.secondary_opts) if flag.startswith("--")
    ]


def _fail(error: SpotPlannerError) -> int:
    line = " ".join(str(error).split())
    sys.stderr.write(f"planner: {line}\n")
    return error.exit_code
