"""The catalogue: what the bundled tables say, which prices are flagged, and what bad tables and names get."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from harness.errors import InvalidInputError
from planner import catalogue as module
from planner.assumptions import load_assumptions
from planner.catalogue import Catalogue, Instance, Price, load_catalogue
from planner.data_check import EVERY_TABLE
from planner.data_files import AsOf, read_table
from planner.tables import ASSUMPTIONS, INTERRUPTION_RATES, PRICES
from tests.planner.tables_helper import copy_tables, replace_once


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The bundled one."""
    return load_catalogue()


def test_knows_p4d_as_aws_describes_it(catalogue: Catalogue) -> None:
    """p4d.24xlarge: 8 A100 with 40 GiB, 96 vCPUs, 1,152 GiB, 8 x 1,000 GB NVMe, 400 Gb/s (DescribeInstanceTypes)."""
    p4d = catalogue.instance("p4d.24xlarge")
    assert (p4d.provider, p4d.accelerator, p4d.accelerator_count, p4d.accelerator_memory_gib) == (
        "aws",
        "A100-40GB",
        8,
        40.0,
    )
    assert (p4d.vcpus, p4d.memory_gib, p4d.local_nvme_gb, p4d.local_nvme_drives) == (96, 1152.0, 8000.0, 8)
    assert (p4d.network_gbps, p4d.disk_gbps) == (400.0, 19.0)


def test_stars_only_the_odd_price_of_p4d(catalogue: Catalogue) -> None:
    """2.51 beside 7.64, 8.06 and 8.35 is starred; 6.16 and 6.12 beside a zone without discount are not."""
    starred = {o.zone for o in catalogue.offers("p4d.24xlarge") if module.FAR_BELOW_SIBLINGS in o.flags}
    assert starred == {"use1-az1"}


def test_nine_of_twentynine_p4d_zones_have_no_discount(catalogue: Catalogue) -> None:
    """The tables' own count for July 2026."""
    zones = [offer for offer in catalogue.offers("p4d.24xlarge") if offer.zone]
    without = [offer for offer in zones if module.NO_DISCOUNT in offer.flags]
    assert (len(zones), len(without)) == (29, 9)
    assert all(abs(offer.discount or 0.0) < 0.005 for offer in without)


def test_newest_price_wins_and_keeps_its_own_date(catalogue: Catalogue) -> None:
    """On demand in us-east-1 is 21.957642 as of 2026-07-20, not the 32.7726 of 2023."""
    (offer,) = [o for o in catalogue.offers("p4d.24xlarge") if o.zone == "use1-az2"]
    assert (offer.spot_usd_per_hour, offer.as_of) == (8.0553, "2026-07")
    assert (offer.on_demand_usd_per_hour, offer.on_demand_as_of) == (21.957642, "2026-07-20")
    assert offer.discount == pytest.approx(1 - 8.0553 / 21.957642)


def test_price_of_the_accelerators_alone_is_no_price(catalogue: Catalogue) -> None:
    """GCP's attachable accelerators without their machine: flagged, and None where a price would be."""
    offers = catalogue.offers("n1+1xV100")
    assert offers
    for offer in offers:
        assert module.ACCELERATOR_ONLY in offer.flags
        assert offer.spot_usd_per_hour is None
        assert offer.on_demand_usd_per_hour is None


def test_types_without_a_price_are_listed(catalogue: Catalogue) -> None:
    """A type that no source prices has no offers and is named as unpriced."""
    assert {row.name for row in catalogue.unpriced()} == {
        "trn2.3xlarge",
        "trn2.48xlarge",
        "a3-ultragpu-8g",
        "a4-highgpu-8g",
    }
    assert catalogue.offers("trn2.48xlarge") == ()


def test_regions_with_only_an_on_demand_price_are_offers_without_spot(catalogue: Catalogue) -> None:
    """sa-east-1 has p4d on demand only: missing stays missing."""
    (offer,) = [o for o in catalogue.offers("p4d.24xlarge") if o.region == "sa-east-1"]
    assert (offer.spot_usd_per_hour, offer.on_demand_usd_per_hour, offer.discount) == (None, 35.5569, None)
    assert module.NO_SPOT in offer.flags


