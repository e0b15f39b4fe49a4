"""The reasoning track's figure: accuracy, and its cost in sequential forward passes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def accuracy_and_passes(samples: "pd.DataFrame", look: Mapping[str, Any]) -> "Figure":
    """Draw accuracy and sequential passes, one row for each run: means over seeds and problems with 95 % intervals.

    There are two panels, since most runs write chains of one length and would overlap in one plane. The axis of passes
    ends just after the largest mean; an interval may go beyond it.
    """
    from adaptbench import statistics
    from adaptbench.report.figures import layout

    measured = samples[samples.groupby("task")["metric"].transform(lambda metrics: (metrics == "passes").any())]
    found = {
        (run, metric): statistics.mean_interval(statistics.answers(ours))
        for (run, metric), ours in measured.groupby(["run", "metric"])
        if metric in ("passes", "exact_match")
    }
    runs = [run for run in dict.fromkeys(measured["run"]) if (run, "passes") in found]  # a baseline has no passes
    figure, panels = layout.grid(2, 2, (3.2, 0.24 * len(runs) + 1.1), margin=1.0, sharey=True)
    for axes, metric in zip(panels, ("exact_match", "passes"), strict=True):
        for place, run in enumerate(runs):
            one = found[run, metric]
            axes.errorbar(
                [one.mean], [place], xerr=[[one.below], [one.above]],
                capsize=2, elinewidth=0.7, markersize=6, **look[run] | {"linestyle": "none"},
            )  # fmt: skip
    panels[0].set_yticks(range(len(runs)), runs)
    panels[0].set_ylim(len(runs) - 0.4, -0.6)
    panels[0].set_xlim(-0.02, 1)
    panels[0].set_xlabel("answers right")
    panels[1].set_xlim(0, 1.15 * max((found[run, "passes"].mean for run in runs), default=1))
    panels[1].set_xlabel("sequential passes: prompt, then each token")
    layout.title(figure, "Accuracy, and the passes that it takes one after another; 95 % intervals")
    return figure


FIGURES = {"compute": accuracy_and_passes}
