"""How things look: tables that survive 80 columns and pipes, durations and money in words, progress on stderr.

Plain ASCII, so that any terminal and any pipe shows it; colour only where rich finds a terminal (NO_COLOR is kept).
"""

from __future__ import annotations

import math
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import rich.box
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

NARROW_COLUMNS = 80


def console() -> Console:
    """Standard output; 80 columns where it is no terminal (unless COLUMNS says otherwise)."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, whether its cells are numbers, whether it may be wrapped."""

    heading: str
    right: bool = False
    wrap: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, title: str | None = None) -> Table:
    """A table without vertical lines; a row whose first cell starts with ">" stands out."""
    made = Table(
        box=rich.box.Box(_BOX),
        show_edge=False,
        pad_edge=False,
        title=title,
        title_justify="left",
        padding=(0, 1, 0, 0),
        collapse_padding=True,
    )
    for column in columns:
        made.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold" if column.wrap else "ellipsis",
        )
    for row in rows:
        made.add_row(*(_Cell(cell) for cell in row), style="bold" if row[0].startswith(">") else None)
    return made


class _Cell(Text):
    """Text whose words, where one is wider than its column, are broken after a hyphen, slash or underscore."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """As rich does, but for such words."""
        text = Text(self.plain if no_wrap else re.sub(r"\S+", lambda word: _broken(word[0], width), self.plain))
        text.style = self.style
        return text.wrap(console, width, justify=justify, overflow=overflow, tab_size=tab_size, no_wrap=no_wrap)


def _broken(word: str, width: int) -> str:
    """Lines of at most `width` where the word's own marks allow it."""
    if len(word) <= width:
        return word
    lines = [""]
    for piece in re.findall(r"[^-/_]*[-/_]+|[^-/_]+", word):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


_BOX = "    \n    \n -  \n    \n    \n    \n    \n    \n"


def paragraph(out: Console, text: str, *, style: str | None = None, indent: int = 0) -> None:
    """A paragraph wrapped to the width, never cut, without trailing blanks; lines after the first hang by two."""
    margin = " " * indent
    hanging = margin + ("  " if indent else "")
    lines = textwrap.wrap(text, max(20, out.width - 1), initial_indent=margin, subsequent_indent=hanging)
    out.print(Text("\n".join(lines), style=style or ""))


def usd(value: float | None) -> str:
    """Dollars: cents below 100, thousands separators above."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def hours(value: float | None) -> str:
    """Hours in words: 104 h, 12.5 h."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f} h" if value >= 100 else f"{value:.1f} h"


def duration(seconds: float | None) -> str:
    """A duration to two or three digits in the unit that a person would choose."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "never"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage, one digit below 10 %."""
    if fraction is None or not math.isfinite(fraction):
        return "-"
    value = 100.0 * fraction
    if abs(value) < 0.05:
        return "0.0%"
    return f"{value:.1f}%" if abs(value) < 9.95 else f"{value:.0f}%"


def probability(fraction: float) -> str:
    """An estimated probability: never 0% or 100%, which no finite number of runs can tell."""
    if fraction > 0.999:
        return ">99.9%"
    if fraction < 0.001:
        return "<0.1%"
    return f"{100.0 * fraction:.1f}%" if fraction >= 0.99 else percent(fraction)


def probability_with_interval(mean: float, low: float, high: float) -> str:
    """Such as "94% (95% interval 93% to 95%)"; without the interval where all three are on one side of what is told."""
    said = probability(mean)
    if probability(low) == probability(high) == said:
        return said
    return f"{said} (95% interval {probability(low)} to {probability(high)})"


def number(value: object) -> str:
    """A value of an assumption, short."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)


class ProgressBar:
    """A bar on stderr while something runs; nothing at all when stderr is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        out = Console(file=sys.stderr)
        if out.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=out, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, total: float) -> None:
        """`done` of `total` is finished."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done / max(total, 1e-12))

    def say(self, what: str) -> None:
        """What is being done now."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=0.0)

    def report(self, what: str, done: int, total: int) -> None:
        """Now doing `what`; `done` of `total` is finished."""
        self.say(what)
        self.update(done, total)