@pytest.mark.parametrize(
    ("name", "provider", "field", "nearest"),
    [
        ("p4d.24xlage", None, "instance", "p4d.24xlarge"),
        ("p5.48xlarge", "gcp", "instance", None),
        ("p5.48xlarge", "asw", "provider", "aws"),
        ("", None, "instance", None),
    ],
)
def test_unknown_names_get_the_nearest(
    catalogue: Catalogue, name: str, provider: str | None, field: str, nearest: str | None
) -> None:
    """The error names the field and the nearest choice."""
    with pytest.raises(InvalidInputError) as caught:
        catalogue.instance(name, provider)
    assert caught.value.field == field
    assert nearest is None or f"did you mean '{nearest}'?" in str(caught.value)


def test_accelerators_by_family_and_count(catalogue: Catalogue) -> None:
    """A100 means both memory sizes; a count picks the types with so many; unknown ones say what there is."""
    names = {row.name for row in catalogue.with_accelerator("a100", 8)}
    assert {"p4d.24xlarge", "p4de.24xlarge", "a2-ultragpu-8g", "Standard_ND96asr_v4"} <= names
    with pytest.raises(InvalidInputError, match=r"A100:3.*\[1, 2, 4, 8, 16\]"):
        catalogue.with_accelerator("A100", 3)
    with pytest.raises(InvalidInputError, match="did you mean 'H100'"):
        catalogue.with_accelerator("H1000")


def _zone(zone: str | None, usd: float, market: str = "spot", as_of: str = "2026-07-01") -> Price:
    return Price("aws", "x.large", "r-1", zone, market, usd, as_of, "test")


def _offers(*prices: Price) -> dict[str | None, tuple[str, ...]]:
    row = Instance("aws", "x.large", "T4", 1, None, None, None, None, None, None, None, "", "test", "2026-07-01")
    catalogue = Catalogue([row], [], prices, load_assumptions())
    return {offer.zone: offer.flags for offer in catalogue.offers("x.large")}


def test_two_zones_cannot_tell_which_is_odd() -> None:
    """With one sibling either price may be the wrong one: no star."""
    flags = _offers(_zone("a", 1.0), _zone("b", 9.0), _zone(None, 20.0, "on-demand"))
    assert not any(module.FAR_BELOW_SIBLINGS in found for found in flags.values())


@pytest.mark.parametrize(("price", "starred"), [(3.99, True), (4.0, False)])
def test_star_is_strictly_under_half_the_median_of_the_siblings(price: float, starred: bool) -> None:
    """Median of 8 and 8 is 8: 3.99 is starred, 4.0 is not."""
    flags = _offers(_zone("a", price), _zone("b", 8.0), _zone("c", 8.0), _zone(None, 20.0, "on-demand"))
    assert (module.FAR_BELOW_SIBLINGS in flags["a"]) is starred


def test_old_prices_are_flagged_by_the_last_day_they_can_mean() -> None:
    """2026-04 can mean 30 April: 62 days before 1 July, not old; 2026-03-31 is 92 days."""
    flags = _offers(
        _zone("a", 1.0),
        _zone("b", 1.0, as_of="2026-04"),
        _zone("c", 1.0, as_of="2026-03-31"),
        _zone("d", 1.0, as_of="2023"),
    )
    old = {zone for zone, found in flags.items() if module.OLD_PRICE in found}
    assert old == {"c", "d"}


def test_newer_prices_replace_those_of_their_region_only() -> None:
    """A live answer for r-1 drops r-1's old zones and leaves other regions and the on-demand price alone."""
    row = Instance("aws", "x.large", "T4", 1, None, None, None, None, None, None, None, "", "test", "2026-07-01")
    other = Price("aws", "x.large", "r-2", "z", "spot", 5.0, "2026-07-01", "test")
    old = Catalogue(
        [row], [], [_zone("a", 1.0), _zone("b", 2.0), other, _zone(None, 9.0, "on-demand")], load_assumptions()
    )
    new = old.with_prices([_zone("a", 3.0, as_of="2026-11-01")])
    assert [(o.place, o.spot_usd_per_hour, o.on_demand_usd_per_hour) for o in new.offers("x.large")] == [
        ("a", 3.0, 9.0),
        ("z", 5.0, None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ("21.957642", "-21.957642", "usd_per_hour"),
        ("21.957642", "nan", "usd_per_hour"),
        ("21.957642", "cheap", "usd_per_hour"),
        ("2026-07-20", "2026-07-32", "as_of"),
        ("2026-07-20", "yesterday", "as_of"),
        ("on-demand", "ondemand", "market"),
    ],
)
def test_corrupt_cells_name_file_line_and_column(tmp_path: Path, old: str, new: str, column: str) -> None:
    """The error is one line that says where."""
    line = replace_once(copy_tables(tmp_path) / "prices.csv", old, new)
    with pytest.raises(InvalidInputError) as caught:
        load_catalogue(tmp_path)
    assert f"prices.csv line {line}, column {column}" in caught.value.field


