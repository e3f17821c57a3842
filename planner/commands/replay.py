"""``planner replay``: what a deadline policy would have cost on a recorded spot market."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.errors import EXIT_DONE, InvalidInputError
from planner.commands import HELP_NAMES
from planner.options import BoundedNumber, OneOf, WholeNumber
from simulator.policies import POLICY_NAMES, SPOT_PRICE_TICKS

if TYPE_CHECKING:
    from planner.replay_inputs import TraceMarket
    from simulator.replay import Job, WindowResult

SCHEMA_VERSION = 1

_DURATION = BoundedNumber(above=0.0)
_PRICE = BoundedNumber(at_least=0.0)


F = TypeVar("F", bound=Callable[..., Any])


def _option(flag: str, **attributes: Any) -> Callable[[F], F]:
    """An option that can also be given as the environment variable PLANNER_NAME_OF_FLAG."""
    return click.option(flag, envvar="PLANNER_" + flag.removeprefix("--").replace("-", "_").upper(), **attributes)


@click.command("replay", context_settings=HELP_NAMES)
@_option("--trace", type=click.Path(path_type=Path), required=True, help="Availability: JSON, one sample per tick.")
@_option("--prices", type=click.Path(path_type=Path), help="Spot price changes: CSV with tick,usd_per_hour.")
@_option("--spot-usd-per-hour", type=_PRICE, help="A constant spot price, instead of --prices.")
@_option("--policy", type=OneOf(POLICY_NAMES), required=True, help="What decides between spot, on-demand and waiting.")
@_option("--work-hours", type=_DURATION, required=True, help="Useful work of the job.")
@_option("--deadline-hours", type=_DURATION, required=True, help="Hours from a window's start to its deadline.")
@_option("--restart-hours", type=_PRICE, required=True, help="Overhead of every newly started instance.")
@_option("--on-demand-usd-per-hour", type=_PRICE, help="Needed unless the trace states it.")
@_option(
    "--window-start",
    type=WholeNumber(),
    multiple=True,
    metavar="TICK...",
    help="First tick of a window; several are fine.",
)
@click.argument("more_window_starts", nargs=-1, type=WholeNumber(), metavar="")
@_option("--window-ticks", type=WholeNumber(), help="Length of a window; default: to the trace's end.")
@_option(
    "--spot-price-tick",
    type=OneOf(SPOT_PRICE_TICKS),
    default="same",
    show_default=True,
    help="Charge spot at its own tick's price, or at the next one's as SkyNomad's simulator does.",
)
@_option("--nodes", type=WholeNumber(), default=1, show_default=True, help="Nodes that the job needs at once.")
@_option("--inverted", is_flag=True, help="In this trace 1 means that there is no capacity (GCP probes).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(**parameters: Any) -> int:
    """Replay a deadline policy on a recorded spot market, tick by tick.

    Each window is a run of its own that starts at a tick of the trace: what it costs, when it is done, whether that is
    in time, and what it ran on.  The policies' rules are in docs/deadline-policy.md.

    Example: planner replay --trace us-west-2a.json --prices us-west-2a.csv --policy adaptive --work-hours 48
    --deadline-hours 57 --restart-hours 0.2 --on-demand-usd-per-hour 3.06 --window-start 0 2000 --window-ticks 1107
    """
    starts = _starts(parameters)
    try:
        market, job, results = _replay(parameters, starts)
    except InvalidInputError as error:
        raise _in_flags(error) from None
    document = replay_document(parameters, market, job, results)
    if parameters["as_json"]:
        from planner.documents import to_json

        click.echo(to_json(document))
    else:
        _print(document)
    return EXIT_DONE


def _starts(parameters: dict[str, Any]) -> tuple[int, ...]:
    """Window starts: ``--window-start 5 --window-start 9`` and ``--window-start 5 9`` are the same."""
    given, more = parameters["window_start"], parameters["more_window_starts"]
    if more and not given:
        raise InvalidInputError("argument", more[0], "a flag before it", "as in --window-start 5 9")
    return (*given, *more) or (0,)


def _replay(parameters: dict[str, Any], starts: tuple[int, ...]) -> tuple[TraceMarket, Job, tuple[WindowResult, ...]]:
    from planner.replay_inputs import load_market
    from simulator.replay import Job, replay

    nodes: int = parameters["nodes"]
    market = load_market(
        parameters["trace"],
        prices=parameters["prices"],
        spot_usd_per_hour=parameters["spot_usd_per_hour"],
        nodes=nodes,
        inverted=parameters["inverted"],
        needs_price=parameters["policy"] != "on-demand",
    )
    on_demand = parameters["on_demand_usd_per_hour"]
    if on_demand is None:
        on_demand = market.on_demand_usd_per_hour
    if on_demand is None:
        raise InvalidInputError("--on-demand-usd-per-hour", "nothing", "a price: the trace states none")
    job = Job.from_hours(
        parameters["work_hours"], parameters["deadline_hours"], parameters["restart_hours"], on_demand * nodes
    )
    results = replay(
        market.market,
        job,
        parameters["policy"],
        starts=starts,
        window_ticks=parameters["window_ticks"],
        spot_price_tick=parameters["spot_price_tick"],
    )
    return market, job, results


def _in_flags(error: InvalidInputError) -> InvalidInputError:
    """The error under the name of the flag that it is about."""
    names = {"work_hours", "deadline_hours", "restart_hours", "window_start", "window_ticks", "on_demand_usd_per_hour"}
    if error.field not in names:
        return error
    return InvalidInputError(f"--{error.field.replace('_', '-')}", error.value, error.expected, error.hint)


def replay_document(
    parameters: dict[str, Any], market: TraceMarket, job: Job, results: tuple[WindowResult, ...]
) -> dict[str, Any]:
    """`planner replay --json`; its schema is planner/schemas/replay.json.  Prices and costs are of all nodes."""
    costs = [result.cost_usd for result in results]
    finished = [result.finish_hours for result in results if result.finish_hours is not None]
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "policy": parameters["policy"],
        "trace": str(parameters["trace"]),
        "prices": market.price_source,
        "spot_price_tick": parameters["spot_price_tick"],
        "tick_seconds": market.market.tick_seconds,
        "nodes": parameters["nodes"],
        "job": {
            "work_hours": job.work_seconds / 3600.0,
            "deadline_hours": job.deadline_seconds / 3600.0,
            "restart_hours": job.restart_seconds / 3600.0,
            "on_demand_usd_per_hour": job.on_demand_usd_per_hour,
        },
        "windows": [
            {
                "start_tick": result.start_tick,
                "cost_usd": result.cost_usd,
                "finish_hours": result.finish_hours,
                "met_deadline": result.met_deadline,
                "spot_hours": result.spot_hours,
                "on_demand_hours": result.on_demand_hours,
                "waiting_hours": result.waiting_hours,
                "launches": result.launches,
            }
            for result in results
        ],
        "mean_cost_usd": sum(costs) / len(costs),
        "mean_finish_hours": sum(finished) / len(finished) if finished else None,
        "windows_met_deadline": sum(result.met_deadline for result in results),
        "windows_unfinished": len(results) - len(finished),
        "on_demand_cost_usd": on_demand_cost_usd(job, market.market.tick_seconds),
    }


def on_demand_cost_usd(job: Job, tick_seconds: float) -> float:
    """What the job costs on demand alone: one restart and the work, in whole ticks."""
    import math

    ticks = math.ceil((job.work_seconds + job.restart_seconds - 1e-3) / tick_seconds)
    return ticks * (tick_seconds / 3600.0) * job.on_demand_usd_per_hour


def _print(document: dict[str, Any]) -> None:
    from planner import render
    from planner.render import Column

    out = render.console()
    windows = document["windows"]
    count = len(windows)
    mean, on_demand = document["mean_cost_usd"], document["on_demand_cost_usd"]
    against = (
        f"{abs(1 - mean / on_demand):.1%} {'less' if mean <= on_demand else 'more'} than" if on_demand else "beside"
    )
    render.paragraph(
        out,
        f"{document['policy']}: ${mean:,.2f} on average over {count} window{'s' * (count > 1)}, "
        f"{against} ${on_demand:,.2f} on demand; "
        f"deadline of {render.hours(document['job']['deadline_hours'])} met in {document['windows_met_deadline']} "
        f"of {count}.",
        style="bold",
    )
    if document["windows_unfinished"]:
        render.paragraph(
            out,
            f"{document['windows_unfinished']} not finished when the window ended: their cost is what was paid so far.",
        )
    out.print()
    columns = (
        *(Column(name, right=True) for name in ("Tick", "Cost", "Done", "In time")),
        *(Column(name, right=True) for name in ("Spot", "On demand", "Wait", "Starts")),
    )
    rows = [
        (
            str(window["start_tick"]),
            f"${window['cost_usd']:,.2f}",
            render.hours(window["finish_hours"]),
            "yes" if window["met_deadline"] else "NO",
            render.hours(window["spot_hours"]),
            render.hours(window["on_demand_hours"]),
            render.hours(window["waiting_hours"]),
            str(window["launches"]),
        )
        for window in windows
    ]
    out.print(render.table(columns, rows))
    out.print()
    out.print(f"Prices: {document['prices']}. Ticks of {document['tick_seconds']:g} s.", soft_wrap=True)
