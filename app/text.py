"""Text for the page: escaped where it comes from outside, errors as sentences."""

from __future__ import annotations

import re

import streamlit as st

from planner.views.sentences import error_sentence

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|$~:-])")


def plain(text: str) -> str:
    """`text` so that Markdown shows it as it is: no formatting, links, images, colours or formulas."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def dollars(text: str) -> str:
    """Our own text with its dollar signs kept from becoming formulas."""
    return text.replace("$", r"\$").replace("~", r"\~")


def note(text: str) -> None:
    """Small print of ours, already escaped.  Not st.caption: its grey is too faint to read (WCAG 1.4.3)."""
    st.markdown(f":small[{text}]")


def show_error(error: Exception) -> None:
    """What went wrong, as a sentence on the page."""
    st.error(plain(error_sentence(error)), icon=":material/error:")
