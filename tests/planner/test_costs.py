"""Costs of checkpoints and restarts: numbers by hand, how they move, and whether a save fits the notice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement, Profile
from planner import costs
from planner.assumptions import load_assumptions
from planner.catalogue import load_catalogue
from planner.costs import derive_costs

CATALOGUE = load_catalogue()
P4D = CATALOGUE.instance("p4d.24xlarge")
GIB_PER_GB = 1e9 / 2**30


def test_p4d_with_50_gib_by_hand() -> None:
    """Each duration, recomputed from the table's bandwidths and the stated assumptions."""
    found = derive_costs(P4D, 50.0)
    stall = 0.5 + 50 / (8 * 2)
    local = 50 / (8 * 0.349 * GIB_PER_GB)
    upload = 50 / 2.0
    assert found.stall_seconds == pytest.approx(stall)
    assert found.persist_seconds == pytest.approx(local + upload + 1)
    assert found.emergency_seconds == pytest.approx(5 + 1 + stall + local + upload + 1)
    assert found.startup_seconds == pytest.approx(150 + 30 + 50 / 4 + 50 / 16 + 60)
    assert (found.notice_seconds, found.emergency_fits, found.flags) == (120.0, True, ())
    # Seconds of stall, tens of seconds of upload: not microseconds, not minutes (REQUIREMENTS B3).
    assert 1 < found.stall_seconds < 10 < found.persist_seconds < 100


def test_slow_network_and_volume_bound_small_nodes() -> None:
    """p3.2xlarge: half of 2.5 Gb/s to the object store, a default gp3 volume of 125 MiB/s for the local copy."""
    found = derive_costs(CATALOGUE.instance("p3.2xlarge"), 50.0)
    expected = 50 * 1024 / 125 + 50 / (0.5 * 2.5 / 8 * GIB_PER_GB) + 1
    assert found.persist_seconds == pytest.approx(expected)
    assert not found.emergency_fits
    assert "does not fit" in found.emergency_verdict


def test_instances_own_disk_limit_wins_over_a_faster_volume() -> None:
    """A volume provisioned at 1,000 MiB/s cannot beat p3.2xlarge's 1.75 Gb/s to its volumes."""
    fast = load_assumptions().with_overrides({"volume_mib_per_second": 1000.0})
    found = derive_costs(CATALOGUE.instance("p3.2xlarge"), 50.0, assumptions=fast)
    assert dict(found.parts["persist"])["write to the local disk"] == pytest.approx(50 / (1.75 / 8 * GIB_PER_GB))


def test_nodes_share_the_state() -> None:
    """Four nodes with 200 GiB each save 50 GiB, as fast as one with 50; overheads do not shrink."""
    four, one = derive_costs(P4D, 200.0, 4), derive_costs(P4D, 50.0, 1)
    for name in ("stall_seconds", "persist_seconds", "emergency_seconds", "startup_seconds"):
        assert getattr(four, name) == getattr(one, name)


def test_largest_emergency_is_exactly_what_fits() -> None:
    """At the stated size the save takes the whole notice; a hair more does not fit."""
    largest = derive_costs(P4D, 1.0, 4).largest_emergency_gib
    assert largest is not None
    assert derive_costs(P4D, largest, 4).emergency_seconds == pytest.approx(120.0)
    assert derive_costs(P4D, largest * 0.999, 4).emergency_fits
    assert not derive_costs(P4D, largest * 1.001, 4).emergency_fits


def test_notice_of_the_provider_and_of_the_user() -> None:
    """30 s at GCP and Azure, 120 s at AWS; a given notice wins; a notice shorter than hearing it never fits."""
    assert derive_costs(CATALOGUE.instance("a3-highgpu-8g"), 1.0).notice_seconds == 30.0
    assert derive_costs(CATALOGUE.instance("Standard_ND96asr_v4"), 1.0).notice_seconds == 30.0
    assert derive_costs(P4D, 50.0, notice_seconds=30.0).emergency_fits is False
    hopeless = derive_costs(P4D, 0.0, notice_seconds=2.0)
    assert hopeless.largest_emergency_gib is None
    assert "never fits" in hopeless.emergency_verdict


def test_unknown_bandwidths_are_assumed_and_flagged() -> None:
    """GCP's table has no network figure: the assumption is used, listed and flagged."""
    found = derive_costs(CATALOGUE.instance("a3-highgpu-8g"), 10.0)
    assert costs.NETWORK_UNKNOWN in found.flags
    assert "unknown_network_gbps" in {row.name for row in found.assumptions}
    faster = load_assumptions().with_overrides({"unknown_network_gbps": 100.0})
    assert derive_costs(CATALOGUE.instance("a3-highgpu-8g"), 10.0, assumptions=faster).persist_seconds < (
        found.persist_seconds
    )
    nothing = replace(P4D, local_nvme_drives=None, local_nvme_gb=None, disk_gbps=None, network_gbps=None)
    assert set(derive_costs(nothing, 10.0).flags) == {costs.NETWORK_UNKNOWN, costs.LOCAL_DISK_UNKNOWN}


