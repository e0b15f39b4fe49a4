"""The agent track's figure: success by the number of calls that a problem needs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def success_by_calls(samples: "pd.DataFrame", look: Mapping[str, Any]) -> "Figure":
    """Draw live success on solvable problems by calls, one line for each run.

    Points are means over seeds and problems with 95 % intervals.
    """
    import matplotlib.pyplot as plt

    from adaptbench import statistics
    from adaptbench.report.figures import layout

    live = samples[samples["task"].str.endswith("_live")]
    calls = live[live["metric"] == "calls"].drop_duplicates("document").set_index("document")["value"]
    ended = live[live["metric"] == "solved"].assign(calls=lambda rows: rows["document"].map(calls))
    runs = list(dict.fromkeys(ended["run"]))
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for place, run in enumerate(runs):
        points = []
        for needed, rows in ended[ended["run"] == run].groupby("calls"):
            found = statistics.mean_interval(statistics.answers(rows))
            points.append((needed, found.mean, found.below, found.above))
        x, y, below, above = zip(*points, strict=True)
        shift = (place - (len(runs) - 1) / 2) * 0.03  # so that intervals do not hide each other
        style = look[run] | {"markersize": 5, "linewidth": 1, "capsize": 2, "elinewidth": 0.7}
        axes.errorbar([one + shift for one in x], y, yerr=[below, above], label=run, **style)
    axes.set_xticks(sorted(set(calls.astype(int))))
    axes.set_ylim(0, 1)
    axes.set_xlabel("calls that the problem needs")
    axes.set_ylabel("solved, of the problems that can be")
    layout.name_runs(figure, axes)
    layout.title(figure, "Live success by length, 95 % intervals")
    return figure


FIGURES = {"calls": success_by_calls}
