"""Draw effects: of each run against its table's baseline (forest plot), and gains against training cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.report.figures import layout

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def forest(compared: "pd.DataFrame", runs: Sequence[str], look: Mapping[str, Any]) -> "Figure":
    """Draw a forest plot: a panel for each task, a line for each run with its effect and 95 % interval.

    Filled markers are significant after Holm. The grey band holds effects smaller than a tenth, which are not relevant.
    """
    import matplotlib.pyplot as plt

    against = compared[(compared["kind"] == "baseline") & compared["effect"].notna()]
    tasks = [known_tasks()[name] for name in dict.fromkeys(against["task"])]
    names = [run for run in runs if run in set(against["run"])]
    size = (3.2 * max(1, len(tasks)) + 1.4, 0.3 * max(1, len(names)) + 1.3)
    figure, panels = plt.subplots(1, max(1, len(tasks)), figsize=size, sharey=True, squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=False):
        rows = against[against["task"] == task.name].set_index("run")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axvspan(-0.1, 0.1, color="#DDDDDD", alpha=0.5, linewidth=0)
        for place, name in enumerate(names):
            if name not in rows.index:
                continue
            row: Any = rows.loc[name]
            differs = row["verdict"] in ("better", "worse")
            axes.errorbar(
                row["effect"],
                place,
                xerr=[[row["effect"] - row["low"]], [row["high"] - row["effect"]]],
                color=look[name]["color"],
                marker="o",
                markerfacecolor=look[name]["color"] if differs else "white",
                capsize=2,
                linewidth=1,
            )
        axes.set_xlabel(f"{task.label}: {task.unit} less {against['against'].iloc[0]}'s", fontsize=8)
        axes.grid(axis="y", visible=False)
    if names:
        panels[0][0].set_yticks(range(len(names)), names)
        panels[0][0].set_ylim(len(names) - 0.5, -0.5)
        title = (
            f"Effect against {against['against'].iloc[0]}, 95 % intervals of each alone; filled: differs after Holm;"
            " grey: within a tenth"
        )
        layout.title(figure, title)
    return figure


def cost_and_gain(overall: "pd.DataFrame", looks: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Draw a panel for each track: the gain on its main task against the training FLOPs of the run's stages."""
    import matplotlib.pyplot as plt

    shown = overall[overall["gain"].notna() & (overall["TFLOP"] > 0)]
    tracks = list(dict.fromkeys(shown["track"]))
    figure, panels = plt.subplots(1, max(1, len(tracks)), figsize=(4.2 * max(1, len(tracks)), 4.2), squeeze=False)
    for axes, track in zip(panels[0], tracks, strict=False):
        rows = shown[shown["track"] == track]
        for row in rows.to_dict("records"):
            error = [[row["gain"] - row["gain low"]], [row["gain high"] - row["gain"]]]
            style = looks[track][row["run"]] | {"linestyle": "none"}
            axes.errorbar(row["TFLOP"], row["gain"], yerr=error, capsize=2, elinewidth=0.9, label=row["run"], **style)
        axes.set_xlabel("training cost (TFLOP)")
        axes.set_ylabel(f"gain on {rows['task'].iloc[0]}")
        axes.set_title(track, fontsize=9, loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=7)
    return figure


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point dominates, in order of the first coordinate; larger is better in both."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), key=lambda one: (-one[0], -one[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]
