"""A chart on a page: title, the chart with its alternative text, what to read in it, and its numbers as CSV."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.charts.drawing import Drawing, trust_charts, vega_lite
from app.text import dollars
from app.text import note as small_print

trust_charts()


def figure_block(title: str, chart: Drawing, table: pd.DataFrame, *, name: str, alt: str, note: str = "") -> None:
    """Draw it; `name` is the CSV's file name without suffix, and unique on its page."""
    st.subheader(title)
    st.vega_lite_chart(vega_lite(chart), width="stretch", alt=alt, key=f"chart-{name}")
    if note:
        small_print(dollars(note))
    with st.expander("The numbers"):
        small_print(dollars(alt))
        st.dataframe(table, hide_index=True, alt=f"Numbers of the chart “{title}”.", key=f"table-{name}")
        st.download_button(
            "Download CSV",
            # Made on the click: a file that waits for one is gone with the next answer, and the browser complains.
            lambda: table.to_csv(index=False),
            file_name=f"{name}.csv",
            mime="text/csv",
            key=f"csv-{name}",
            on_click="ignore",
        )
