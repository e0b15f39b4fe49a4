"""What figures have in common: a title from the left, and a legend of runs that takes its own room."""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_AN_INCH = 5.5
LETTERS_AN_INCH = 14


def grid(
    count: int, most: int, panel: tuple[float, float], *, margin: float = 0.0, **options: Any
) -> "tuple[Figure, list[Any]]":
    """A figure of `count` panels (one where there is none), `most` in a row; a panel's width and height in inches, `margin` beside all."""
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
    """Above all panels, from the left, in as many lines as the figure's width asks for."""
    lines = textwrap.fill(text, int(LETTERS_AN_INCH * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=9)


def name_runs(figure: "Figure", axes: Any) -> None:
    """The legend of `axes`' runs, right of all panels, with room of its own."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        handles = [one[0] if isinstance(one, tuple) else one for one in handles]  # a point without its intervals
        columns = 1 + len(labels) // (ROWS_AN_INCH * figure.get_figheight())
        figure.legend(handles, labels, loc="outside right center", ncols=int(columns), fontsize=8)
