"""Draw runs: learning against forgetting, and training losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.contracts import RunFiles
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.io import records
from adaptbench.report.figures import effects, layout
from adaptbench.report.figures.palette import families

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def run_files(run: dict[str, Any], colour: str = "black") -> RunFiles:
    """Return the paths of the run's stages and results, for figures of methods."""
    model = Path(run["model"]["directory"])
    named = {stage["name"]: node for node, stage in run["cost"]["stages"].items() if stage["name"]}
    stages = {name: records.find(model.parent / node) for name, node in named.items()}
    key = run["key"]
    results = model.parent.parent / "runs" / key["track"] / key["run"] / f"seed{key['seed']}"
    return RunFiles(key["run"], key["seed"], run["config"], stages, results, colour)


def curves(runs: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[str]]]:
    """Return the runs of each curve, and the runs at its ends: the base, and the run without a post-hoc step.

    A curve of one run has no ends.
    """
    configs = {run["key"]["run"]: run["config"] for run in runs}
    family = families(runs)
    found = []
    for one in dict.fromkeys(family.values()):
        members = [name for name in family if family[name] == one]
        ends = (
            [name for name in configs if _is_end(name, configs[name], configs[members[0]])] if len(members) > 1 else []
        )
        found.append((members, ends))
    return found


def _is_end(name: str, config: Mapping[str, Any] | None, between: Mapping[str, Any]) -> bool:
    if config is None:
        return name == "base"
    return not config["posthoc"] and all(config[key] == between[key] for key in ("curriculum", "tuner", "training"))


def learning_against_forgetting(
    scores: "pd.DataFrame", runs: Sequence[dict[str, Any]], look: Mapping[str, Any]
) -> "Figure":
    """Draw each score of the track against the first general score; up and right is better in every panel."""
    import matplotlib.pyplot as plt

    tasks = known_tasks()
    names = list(dict.fromkeys(scores["task"]))
    kept = next((name for name in names if tasks[name].general), names[0])
    learned = [name for name in names if not tasks[name].general] or [kept]
    with_model = scores["run"][scores["task"] == kept]  # policies are not evaluated on general tasks
    scores = scores[scores["run"].isin(with_model)]
    order = list(dict.fromkeys(scores["run"]))
    lines = curves([run for run in runs if run["key"]["run"] in order])
    figure, panels = plt.subplots(1, len(learned), figsize=(4.0 * len(learned) + 1.6, 4.2), sharex=True, squeeze=False)
    for axes, name in zip(panels[0], learned, strict=True):
        x, y = (scores[scores["task"] == task].set_index("run") for task in (kept, name))
        for members, ends in lines:
            _draw_curve(axes, members, ends, x=x, y=y, look=look)
        sign = 1 if tasks[name].higher_is_better else -1
        points = [(x["mean"][run], sign * y["mean"][run]) for run in order if run in y.index]
        front = [(across, sign * up) for across, up in effects.pareto(points)]
        axes.plot(
            *zip(*front, strict=True), color="#999999", linestyle=":", linewidth=1.2, zorder=0, label="Pareto front"
        )
        axes.set_xlabel(f"{tasks[kept].label} kept ({tasks[kept].unit})")
        axes.set_ylabel(f"{tasks[name].label} learned ({tasks[name].unit})")
        if not tasks[name].higher_is_better:
            axes.invert_yaxis()
    layout.name_runs(figure, panels[0][0])
    layout.title(figure, "Learning against forgetting, 95 % intervals; up and right is better")
    return figure


def _draw_curve(
    axes: Any,
    members: Sequence[str],
    ends: Sequence[str],
    *,
    x: "pd.DataFrame",
    y: "pd.DataFrame",
    look: Mapping[str, Any],
) -> None:
    """Draw the point of one run, or the curve of runs that interpolate between the base and the tuned model."""

    def place(frame: "pd.DataFrame", run: str) -> tuple[float, list[list[float]]]:
        mean, low, high = (float(cast(Any, frame.loc[run, column])) for column in ("mean", "low", "high"))
        return mean, [[mean - low], [high - mean]]

    if len(members) > 1:
        curve = sorted([*members, *ends], key=lambda run: place(x, run)[0])
        points = [(place(x, run)[0], place(y, run)[0]) for run in curve]
        axes.plot(*zip(*points, strict=True), color=look[members[0]]["color"], linewidth=1, alpha=0.6)
    for run in members:
        (across, x_error), (up, y_error) = place(x, run), place(y, run)
        style = look[run] | {"linestyle": "none", "markersize": 11 if run == "base" else 6}
        axes.errorbar(across, up, xerr=x_error, yerr=y_error, label=run, elinewidth=0.9, capsize=2, **style)
        if len(members) > 1:
            axes.annotate(run.rpartition("-")[2], (across, up), (5, -10), textcoords="offset points", fontsize=7)


def loss_curves(runs: Sequence[dict[str, Any]], look: Mapping[str, Any]) -> "Figure":
    """Draw the training loss by step over a run's successive stages: the mean over seeds, and their range as a band."""
    import matplotlib.pyplot as plt
    import pandas as pd

    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    drawn: set[tuple[str, ...]] = set()
    for name in dict.fromkeys(run["key"]["run"] for run in runs):
        logs = [found for run in runs if run["key"]["run"] == name and (found := _training_logs(run))]
        stages = tuple(sorted(str(path) for paths in logs for path in paths))
        if not logs or stages in drawn or name == "base":
            continue
        drawn.add(stages)
        curves = pd.concat([_losses(paths) for paths in logs], axis=1)
        smooth = curves.ewm(span=max(2, len(curves) // 40)).mean()
        line = {key: look[name][key] for key in ("color", "linestyle")}
        axes.plot(smooth.index, smooth.mean(axis=1), label=name, linewidth=1.3, **line)
        axes.fill_between(
            smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=look[name]["color"], alpha=0.15, linewidth=0
        )
    axes.set_yscale("log")
    axes.set_xlabel("optimizer step, stages one after another")
    axes.set_ylabel("training loss (nats a token), smoothed")
    layout.name_runs(figure, axes)
    layout.title(figure, "Loss on each method's own training mixture")
    return figure


def _training_logs(run: dict[str, Any]) -> list[Path]:
    """Return the logs of a run's training stages, in their order."""
    trained = [node for node, stage in run["cost"]["stages"].items() if stage["kind"] == "train"]
    stages = Path(run["model"]["directory"]).parent
    paths = [records.find(stages / node) / "training.jsonl" for node in trained]
    return [path for path in paths if path.exists()]


def _losses(paths: Sequence[Path]) -> "pd.Series":
    """Return the loss by optimizer step, counted through all stages."""
    import pandas as pd

    losses = pd.concat([pd.read_json(path, lines=True)["loss"] for path in paths], ignore_index=True)
    losses.index += 1
    return losses
