"""What all plots share: colours, type, axes with round numbers, and the marks of the legends.

Colours are from Okabe and Ito (2008) and never carry a meaning alone: the chosen network is also a
diamond, what the choice saw also hollow. The y axis is named above its upper end, where it reads
level.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

P = ParamSpec("P")

INK, GREY, PALE, BAND = "#1c2530", "#5b6773", "#e3e8ec", "#e9edf1"
BLUE, ORANGE, SKY = "#0072B2", "#D55E00", "#56B4E9"
WIDE, HALF = 10.6, 5.2  # inches; shown at 96 px an inch

SOLID: Mapping[str, Any] = {"color": BLUE, "marker": "o", "markersize": 5.5, "linewidth": 1.6}
HOLLOW: Mapping[str, Any] = {
    "color": SKY,
    "marker": "s",
    "markersize": 4.5,
    "markerfacecolor": "w",
    "linestyle": "--",
    "linewidth": 1.1,
}
BEST: Mapping[str, Any] = {"color": BLUE, "marker": "o", "linestyle": ""}
BEATEN: Mapping[str, Any] = {**BEST, "color": GREY, "markerfacecolor": "w"}
DIAMOND: Mapping[str, Any] = {
    "color": ORANGE,
    "marker": "D",
    "markersize": 9,
    "markeredgecolor": "w",
    "linestyle": "",
}

_STYLE: Any = {
    # Set as text, so that a reader's own fonts are used: laid out in DejaVu Sans, the widest.
    "svg.fonttype": "none",
    "svg.hashsalt": "finicky",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Segoe UI", "Helvetica Neue", "Arial"],
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.8,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.wspace": 0.05,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the page's style, whatever style the caller has set."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def as_svg(drawn: Figure) -> str:
    """The figure as the text of an SVG file; the same figure gives the same text."""
    stream = io.StringIO()
    with mpl.rc_context(_STYLE):
        drawn.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def name_y(axes: Axes, text: str) -> None:
    """Name the y axis above its upper end."""
    axes.set_ylabel(text, rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(0.0, 1.02)


def log_x_percent(axes: Axes, shares: np.ndarray, label: str) -> None:
    """A logarithmic x axis of shares in [0, 1], named and told in per cent."""
    axes.set_xscale("log")
    low, high = _limits(shares)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(round_steps(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.4g}"))
    axes.set_xlabel(label)


def log_y(axes: Axes, values: np.ndarray, label: str) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    low, high = _limits(values)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(round_steps(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))
    name_y(axes, label)


def round_steps(low: float, high: float) -> list[float]:
    """Round numbers in [low, high] for a logarithmic axis: 1, 2, 5; beyond three decades only 1."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 3
    # float() of text, because 10.0**-1 * 5 is not quite 0.5.
    steps = [float(f"{m}e{d}") for d in decades for m in ((1,) if wide else (1, 2, 5))]
    return [step for step in steps if low <= step <= high]


def legend(drawn: Figure, handles: Sequence[Any], labels: Sequence[str] | None = None) -> None:
    """One legend for the whole figure, in a line above it; handles carry or get their labels."""
    told = labels or [handle.get_label() for handle in handles]
    drawn.legend(list(handles), list(told), loc="outside upper right", ncols=len(handles))


def sign(style: Mapping[str, Any], label: str) -> Line2D:
    """What stands for ``style`` in a legend."""
    return Line2D([], [], label=label, **style)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """A third more than the values on both sides."""
    return float(np.nanmin(values)) / 1.35, float(np.nanmax(values)) * 1.35
