"""What a chart function returns, and what the browser gets of it."""

from __future__ import annotations

import threading
from typing import Any

import altair as alt
import pandas as pd
from altair.utils import schemapi

Drawing = alt.Chart | alt.LayerChart | alt.VConcatChart

_TRANSFORMER = "planner-named-tables"
# Altair's settings belong to the process; sessions draw in threads of their own.
_SETTINGS = threading.Lock()


def drawing(made: Any) -> Drawing:
    """`made`, checked: Altair's operators are typed more loosely than what they return."""
    assert isinstance(made, alt.Chart | alt.LayerChart | alt.VConcatChart)
    return made


def at_pixel(pixel: float) -> alt.YValue:
    """A vertical position in pixels from the top."""
    made: alt.YValue = alt.YValue(pixel)  # type: ignore[no-untyped-call]
    return made


def trust_charts() -> None:
    """Build charts without checking each piece against Vega-Lite's schema: half of their time.  The tests check."""
    schemapi.disable_debug_mode()


def vega_lite(made: Drawing) -> dict[str, Any]:
    """The Vega-Lite document of a chart, its tables beside it under "datasets" by the order in which they appear.

    Names that do not depend on what is in the tables let the browser keep a chart and exchange its data, instead of
    compiling it anew for every answer.
    """
    tables: dict[str, pd.DataFrame] = {}
    with (
        _SETTINGS,
        alt.theme.enable("none"),  # Streamlit's own look is laid over it in the browser
        alt.data_transformers.enable(_TRANSFORMER, tables=tables),
    ):
        document: dict[str, Any] = made.to_dict(validate=False)
    return {**document, "datasets": tables}


def _named(data: Any, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    for name, known in tables.items():
        if known is data:
            return {"name": name}
    assert isinstance(data, pd.DataFrame)
    name = f"table{len(tables)}"
    tables[name] = data
    return {"name": name}


alt.data_transformers.register(_TRANSFORMER, _named)