def test_missing_garbled_and_short_tables_are_bad_input(tmp_path: Path) -> None:
    """No file, no UTF-8, a NUL byte, another header, a missing cell, a row twice: InvalidInputError each time."""
    path = copy_tables(tmp_path) / "prices.csv"
    good = path.read_bytes()
    for damaged, expected in [
        (None, "an existing file"),
        (b"", "the columns provider"),
        (b"\xff\xfe" + good, "a readable UTF-8 CSV file"),
        (good.replace(b"usd_per_hour", b"usd_per_hours", 1), "did you mean 'usd_per_hour'"),
        (good + b"aws,p4d.24xlarge\n", "9 cells"),
        (good + b'aws,"p4d.24xlarge\n', "valid CSV"),
        (good + good.splitlines(keepends=True)[1], "a row not given before (line 2 has it)"),
    ]:
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(InvalidInputError) as caught:
            read_table(PRICES, tmp_path)
        assert expected in str(caught.value)


def test_any_damage_to_a_table_is_bad_input_or_none(tmp_path: Path) -> None:
    """400 random edits of the bytes (seeded): the table still loads, or the error names the file.  Most are refused."""
    path = copy_tables(tmp_path) / "interruption_rates.csv"
    good = path.read_bytes()
    uniform = random.Random(11)
    refused = []
    for _ in range(400):
        damaged = bytearray(good)
        for _ in range(uniform.choice([1, 2, 8])):
            position = uniform.randrange(len(damaged))
            damaged[position : position + uniform.choice([0, 1, 30])] = uniform.choice(
                [b"", b'"', b",", b"\n", b"\r", b"\x00", b"\xff", b"nan", b"-1", b"1e999", "é".encode()]
            )
        path.write_bytes(bytes(damaged))
        try:
            read_table(INTERRUPTION_RATES, tmp_path)
        except InvalidInputError as error:
            refused.append(f"{error.field} {error.value}")
    assert len(refused) > 200
    assert all("interruption_rates.csv" in text for text in refused)


def test_dates_of_every_precision() -> None:
    """A month is any of its days; nonsense is refused."""
    assert AsOf.parse("2026-02") == AsOf(date(2026, 2, 1), date(2026, 2, 28))
    assert AsOf.parse("2020").last == date(2020, 12, 31)
    assert AsOf.parse("2026-07").age_days(date(2026, 11, 24)) == 146
    for text in ("", "26-07", "2026-7", "2026-13", "2026-02-30", "2026-07-01-01", "2026/07"):
        with pytest.raises(ValueError):
            AsOf.parse(text)


def test_every_row_of_every_table_has_source_and_date() -> None:
    """Nothing ships without saying where it comes from."""
    for table in EVERY_TABLE:
        rows = read_table(table)
        assert rows
        assert all(row.text("source") and row.text("as_of") for row in rows)


def test_assumptions_can_be_overridden_by_name_only() -> None:
    """A known name takes a finite number >= 0 and says that the user gave it; anything else is bad input."""
    stated = load_assumptions()
    given = stated.with_overrides({"boot_seconds": 60.0})
    assert (given.value("boot_seconds"), given.row("boot_seconds").source) == (60.0, "given by the user")
    assert stated.value("boot_seconds") != 60.0
    assert set(stated.names()) == {row.text("name") for row in read_table(ASSUMPTIONS)}
    with pytest.raises(InvalidInputError, match="did you mean 'boot_seconds'"):
        stated.with_overrides({"boot_second": 1.0})
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="finite number >= 0 in s"):
            stated.with_overrides({"boot_seconds": bad})
    with pytest.raises(InvalidInputError, match=r"notice_success: got 1\.5, expected a probability from 0 to 1"):
        stated.with_overrides({"notice_success": 1.5})
    with pytest.raises(InvalidInputError, match=r"0 \(no\) or 1 \(yes\)"):
        stated.with_overrides({"nvme_striped": 0.5})


def test_catalogue_loads_without_heavy_imports() -> None:
    """The tables load in a fresh interpreter without NumPy, pandas, boto3 or torch."""
    code = (
        "import sys; from planner.catalogue import load_catalogue; load_catalogue(); "
        "print(sorted({'numpy','pandas','boto3','torch','scipy','pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
