"""Charts and figures: valid, pure, readable in both themes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from app.charts import compare, distribution, hazards, interval, parts, prices, timeline, tornado
from app.charts.drawing import Drawing, vega_lite
from app.charts.palette import DARK, LIGHT, PART_ORDER, part_colours
from app.figures import FIGURES, figure_svg
from planner.views import market, tables
from planner.views import timeline as runs
from planner.views import tornado as sensitivities
from planner.views.plan import Plan


def drawings(plan: Plan, dark: bool) -> dict[str, Drawing]:
    """Every chart of the pages that show a plan."""
    best = plan.best
    time, money = tables.time_parts(best), tables.money_parts(best)
    view = runs.view_run(best, 0)
    window = runs.first_window(view)
    known = sensitivities.sources(plan)
    curves = tables.hazard_curves(known, until_hours=48.0, points=20)
    curve = tables.interval_curve(plan.curve)
    marks = tables.interval_marks(plan.curve, best.interval.hours)
    rows = sensitivities.tornado(plan)
    return {
        "interval": interval.interval_chart(curve, marks, tables.plateau(plan.curve), dark=dark),
        "cost": distribution.distribution_chart(
            tables.distribution(best.costs), tables.quantiles(best.cost_usd), title="x", limit=("d", 1.0), dark=dark
        ),
        "time": parts.parts_chart(time, tables.beyond_work(time), unit="h", number_format=".1f", dark=dark),
        "money": parts.parts_chart(money, tables.beyond_work(money), unit="$", number_format=".1f", dark=dark),
        "compare": compare.compare_chart(tables.candidates(plan), dark=dark),
        "progress": timeline.progress_chart(view.progress, view.marks, window, dark=dark),
        "phases": timeline.window_chart(view.spans, view.marks, window, dark=dark),
        "tornado": tornado.tornado_chart(rows, dark=dark),
        "regret": tornado.regret_chart(rows, dark=dark),
        "rates": hazards.rates_chart(tables.hazard_rates(known, "article"), dark=dark),
        "survival": hazards.survival_chart(curves, dark=dark),
        "hazard": hazards.hazard_chart(curves, dark=dark),
        "prices": prices.price_now_chart(market.prices_now(plan), dark=dark),
    }


def test_every_chart_is_a_valid_vega_lite_document(plan: Plan) -> None:
    """Altair checks each against the schema; the same tables give the same chart."""
    for name, made in drawings(plan, dark=False).items():
        document = made.to_dict()
        assert document["$schema"].startswith("https://vega.github.io"), name
        sent = vega_lite(made)
        assert sent["datasets"], name
        assert list(sent["datasets"]) == [f"table{i}" for i in range(len(sent["datasets"]))], name


def test_another_answer_is_the_same_chart_with_other_tables(plan: Plan) -> None:
    """The browser keeps a chart whose document is the same, and exchanges its tables."""
    best = plan.best
    several = [
        vega_lite(
            distribution.distribution_chart(
                tables.distribution(values), tables.quantiles(best.cost_usd), title="Cost (USD)"
            )
        )
        for values in (best.costs, 2.0 * best.costs)
    ]
    frames = [document.pop("datasets") for document in several]
    assert several[0] == several[1]
    assert not frames[0]["table0"].equals(frames[1]["table0"])


def luminance(colour: str) -> float:
    """WCAG 2.1 relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("shades", "ground"), [(LIGHT, "#FFFFFF"), (DARK, "#0E1117")])
def test_marks_stand_out_from_the_ground(shades: object, ground: str) -> None:
    """WCAG 1.4.11: graphics have a contrast of at least 3 to 1."""
    for name in ("main", "accent", "good", "warn", "other", "quiet", "text"):
        assert contrast(getattr(shades, name), ground) >= 3.0, name


def test_every_part_has_a_colour_of_its_own() -> None:
    """In both themes, for every part that the tables know."""
    known = {tables.WORK, *tables.PART_NAMES.values(), tables.STORAGE, tables.PREMIUM, tables.BESIDE, tables.UNBILLED}
    assert set(PART_ORDER) == known
    for dark in (False, True):
        names, colours = part_colours(dark)
        assert len(names) == len(colours) == len(set(colours))


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_is_a_whole_svg_document(plan: Plan, name: str) -> None:
    """Well-formed, without scripts or links to elsewhere."""
    text = figure_svg(name, plan)
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert "<script" not in text
    assert figure_svg(name, plan).count("<path") == text.count("<path")
