"""What figures have in common: a title from the left, and a legend of runs that takes its own room."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_AN_INCH = 5.5


def title(figure: "Figure", text: str) -> None:
    """Above all panels, from the left."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=9)


def name_runs(figure: "Figure", axes: Any) -> None:
    """The legend of `axes`' runs, right of all panels, with room of its own."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        handles = [one[0] if isinstance(one, tuple) else one for one in handles]  # a point without its intervals
        columns = 1 + len(labels) // (ROWS_AN_INCH * figure.get_figheight())
        figure.legend(handles, labels, loc="outside right center", ncols=int(columns), fontsize=8)
