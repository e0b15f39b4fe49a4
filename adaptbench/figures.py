"""The figures of a table: learning against forgetting, scores with intervals, loss curves; and those that methods draw.

SVG, PDF and PNG, the same bytes for the same numbers. A run has the same colour, marker and line in every figure of its track.
A figure whose files are missing or damaged says so in its place, and the others are drawn.
"""

import json
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench import drawing, effects, overall, records, registry, results
from adaptbench.collect import known_tasks, main_scores
from adaptbench.contracts import AdaptbenchError, RunFiles
from adaptbench.tables import shown
from adaptbench.workflow import IMAGES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Okabe and Ito's colours, safe for colour-blind readers; black is the base's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7F7F7F", "#5B3A8C", "#B22222")
MARKERS = "osD^vPX<>h"
LINES = ("-", "--", ":", "-.")
GREYS = ("#B0B0B0", "#C8C8C8", "#989898")
STYLE = {
    "svg.hashsalt": "adaptbench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
}


def draw(collected: Path, report: Path, out: Path) -> None:
    """Draw the figures of every table of the plan's `report`, and those of its methods, into `out`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    runs = [run for run in json.loads((collected / "runs.json").read_text()) if run["status"] == "done"]
    scores = pd.read_csv(collected / "scores.csv")
    samples = results.read_samples(collected / "samples.parquet")
    comparisons = pd.read_csv(collected / "comparisons.csv")
    planned = json.loads(report.read_text())

    def of_track(track: str) -> list[dict[str, Any]]:
        return [run for run in planned["order"] if run["key"]["track"] == track]

    looks = {track: styles(of_track(track)) for track in {run["key"]["track"] for run in planned["order"]}}
    out.mkdir(parents=True, exist_ok=True)

    def save(name: str, make: Callable[[], "Figure"]) -> None:
        try:
            figure = make()
        except (OSError, ValueError, LookupError, StopIteration, AdaptbenchError) as error:
            plt.close("all")
            reason = f"{name} is not drawn: {type(error).__name__}: {error}".partition("\n")[0]
            print(f"{reason}; run that stage again", file=sys.stderr)
            figure = _note(reason)
        save_images(figure, out / name)

    with plt.rc_context(STYLE):
        for table, content in planned["tables"].items():
            ours = [run for run in runs if shown(run, content)]
            if not ours:
                continue
            look = looks[content["track"]]
            mine = scores[(scores["track"] == content["track"]) & scores["run"].isin(content["runs"])]
            save(f"{table}_forgetting", partial(learning_against_forgetting, main_scores(mine), ours, look))
            save(f"{table}_scores", partial(score_bars, mine, look))
            save(f"{table}_loss", partial(loss_curves, ours, look))
            compared = comparisons[comparisons["table"] == table]
            save(f"{table}_effects", partial(effects.forest, compared, content["runs"], look))
            answered = samples[(samples["track"] == content["track"]) & samples["run"].isin(content["runs"])]
            for name, figure in content["figures"].items():
                make = registry.benchmark(content["track"], figure["kind"]).FIGURES[figure["name"]]
                save(f"{table}_{name}", partial(make, answered, look))
        gains = overall.gains(collected, report)
        for track in looks:  # what asks another's model was trained no other way
            again = gains["run"].isin(asked_in_another_way(of_track(track)))
            gains = gains[~(again & (gains["track"] == track))]
        save(overall.figure(planned["part"]), partial(effects.cost_and_gain, gains, looks))
        for name, figure in planned["figures"].items():
            of_method = [
                run_files(run, looks[run["key"]["track"]][run["key"]["run"]]["color"])
                for run in runs
                if _uses(run, figure)
            ]
            if of_method:
                make = registry.method(figure["axis"], figure["kind"]).FIGURES[figure["name"]]
                save(name, partial(make, of_method))


def _note(reason: str) -> "Figure":
    """A figure that says why there is none."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(6.4, 1.2))
    figure.text(0.02, 0.5, "\n".join(textwrap.wrap(reason, 90)), va="center", parse_math=False)
    return figure


def _uses(run: dict[str, Any], figure: Mapping[str, str]) -> bool:
    """Whether the run is one of the method that draws `figure`."""
    part = {"tuners": "tuner", "curricula": "curriculum", "posthoc": "posthoc"}[figure["axis"]]
    config = (run["config"] or {}).get(part)
    return config is not None and config["kind"] == figure["kind"]


def run_files(run: dict[str, Any], colour: str = "black") -> RunFiles:
    """Where the run's files lie."""
    model = Path(run["model"]["directory"])
    named = {stage["name"]: node for node, stage in run["cost"]["stages"].items() if stage["name"]}
    stages = {name: records.find(model.parent / node) for name, node in named.items()}
    key = run["key"]
    results = model.parent.parent / "runs" / key["track"] / key["run"] / f"seed{key['seed']}"
    return RunFiles(key["run"], key["seed"], run["config"], stages, results, colour)


