"""``planner calibrate``: a profile from harness telemetry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_DONE, ExternalServiceError, InvalidInputError
from planner import render
from planner.render import Column

if TYPE_CHECKING:
    from harness.telemetry.schema import Profile
    from planner.calibrate import Calibration, Place
    from planner.catalogue import Instance
    from planner.telemetry_runs import TelemetryRuns


@click.command("calibrate")
@click.argument("telemetry", nargs=-1, metavar="[TELEMETRY...]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the profile to this JSON file, for --profile.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The run's harness.yaml: where its telemetry is; on which instance type, in which zone it ran.",
)
@click.option("--instance", help="The instance type that it ran on, where no config says it.")
@click.option("--region", help="The region that it ran in.")
@click.option("--zone", help="The zone that it ran in.")
@click.option("--pool", is_flag=True, help="Pool several runs of the same fleet; else they are an error.")
@click.option("--endpoint-url", help="Another S3-compatible server, for s3:// places.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(
    telemetry: tuple[str, ...],
    out: Path | None,
    config: Path | None,
    instance: str | None,
    region: str | None,
    zone: str | None,
    pool: bool,
    endpoint_url: str | None,
    as_json: bool,
) -> int:
    """Measure a scenario's parameters in harness telemetry.

    TELEMETRY is a telemetry folder or file, a folder above several nodes' folders, or a durable target (a folder or
    s3://bucket/prefix). With --config, the durable target of the run is read too: only there is what reclaimed nodes
    wrote. The profile replaces assumptions in every planning command.

    Example: planner calibrate --config harness.yaml --out profile.json;
    planner recommend --profile profile.json --instance p4d.24xlarge --work-hours 100
    """
    from planner.calibrate import calibrate
    from planner.telemetry_runs import only_run

    _check_out(out)
    place, row, note = _place(config, instance, region, zone)
    read, unread = _read(telemetry, config, endpoint_url)
    if not pool:
        only_run(read, "name the run's own folder, or pool them with --pool")
    found_device = read.runs[0].summary.profile
    place, row, notes = _only_what_was_measured(place, row, found_device, asked=instance is not None, note=note)
    notes = (*notes, *unread)
    found = calibrate(read.runs, place, row)
    written = _write(found.profile, out) if out is not None else None
    if as_json:
        from planner.documents import to_json

        click.echo(to_json(calibrate_document(found, read, written, notes)))
    else:
        _print(found, read, written, notes)
    return EXIT_DONE


def _check_out(out: Path | None) -> None:
    if out is not None and out.is_dir():
        raise InvalidInputError("--out", out, "a file, such as profile.json; a folder of this name exists")


def _read(
    telemetry: tuple[str, ...], config: Path | None, endpoint_url: str | None
) -> tuple[TelemetryRuns, tuple[str, ...]]:
    """The runs' telemetry, the durable target's included where a config names it, and what may be missing from it.

    Disks that are still here are those of nodes that were not reclaimed: read alone, they say that few nodes are.
    """
    from harness.config import load_run_config
    from planner.run_places import durable_places, is_durable, places_of
    from planner.telemetry_runs import read_runs

    if config is None and not telemetry:
        raise InvalidInputError("TELEMETRY", "nothing", "a telemetry folder or a durable target", "or --config")
    notes: list[str] = []
    if config is None:
        read = read_runs(telemetry, endpoint_url=endpoint_url)
    else:
        loaded = load_run_config(config)
        url = endpoint_url or loaded.checkpoint.s3_endpoint_url
        places = [*telemetry, *durable_places(loaded, config)] if telemetry else places_of(loaded, config)
        try:
            read = read_runs(places, endpoint_url=url)
        except ExternalServiceError as error:
            if not telemetry:
                raise
            notes.append(f"the durable target was not read: {error}")
            read = read_runs(telemetry, endpoint_url=url)
    if not is_durable(read.files, (run.run_id for run in read.runs)):
        notes.append(
            "no telemetry of the durable target is here: what reclaimed nodes wrote may be missing, and the rate too "
            "low; name the durable target, or --config"
        )
    return read, tuple(notes)


def _place(
    config: Path | None, instance: str | None, region: str | None, zone: str | None
) -> tuple[Place, Instance | None, str]:
    """Where the run ran: the flags over the config's plan."""
    from harness.config import PlanConfig, load_run_config
    from planner.calibrate import Place
    from planner.catalogue import load_catalogue

    plan = load_run_config(config).plan if config is not None else PlanConfig()
    name = instance or plan.instance
    if name is None:
        return Place(plan.provider, None, region or plan.region, zone or plan.zone), None, ""
    provider = plan.provider if instance is None else None
    try:
        row = load_catalogue().instance(name, provider)
    except InvalidInputError as error:
        field = "--instance" if instance is not None else f"{config}: plan.instance"
        raise InvalidInputError(field, error.value, error.expected, error.hint) from None
    place = Place(row.provider, row.name, region or plan.region, zone or plan.zone)
    return place, row, f"the config's plan is for {row.name}"


