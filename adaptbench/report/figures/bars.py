"""Figures of a table's scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.report.figures import layout

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


PANELS_IN_A_ROW = 5


def score_bars(scores: "pd.DataFrame", look: Mapping[str, Any]) -> "Figure":
    """Draw a panel for each number of a task that tables show, with a bar for each run."""
    tasks = known_tasks()
    names = sorted(dict.fromkeys(scores["task"]), key=lambda name: tasks[name].general)
    shown = [
        (tasks[name], metric, heading)
        for name in names
        for metric, heading in ((tasks[name].metric, tasks[name].unit), *tasks[name].shown)
    ]
    runs = list(dict.fromkeys(scores["run"]))
    panel = (2.3, 0.28 * len(runs) + 1.2)
    figure, panels = layout.grid(len(shown), PANELS_IN_A_ROW, panel, margin=1, sharey=True)
    for axes, (task, metric, heading) in zip(panels, shown, strict=False):
        rows = scores[(scores["task"] == task.name) & (scores["metric"] == metric)]
        cells = rows.set_index("run").reindex(runs)
        errors = [cells["mean"] - cells["low"], cells["high"] - cells["mean"]]
        axes.barh(
            runs,
            cells["mean"],
            xerr=errors,
            color=[look[run]["color"] for run in runs],
            height=0.7,
            error_kw={"linewidth": 0.8},
        )
        axes.set_title(task.label, fontsize=9)
        direction = "" if task.higher_is_better else ", lower is better"
        axes.set_xlabel(heading + direction, fontsize=8)
        axes.grid(axis="y", visible=False)
        if cells["high"].max() <= 1 and task.higher_is_better:
            axes.set_xlim(0, 1)
    panels[0].invert_yaxis()
    return figure