def families(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The curve that each run is a point of: the runs that differ in a post-hoc option alone, else the run itself."""
    found = {}
    for run in runs:
        name, config = run["key"]["run"], run["config"]
        if config and config["posthoc"]:
            same = [config[key] for key in ("curriculum", "tuner", "training")] + [config["posthoc"]["kind"]]
            found[name] = json.dumps(same, sort_keys=True)
        else:
            found[name] = name
    return found


def curves(runs: Sequence[dict[str, Any]]) -> list[tuple[list[str], list[str]]]:
    """The runs of each curve, and of those of several what they lie between: the base, and the run without a post-hoc step."""
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


def asked_in_another_way(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Runs that ask another run's model in another way (`decode`), each with that run's name."""

    def model(config: Mapping[str, Any]) -> str:
        return json.dumps({name: config[name] for name in config if name not in ("name", "decode")}, sort_keys=True)

    configs = {run["key"]["run"]: run["config"] for run in runs if run["config"]}
    plain = {model(config): name for name, config in configs.items() if not config.get("decode")}
    return {
        name: plain[model(config)]
        for name, config in configs.items()
        if config.get("decode") and model(config) in plain
    }


def styles(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Colour, marker and line by the name of a track's run. The points of one curve share theirs, no two curves have all in
    common, and baselines have no colour. What asks another run's model in another way is hollow, in that run's colour.
    """
    family = families(runs)
    asked = asked_in_another_way(runs)
    plain = [run["key"]["run"] for run in runs if run["config"] is None]
    order = list(dict.fromkeys(found for name, found in family.items() if name not in plain and name not in asked))
    look = {}
    for i, found in enumerate(order):
        turn, colour = divmod(i, len(COLOURS))
        look[found] = {
            "color": COLOURS[colour],
            "marker": MARKERS[(i + turn) % len(MARKERS)],
            "linestyle": LINES[turn % len(LINES)],
        }
    for i, name in enumerate(plain):
        look[name] = {"color": GREYS[i % len(GREYS)], "marker": "|_x+"[i % 4], "linestyle": LINES[i % len(LINES)]}
    look["base"] = {"color": "black", "marker": "*", "linestyle": "-"}
    for i, (name, of) in enumerate(asked.items()):
        other = {"marker": MARKERS[i % len(MARKERS)], "markerfacecolor": "white", "linestyle": LINES[i % len(LINES)]}
        look[name] = look[family[of]] | other
    return {name: look[name if name in asked else found] for name, found in family.items()}


def learning_against_forgetting(
    scores: "pd.DataFrame", runs: Sequence[dict[str, Any]], look: Mapping[str, Any]
) -> "Figure":
    """Each of the track's scores against the general score that is left; up and right is better in every panel."""
    import matplotlib.pyplot as plt

    tasks = known_tasks()
    names = list(dict.fromkeys(scores["task"]))
    kept = next((name for name in names if name.startswith("general")), names[0])
    learned = [name for name in names if not name.startswith("general")] or [kept]
    scores = scores[
        scores["run"].isin(scores["run"][scores["task"] == kept])
    ]  # a baseline without a model forgets nothing
    order = list(dict.fromkeys(scores["run"]))
    lines = curves([run for run in runs if run["key"]["run"] in order])
    figure, panels = plt.subplots(1, len(learned), figsize=(4.0 * len(learned) + 1.6, 4.2), sharex=True, squeeze=False)
    for axes, name in zip(panels[0], learned, strict=True):
        x, y = (scores[scores["task"] == task].set_index("run") for task in (kept, name))
        for members, ends in lines:
            _draw_family(axes, members, ends, x, y, look)
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
    drawing.name_runs(figure, panels[0][0])
    drawing.title(figure, "Learning against forgetting, 95 % intervals; up and right is better")
    return figure


def _draw_family(
    axes: Any,
    members: Sequence[str],
    ends: Sequence[str],
    x: "pd.DataFrame",
    y: "pd.DataFrame",
    look: Mapping[str, Any],
) -> None:
    """The points of one run, or of a curve of runs that interpolate between the base and the tuned model."""

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


PANELS_IN_A_ROW = 5


def score_bars(scores: "pd.DataFrame", look: Mapping[str, Any]) -> "Figure":
    """One panel for every number of a task that tables show, one bar a run."""
    tasks = known_tasks()
    names = sorted(dict.fromkeys(scores["task"]), key=lambda name: name.startswith("general"))
    shown = [
        (tasks[name], metric, heading)
        for name in names
        for metric, heading in ((tasks[name].metric, tasks[name].unit), *tasks[name].shown)
    ]
    runs = list(dict.fromkeys(scores["run"]))
    panel = (2.3, 0.28 * len(runs) + 1.2)
    figure, panels = drawing.grid(len(shown), PANELS_IN_A_ROW, panel, margin=1, sharey=True)
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


def loss_curves(runs: Sequence[dict[str, Any]], look: Mapping[str, Any]) -> "Figure":
    """Training loss by step of a run's stages one after another, the mean over seeds with their range behind it."""
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
    drawing.name_runs(figure, axes)
    drawing.title(figure, "Loss on each method's own training mixture")
    return figure


def _training_logs(run: dict[str, Any]) -> list[Path]:
    """The logs of a run's training stages, one after another."""
    trained = [node for node, stage in run["cost"]["stages"].items() if stage["kind"] == "train"]
    stages = Path(run["model"]["directory"]).parent
    paths = [records.find(stages / node) / "training.jsonl" for node in trained]
    return [path for path in paths if path.exists()]


def _losses(paths: Sequence[Path]) -> "pd.Series":
    """The loss by optimizer step, the steps of all stages counted through."""
    import pandas as pd

    losses = pd.concat([pd.read_json(path, lines=True)["loss"] for path in paths], ignore_index=True)
    losses.index += 1
    return losses


def save_images(figure: "Figure", stem: Path) -> None:
    """Write <stem>.svg, .pdf and .png, laid out alike, and close the figure."""
    import matplotlib.pyplot as plt

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # else every format would lay it out anew, which takes longer than to draw it
    around = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
    for suffix in IMAGES:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}.get(
            suffix, {"Software": None}
        )
        figure.savefig(stem.with_suffix(f".{suffix}"), metadata=metadata, bbox_inches=around)
    plt.close(figure)