@pytest.mark.parametrize(
    ("name", "worse", "duration"),
    [
        ("staging_gib_per_second_per_accelerator", 0.5, "stall_seconds"),
        ("nvme_striped", 0.0, "persist_seconds"),
        ("upload_gib_per_second_per_node", 0.5, "persist_seconds"),
        ("notice_poll_seconds", 60.0, "emergency_seconds"),
        ("boot_seconds", 900.0, "startup_seconds"),
        ("download_gib_per_second_per_node", 0.5, "startup_seconds"),
        ("object_store_share_of_network", 0.001, "startup_seconds"),
    ],
)
def test_every_worse_assumption_costs_more(name: str, worse: float, duration: str) -> None:
    """Each assumption reaches the duration that it is about."""
    base = derive_costs(P4D, 50.0)
    found = derive_costs(P4D, 50.0, assumptions=load_assumptions().with_overrides({name: worse}))
    assert getattr(found, duration) > getattr(base, duration)
    assert {row.name: row.source for row in found.assumptions}[name] == "given by the user"


def test_only_used_assumptions_are_listed() -> None:
    """p4d has drives and a network figure: no volume, no unknown network in its list."""
    names = {row.name for row in derive_costs(P4D, 50.0).assumptions}
    assert "upload_gib_per_second_per_node" in names
    assert not names & {"volume_mib_per_second", "unknown_network_gbps", "notice_seconds_gcp", "open_band_share"}


def _measurement(mean: float) -> Measurement:
    return Measurement(mean=mean, n=5, minimum=mean, maximum=mean)


def _profile(**fields: object) -> Profile:
    known = {
        "run_ids": ("r1",),
        "created_wall_time": 1_790_000_000.0,
        "nodes": 2,
        "checkpoint_bytes": _measurement(20 * 2**30),
    }
    return Profile.model_validate({**known, **fields})


def test_measured_figures_win_scaled_by_the_share() -> None:
    """Measured at 10 GiB a node; asked for 40 GiB a node: four times as long.  The rest stays assumed."""
    profile = _profile(stall_seconds=_measurement(2.0), persist_seconds=_measurement(7.0))
    found = derive_costs(P4D, 80.0, 2, profile=profile)
    assert (found.stall_seconds, found.persist_seconds) == pytest.approx((8.0, 28.0))
    assert found.emergency_seconds == pytest.approx(5 + 1 + 8 + 28)
    rows = {row.name: row for row in found.assumptions}
    assert (rows["measured_stall_seconds"].value, rows["measured_stall_seconds"].as_of) == (2.0, "2026-09-21")
    assert "boot_seconds" in rows
    assert "staging_gib_per_second_per_accelerator" in rows  # startup was not measured


def test_measured_emergency_and_startup_keep_what_was_not_in_them() -> None:
    """An emergency is measured from hearing the notice (one poll is added), a startup from the launcher (boot too)."""
    profile = _profile(emergency_seconds=_measurement(10.0), startup_seconds=_measurement(25.0))
    found = derive_costs(P4D, 20.0, 2, profile=profile)
    assert found.emergency_seconds == pytest.approx(5 + 10)
    assert found.startup_seconds == pytest.approx(150 + 25)
    assert derive_costs(P4D, 200.0, 2, profile=profile).startup_seconds == found.startup_seconds


def test_profile_of_another_type_is_not_used() -> None:
    """A stall on a laptop says nothing about p4d; it is flagged, not silently dropped."""
    profile = _profile(instance="g5.xlarge", stall_seconds=_measurement(99.0))
    found = derive_costs(P4D, 50.0, profile=profile)
    assert found.stall_seconds == derive_costs(P4D, 50.0).stall_seconds
    assert found.flags == (costs.PROFILE_OF_OTHER_INSTANCE,)


def test_parts_add_up() -> None:
    """The breakdown of each duration sums to it, for every type of the catalogue."""
    for instance in CATALOGUE.instances:
        found = derive_costs(instance, 12.5, 3)
        for name in ("stall", "persist", "emergency", "startup"):
            total = math.fsum(seconds for _, seconds in found.parts[name])
            assert total == pytest.approx(getattr(found, f"{name}_seconds"))
        assert set(found.flags) <= set(costs.FLAGS)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"checkpoint_gib": -1.0}, "checkpoint_gib"),
        ({"checkpoint_gib": math.nan}, "checkpoint_gib"),
        ({"checkpoint_gib": 1.0, "nodes": 0}, "nodes"),
        ({"checkpoint_gib": 1.0, "notice_seconds": -5.0}, "notice_seconds"),
    ],
)
def test_nonsense_is_bad_input(arguments: dict[str, float], field: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError) as caught:
        derive_costs(P4D, **arguments)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_rate_of_zero_is_bad_input() -> None:
    """Nothing would ever finish at 0 GiB/s."""
    with pytest.raises(InvalidInputError, match=r"upload_gib_per_second_per_node.*a rate > 0"):
        derive_costs(P4D, 1.0, assumptions=load_assumptions().with_overrides({"upload_gib_per_second_per_node": 0.0}))
