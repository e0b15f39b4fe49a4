"""The reasoning track's own figure: what accuracy costs in sequential passes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def accuracy_by_passes(samples: "pd.DataFrame", look: Mapping[str, Any]) -> "Figure":
    """Accuracy over sequential passes a problem, one point a run: means over seeds and problems with 95 % intervals."""
    import matplotlib.pyplot as plt

    from adaptbench import drawing, statistics

    asked = samples[samples.groupby("task")["metric"].transform(lambda metrics: (metrics == "passes").any())]
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for run in dict.fromkeys(asked["run"]):
        ours = asked[asked["run"] == run]
        found = {
            metric: statistics.mean_interval(statistics.answers(ours[ours["metric"] == metric]))
            for metric in ("passes", "exact_match")
            if (ours["metric"] == metric).any()
        }
        if len(found) < 2:  # a baseline makes no passes
            continue
        x, y = found["passes"], found["exact_match"]
        axes.errorbar(
            [x.mean], [y.mean], xerr=[[x.below], [x.above]], yerr=[[y.below], [y.above]],
            label=run, capsize=2, elinewidth=0.7, markersize=6, **look[run] | {"linestyle": "none"},
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.set_xlabel("sequential passes a problem (prompt, then each token, visible or latent)")
    axes.set_ylabel("answers right")
    drawing.name_runs(figure, axes)
    drawing.title(figure, "Accuracy against compute, 95 % intervals")
    return figure


FIGURES = {"compute": accuracy_by_passes}
