"""Export: every file to take home, previewed, with how to run it; the scenario; charts as CSV and figures as SVG."""

from __future__ import annotations

import streamlit as st

from app import state
from app.figures import FIGURES, figure_svg
from app.state import Chosen, held_input
from app.text import note, plain, show_error
from planner.views.export import chart_tables, export_files, target_of, targets_of, zipped
from planner.views.link import EMIT_KEYS, TARGET
from planner.views.plan import Plan

PREVIEW_PIXELS = 420


def draw(plan: Plan) -> None:
    """The page."""
    st.title("Take it home", anchor=False)
    held = state.chosen()
    target = _target(held, plan)
    with st.expander("Settings of the emitted files", expanded=False):
        for key, help_text in EMIT_KEYS.items():
            _setting(held, key, help_text)
    try:
        files = export_files(plan, target)
    except Exception as error:  # noqa: BLE001 - a page shows a sentence, never a traceback
        show_error(error)
        return
    st.header("Files", anchor=False)
    st.download_button(
        "Download all as one archive",
        zipped(files),
        file_name=f"{target}.zip",
        mime="application/zip",
        on_click="ignore",
    )
    for tab, file in zip(st.tabs([file.name for file in files]), files, strict=True):
        with tab:
            if file.commands:
                st.markdown("Use it with:")
                st.code(file.commands, language=None, wrap_lines=True)
            for line in file.notes:
                note(plain(line))
            st.download_button(
                f"Download {file.name}", file.text, file_name=file.name, mime="text/plain",
                key=f"file-{file.name}", on_click="ignore",
            )  # fmt: skip
            # The box scrolls, not the text in it: it holds a button, so the keyboard reaches it.
            with st.container(height=PREVIEW_PIXELS, border=False):
                st.code(file.text, language=None, wrap_lines=True)
    st.header("Numbers of the charts", anchor=False)
    tables = chart_tables(plan)
    name = st.selectbox("Chart", list(tables), key="export-table", format_func=_in_words)
    table = tables[name or next(iter(tables))]
    st.download_button(
        f"Download {name}.csv",
        lambda: table.to_csv(index=False),
        file_name=f"{name}.csv",
        mime="text/csv",
        on_click="ignore",
    )
    st.dataframe(table, hide_index=True, alt=f"Numbers of the chart {name}.", height=240)
    st.header("Figures", anchor=False)
    titles = {name: kind.title for name, kind in FIGURES.items()}
    figure = st.selectbox("Figure", list(titles), key="export-figure", format_func=titles.__getitem__) or next(
        iter(titles)
    )
    svg = figure_svg(figure, plan)
    st.download_button(
        f"Download {figure}.svg", svg, file_name=f"{figure}.svg", mime="image/svg+xml", on_click="ignore"
    )
    st.image(svg, width="stretch", alt=FIGURES[figure].title)


def _target(held: Chosen, plan: Plan) -> str:
    titles = targets_of(plan)
    now = target_of(plan)
    first = next(iter(titles))
    widget = held.input("target")
    on_change = held_input(widget, now, lambda name: held.change({TARGET: None if name == first else name}))
    st.selectbox("Launch with", list(titles), key=widget, format_func=titles.__getitem__, on_change=on_change)
    return now


def _in_words(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _setting(held: Chosen, key: str, help_text: str) -> None:
    widget = held.input(f"setting-{key}")
    now = dict(held.query or ()).get(key, "")
    on_change = held_input(widget, now, lambda text: held.change({key: str(text).strip() or None}))
    st.text_input(
        _in_words(key), key=widget, on_change=on_change, help=help_text, placeholder="as suggested in the file"
    )
