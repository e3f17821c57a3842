"""What a chart function returns."""

from __future__ import annotations

from typing import Any

import altair as alt

Drawing = alt.Chart | alt.LayerChart | alt.VConcatChart


def drawing(made: Any) -> Drawing:
    """`made`, checked: Altair's operators are typed more loosely than what they return."""
    assert isinstance(made, alt.Chart | alt.LayerChart | alt.VConcatChart)
    return made
