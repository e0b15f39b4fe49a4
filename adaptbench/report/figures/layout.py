"""Lay out figures: a grid of panels, a title at the left, and a legend of runs beside the panels."""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_AN_INCH = 5.5
LETTERS_AN_INCH = 14


def grid(
    count: int, most: int, panel: tuple[float, float], *, margin: float = 0.0, **options: Any
) -> "tuple[Figure, list[Any]]":
    """Return a figure and at least `count` panels, `most` in a row.

    `panel` is the width and height of each in inches; `margin` is added to the figure's width. Without panels one empty
    one is drawn.
    """
    import matplotlib.pyplot as plt

    across = min(most, max(1, count))
    down = -(-max(1, count) // across)
    figure, panels = plt.subplots(
        down, across, figsize=(panel[0] * across + margin, panel[1] * down), squeeze=False, **options
    )
    for axes in panels.flat[count:]:
        axes.set_axis_off()
    return figure, list(panels.flat)


def title(figure: "Figure", text: str) -> None:
    """Write a title above all panels, at the left, wrapped to the figure's width."""
    lines = textwrap.fill(text, int(LETTERS_AN_INCH * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=9)


def name_runs(figure: "Figure", axes: Any) -> None:
    """Draw the legend of the runs in `axes` to the right of all panels."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        handles = [one[0] if isinstance(one, tuple) else one for one in handles]  # a point without its intervals
        columns = 1 + len(labels) // (ROWS_AN_INCH * figure.get_figheight())
        figure.legend(handles, labels, loc="outside right center", ncols=int(columns), fontsize=8)
