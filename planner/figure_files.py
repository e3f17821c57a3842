"""Pictures as files: which endings there are, and a file that is whole or not there at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InvalidInputError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 150


def check_plot_path(path: Path) -> None:
    """InvalidInputError unless a picture can be written to `path`: asked before hours are spent on what it shows."""
    if path.suffix.lower() not in FORMATS:
        hint = did_you_mean(path.suffix.lower(), FORMATS) if path.suffix else None
        raise InvalidInputError("--plot", path, f"a file ending in {', '.join(FORMATS)}", hint)
    if not path.parent.is_dir():
        raise InvalidInputError("--plot", path, "a file in an existing folder")
    if path.is_dir():
        raise InvalidInputError("--plot", path, "a file, not a folder")


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, replacing what is there only once the picture is complete.

    Raises InvalidInputError for an unknown ending and for a place that cannot be written to.
    """
    check_plot_path(path)
    form = path.suffix[1:].lower()
    # Without the date, the same plan gives the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as stream:
            temporary = Path(stream.name)
            figure.savefig(stream, format=form, dpi=_DOTS_PER_INCH, metadata=metadata)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError("--plot", path, "a file that can be written", str(error)) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
