"""The dashboard's entry: `planner dashboard`, or `streamlit run app/main.py`."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path


def _name_this_folder() -> None:
    """Make this folder importable as `app` wherever it lies: in a wheel it is `planner/_app`."""
    here = Path(__file__).resolve().parent
    loaded = sys.modules.get("app")
    if loaded is not None and Path(str(loaded.__file__)).resolve().parent == here:
        return
    spec = importlib.util.spec_from_file_location("app", here / "__init__.py", submodule_search_locations=[str(here)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["app"] = module
    spec.loader.exec_module(module)


def _run() -> None:
    from app.shell import run

    run()


_name_this_folder()
if "app.shell" in sys.modules:
    _run()
else:
    # The first visitor of a bare `streamlit run` waits for all that is loaded now: a fifth less without looking for
    # garbage meanwhile.
    gc.disable()
    try:
        _run()
    finally:
        gc.enable()
