"""Colours that colour-blind readers tell apart (Okabe and Ito, 2008), darkened or lightened for the ground."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by what they stand for."""

    main: str
    accent: str
    good: str
    warn: str
    other: str
    quiet: str
    text: str
    parts: tuple[str, ...]


LIGHT = Palette(
    main="#0072B2",
    accent="#D55E00",
    good="#007A5A",
    warn="#A66F00",
    other="#A8517F",
    quiet="#8A8F98",
    text="#31333F",
    parts=(
        "#9AA7B5",
        "#D55E00",
        "#0072B2",
        "#E69F00",
        "#CC79A7",
        "#009E73",
        "#56B4E9",
        "#6A3D9A",
        "#B2A100",
        "#5B4636",
        "#A8517F",
        "#4C8C2B",
        "#6E7681",
    ),
)
DARK = Palette(
    main="#56B4E9",
    accent="#FF8A3D",
    good="#2FC49A",
    warn="#E69F00",
    other="#E39AC2",
    quiet="#7F8794",
    text="#FAFAFA",
    parts=(
        "#5F6B78",
        "#FF8A3D",
        "#56B4E9",
        "#E69F00",
        "#E39AC2",
        "#2FC49A",
        "#3D7EA6",
        "#B79CED",
        "#F0E442",
        "#B08968",
        "#C77DBB",
        "#9BD770",
        "#AAB2BD",
    ),
)

PART_ORDER = (
    "Work",
    "Lost work",
    "Checkpoints",
    "Startup",
    "Waiting for capacity",
    "Idle rest of notices",
    "Slowed by uploads",
    "Fewer nodes",
    "Outages",
    "Checkpoint storage",
    "On-demand premium",
    "Disks, hosts, transfer",
    "Refunds, missing nodes",
)


def palette(dark: bool) -> Palette:
    """The palette for a dark or a light ground."""
    return DARK if dark else LIGHT


def part_colours(dark: bool) -> tuple[list[str], list[str]]:
    """(parts, colours) for a scale: the same part has the same colour in every chart."""
    return list(PART_ORDER), list(palette(dark).parts)
