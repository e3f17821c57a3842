"""The bundled tables: which columns each file has and what they may hold (`data/README.md` says what they mean)."""

from __future__ import annotations

from planner.data_files import Column, Table

PROVIDERS = ("aws", "gcp", "azure")

_PROVIDER = Column("provider", choices=PROVIDERS)
_ORIGIN = (Column("source"), Column("as_of", "date"))

INSTANCES = Table(
    "instances.csv",
    (
        _PROVIDER,
        Column("instance"),
        Column("accelerator"),
        Column("accelerator_count", "count", minimum=1),
        Column("accelerator_memory_gib", "number", optional=True, minimum=1),
        Column("vcpus", "count", optional=True, minimum=1),
        Column("memory_gib", "number", optional=True, minimum=1),
        Column("local_nvme_gb", "number", optional=True, minimum=0),
        Column("local_nvme_drives", "count", optional=True, minimum=0),
        Column("network_gbps", "number", optional=True, minimum=0.001),
        Column("disk_gbps", "number", optional=True, minimum=0.001),
        Column("note", optional=True),
        *_ORIGIN,
    ),
    key=("provider", "instance"),
)

ACCELERATORS = Table(
    "accelerators.csv",
    (
        Column("accelerator"),
        Column("form", optional=True),
        Column("peak_dense_bf16_tflops", "number", optional=True, minimum=0.001),
        Column("peak_dense_fp16_tflops", "number", optional=True, minimum=0.001),
        Column("memory_gb", "number", optional=True, minimum=1),
        Column("memory_bandwidth_gb_per_second", "number", optional=True, minimum=1),
        Column("note", optional=True),
        *_ORIGIN,
    ),
    key=("accelerator",),
)

PRICES = Table(
    "prices.csv",
    (
        _PROVIDER,
        Column("instance"),
        Column("region"),
        Column("zone", optional=True),
        Column("market", choices=("spot", "on-demand")),
        Column("usd_per_hour", "number", minimum=0.000001),
        Column("scope", choices=("instance", "accelerator-only")),
        Column("as_of", "date"),
        Column("source"),
    ),
    key=("provider", "instance", "region", "zone", "market"),
)

SPOT_ADVISOR = Table(
    "spot_advisor.csv",
    (
        _PROVIDER,
        Column("instance"),
        Column("region"),
        Column("band_index", "count", minimum=0, maximum=4),
        Column("band_label", choices=("<5%", "5-10%", "10-15%", "15-20%", ">20%")),
        Column("savings_percent", "number", maximum=100),
        Column("as_of", "date"),
        Column("source"),
    ),
    key=("provider", "instance", "region"),
)

INTERRUPTION_RATES = Table(
    "interruption_rates.csv",
    (
        Column("method", choices=("measured", "article")),
        _PROVIDER,
        Column("instance"),
        Column("region", optional=True),
        Column("distribution", choices=("exponential", "weibull")),
        Column("probability_per_hour_low", "number", optional=True, minimum=0, maximum=0.999999),
        Column("probability_per_hour_high", "number", optional=True, minimum=0, maximum=0.999999),
        Column("rate_per_hour_low", "number", optional=True, minimum=0),
        Column("rate_per_hour_high", "number", optional=True, minimum=0),
        Column("weibull_shape", "number", optional=True, minimum=0.01),
        Column("mean_hours", "number", optional=True, minimum=0.001),
        Column("note", optional=True),
        *_ORIGIN,
    ),
    key=("method", "provider", "instance", "region"),
)

STORAGE_PRICES = Table(
    "storage_prices.csv",
    (
        _PROVIDER,
        Column("service"),
        Column("item"),
        Column("region", optional=True),
        Column("value", "number", minimum=0),
        Column("unit", choices=("usd_per_gb_month", "usd_per_1000_requests", "usd_per_gb")),
        Column("note", optional=True),
        *_ORIGIN,
    ),
    key=("provider", "service", "item", "region"),
)

ASSUMPTIONS = Table(
    "assumptions.csv",
    (Column("name"), Column("value", "number", minimum=0), Column("unit"), *_ORIGIN),
    key=("name",),
)

ALL_TABLES = (INSTANCES, ACCELERATORS, PRICES, SPOT_ADVISOR, INTERRUPTION_RATES, STORAGE_PRICES, ASSUMPTIONS)
