"""Price pictures: history as steps, or what each place costs now.  Matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from harness.errors import InvalidInputError
from planner.catalogue import Offer
from planner.figure_files import check_plot_path, save_figure
from planner.prices.history import ZoneHistory

_MOST_LINES = 12


def plot_prices(path: Path, histories: Sequence[ZoneHistory], offers: Sequence[Offer], *, until: datetime) -> None:
    """Write the picture: price against time up to `until` where there is a history, else one mark per place.

    Whole or not at all.  InvalidInputError when there is nothing to draw or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_plot_path(path)
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if histories:
        # The cheapest now first: with many zones, those are the ones that a plan would take.
        cheapest = sorted(histories, key=lambda history: history.usd_per_hour[-1])[:_MOST_LINES]
        for history in cheapest:
            times = [*history.times, until]
            prices = [*history.usd_per_hour, history.usd_per_hour[-1]]
            axes.step(times, prices, where="post", label=f"{history.instance} {history.zone}")  # type: ignore[arg-type]
        left_out = len(histories) - len(cheapest)
        title = "Spot price" + (f" (the {_MOST_LINES} cheapest of {len(histories)} zones)" if left_out else "")
        axes.set_title(title)
        axes.set_ylabel("USD per hour")
        axes.set_ylim(bottom=0.0)
        axes.legend(fontsize="small")
        figure.autofmt_xdate()
    else:
        priced = [offer for offer in offers if offer.spot_usd_per_hour is not None][: 4 * _MOST_LINES]
        if not priced:
            raise InvalidInputError("--plot", path, "a selection with at least one spot price")
        labels = [f"{offer.instance} {offer.place}" for offer in priced]
        axes.scatter([offer.spot_usd_per_hour or 0.0 for offer in priced], labels, label="spot")
        known = [(o.on_demand_usd_per_hour, name) for o, name in zip(priced, labels, strict=True)]
        whole = [(usd, name) for usd, name in known if usd is not None]
        axes.scatter([usd for usd, _ in whole], [name for _, name in whole], marker="|", label="on-demand")
        axes.set_xlim(left=0.0)
        axes.set_xlabel("USD per hour")
        axes.invert_yaxis()
        axes.legend(fontsize="small")
        figure.set_figheight(max(3.0, 0.22 * len(priced) + 1.0))
    save_figure(figure, path)