def _only_what_was_measured(
    place: Place, row: Instance | None, profile: Profile, *, asked: bool, note: str
) -> tuple[Place, Instance | None, tuple[str, ...]]:
    """The config's place is dropped, and said so, where the run was not on it (a rehearsal on CPUs)."""
    from planner.calibrate import Place
    from planner.profile import describes

    if asked or row is None or describes(profile, row):
        return place, row, ()
    told = f"{note}, but the telemetry is of device {profile.device!r}: the profile names no instance type"
    return Place(), None, (told,)


def _write(profile: Profile, out: Path) -> Path:
    from planner.emit.files import write_folder

    return write_folder(out.parent, {out.name: profile.model_dump_json(indent=2) + "\n"}, field="--out")[0]


def calibrate_document(
    found: Calibration, read: TelemetryRuns, written: Path | None, notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`planner calibrate --json`: the profile, what was measured and how often, and what is missing."""
    from planner.documents import SCHEMA_VERSION, probability

    interval = found.rate_interval_per_hour
    profile = found.profile
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "run_ids": list(profile.run_ids),
        "finished": found.finished,
        "attempts": found.attempts,
        "measured": [
            {"name": row.name, "unit": row.unit, **row.measurement.model_dump(), "used_for": row.used_for}
            for row in found.measured
        ],
        "rate": None
        if interval is None
        else {
            "interruptions": profile.interruptions,
            "exposure_hours": profile.exposure_hours,
            "rate_per_hour": found.rate_per_hour,
            "low_per_hour": interval[0],
            "high_per_hour": interval[1],
        },
        "notice_success": None
        if found.notice_success is None
        else {
            "notices": profile.notices,
            "acted_on": profile.notices_acted_on,
            "interval": probability(found.notice_success),
        },
        "missing": [{"name": row.name, "why": row.why} for row in found.missing],
        "notes": [*found.notes, *notes],
        "profile": profile.model_dump(mode="json"),
        "files": list(read.files),
        "damaged_lines": read.damaged_lines,
        "written": None if written is None else str(written),
    }


def _print(found: Calibration, read: TelemetryRuns, written: Path | None, notes: tuple[str, ...]) -> None:
    out = render.console()
    profile = found.profile
    where = profile.zone or profile.region
    on = f"{profile.nodes or '?'} x {profile.instance or profile.device or 'unknown'}{f' in {where}' if where else ''}"
    render.paragraph(
        out,
        f"{', '.join(profile.run_ids)} on {on}: {found.attempts} attempts, {profile.useful_steps:,} useful steps and "
        f"{profile.lost_steps:,} lost in {render.duration(3600 * profile.wall_hours)}, goodput "
        f"{render.percent(profile.goodput)}.",
        style="bold",
    )
    out.print()
    columns = (
        Column("Measured"),
        Column("Mean", right=True),
        Column("Std. dev.", right=True),
        Column("Range", right=True),
        Column("n", right=True),
        Column("Used for"),
    )
    rows = []
    for row in found.measured:
        m = row.measurement
        spread = f"{m.standard_deviation:.3g}" if m.n > 1 else "-"
        extent = f"{m.minimum:.3g}-{m.maximum:.3g}"
        label = row.name.removesuffix("_seconds").removesuffix("_bytes").replace("_per_second", "").replace("_", " ")
        unit = "B" if row.unit == "bytes" else row.unit
        rows.append((label, f"{m.mean:.4g} {unit}", spread, extent, f"{m.n:,}", row.used_for))
    out.print(render.table(columns, rows))
    out.print()
    if found.rate_interval_per_hour is not None:
        low, high = found.rate_interval_per_hour
        render.paragraph(
            out,
            f"Interruptions: {profile.interruptions} in {profile.exposure_hours:.4g} node-hours, "
            f"{found.rate_per_hour:.3g} per node-hour (95%: {low:.3g} to {high:.3g}).",
        )
    if found.notice_success is not None:
        share = found.notice_success
        render.paragraph(
            out,
            f"Notices acted on: {profile.notices_acted_on} of {profile.notices} (95%: {render.percent(share.low)} to "
            f"{render.percent(share.high)}).",
        )
    out.print("Not measured, still assumed:")
    for missing in found.missing:
        render.paragraph(out, f"{missing.name}: {missing.why}", indent=2)
    for note in (*found.notes, *notes):
        render.paragraph(out, f"Note: {note}.")
    if read.damaged_lines:
        render.paragraph(
            out, f"Note: {read.damaged_lines} lines of telemetry were cut short by a kill and are left out."
        )
    if written is not None:
        render.paragraph(out, f"Wrote {written}: planner recommend --profile {written}")
