"""LT-Tuning's figures: where latents are inserted, their geometry, and accuracy with fewer or replaced latents."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench import statistics
from adaptbench.contracts import RunFiles
from adaptbench.latent.stage import INSERTION
from adaptbench.latent.thought import RIGHT_OF_THOUGHT
from adaptbench.report.figures import layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENT_COLOUR = "#D62728"
SAMPLES, WIDTH = 4, 72  # samples of a stage; characters of a line


def insertion(runs: Sequence[RunFiles]) -> "Figure":
    """Draw the responses of a few samples, those with latents first, one panel for each stage.

    A token's background is its confidence; red dots before it are latents.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    run = runs[0]
    stages = [name for name in ("hidden", "fused") if name in run.stages]
    figure, panels = plt.subplots(max(1, len(stages)), 1, squeeze=False, layout="constrained")
    colours = mpl.colormaps["Blues_r"]
    lines = [1.0] * len(panels)
    for number, (axes, stage) in enumerate(zip(panels[:, 0], stages, strict=False)):
        record = json.loads((run.stages[stage] / INSERTION).read_text())
        axes.set_xlim(0, WIDTH)
        axes.axis("off")
        line = 0.0
        for sample in record["shown"][:SAMPLES]:
            line = _write(axes, sample, line, colours) + 1.6
        lines[number] = line
        axes.set_ylim(line - 0.8, -0.8)
        mean = record["latents"] / record["samples"]
        tau = record["options"]["tau"]
        axes.set_title(
            f"{run.name}, stage {stage}: {mean:.1f} latents a sample, before tokens below {tau}", fontsize=9, loc="left"
        )
    panels[0, 0].get_gridspec().set_height_ratios(lines)
    figure.set_size_inches(8.6, 0.2 * sum(lines) + 0.45 * len(lines))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), colours)
    figure.colorbar(scale, ax=panels, label="what the model gave the token", fraction=0.02, pad=0.01)
    return figure


def _write(axes, sample, line: float, colours) -> float:
    """Write a sample's response from this line on; return the last line."""
    place = 0.0
    for number, (token, trained, confidence) in enumerate(
        zip(sample["tokens"], sample["trained"], sample["confidence"], strict=True)
    ):
        if not trained:
            continue
        text = token.replace("\n", "\\n").strip() or "\u00b7"
        latents = sample["latents"].get(str(number), 0)
        width = len(text) + 0.9 + 1.1 * latents
        if place + width > WIDTH:
            place, line = 0.0, line + 1.25
        for _ in range(latents):
            axes.plot(place + 0.4, line, "o", color=LATENT_COLOUR, markersize=4.5, clip_on=False)
            place += 1.1
        dark = confidence < 0.45
        axes.text(
            place, line, text, va="center", ha="left", fontsize=7.5, family="monospace", parse_math=False,
            color="white" if dark else "black",
            bbox={"facecolor": colours(confidence), "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
        place += len(text) + 0.9
    return line


LAST = ("fused", "hidden", "all")  # stages that a run with latents may end in
PROBLEMS = 64


def geometry(runs: Sequence[RunFiles]) -> "Figure":
    """Draw latents of test problems on their first two principal axes, one panel for each run, of its first seed.

    The titles give mean cosine and effective rank.
    """
    import pandas as pd

    from adaptbench.latent import geometry as shape

    # A run that decodes another run's model in another way has the same latents.
    first = {run.name: run for run in reversed(runs) if not run.config.get("decode")}
    found = {}
    for name, run in sorted(first.items()):
        samples = pd.read_parquet(run.results / "samples.parquet")
        answers = samples[samples["metric"] == "latent_tokens"].drop_duplicates(["task", "document"])
        directory = next(run.stages[stage] for stage in LAST if stage in run.stages)
        vectors = shape.collect(directory, answers["prompt"].head(PROBLEMS).tolist())
        if len(vectors) > 2:
            found[name] = vectors
    figure, panels = layout.grid(len(found), 3, (3.1, 3.1))
    for axes, (name, vectors) in zip(panels, found.items(), strict=False):
        points, shares = shape.principal_axes(vectors)
        axes.scatter(points[:, 0], points[:, 1], s=7, color=first[name].colour, alpha=0.5, linewidths=0)
        axes.set_xlabel(f"first axis ({shares[0]:.0%} of variance)", fontsize=8)
        axes.set_ylabel(f"second axis ({shares[1]:.0%})", fontsize=8)
        cosine, rank = shape.mean_cosine(vectors), shape.effective_rank(vectors)
        axes.set_title(
            f"{name}: {len(vectors)} latents\ncosine {cosine:.2f}, effective rank {rank:.1f} of {vectors.shape[1]}",
            fontsize=8.5, loc="left",
        )  # fmt: skip
    return figure


def budget(runs: Sequence[RunFiles]) -> "Figure":
    """Draw accuracy over the most latents of a response, one line for runs that differ in nothing else."""
    import matplotlib.pyplot as plt

    lines: dict[str, dict[int, list[RunFiles]]] = {}
    for run in runs:
        decode = dict(run.config["decode"])
        most = decode.pop("budget", None)
        if most is not None:
            lines.setdefault(_method(run, decode), {}).setdefault(most, []).append(run)
    figure, axes = plt.subplots(figsize=(5.4, 3.6))
    for points in lines.values():
        found = {most: _right(of_budget) for most, of_budget in sorted(points.items())}
        means, below, above = zip(*((one.mean, one.below, one.above) for one in found.values()), strict=True)
        axes.errorbar(
            list(found), means, yerr=[below, above],
            marker="o", markersize=5, capsize=2, elinewidth=0.8,
            color=next(iter(points.values()))[0].colour, label=_shared_name(points),
        )  # fmt: skip
    axes.set_xticks(sorted({most for points in lines.values() for most in points}))
    axes.set_ylim(0, 1)
    axes.set_xlabel("most latents of a response")
    axes.set_ylabel("answers right")
    axes.set_title("Accuracy by latent budget, 95 % intervals", fontsize=9, loc="left")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def probes(runs: Sequence[RunFiles]) -> "Figure":
    """Draw accuracy when latents are replaced at test time, next to the same run as it is.

    One panel is over all answers, the other over those with latents. Replacing latents does not move the first latent
    of an answer, so that the same answers have latents.
    """
    import matplotlib.pyplot as plt

    groups: dict[str, dict[str, list[RunFiles]]] = {}
    for run in runs:
        decode = dict(run.config["decode"])
        probe = decode.pop("probe", "")
        groups.setdefault(_method(run, decode), {}).setdefault(probe, []).append(run)
    probed = [group for group in groups.values() if set(group) != {""}]
    rows = [(group, probe) for group in probed for probe in PROBES if probe in group]
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 0.9 + 0.42 * len(rows)), sharey=True, layout="constrained")
    for axes, measure in zip(panels, (_right, _right_of_thought), strict=True):
        for place, (group, probe) in enumerate(rows):
            found = measure(group[probe])
            axes.errorbar(
                [found.mean], [place], xerr=[[found.below], [found.above]],
                marker="o", capsize=2, color=group[probe][0].colour, markerfacecolor=None if probe == "" else "white",
            )  # fmt: skip
        axes.set_xlim(0, 1)
    names = [f"{_shared_name(group) if len(probed) > 1 else ''} {PROBES[probe]}".strip() for group, probe in rows]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].invert_yaxis()
    panels[0].set_xlabel("answers right")
    panels[1].set_xlabel("right among answers with latents")
    panels[0].set_title(f"{_shared_name(probed[0])}: what latents hold, 95 % intervals", fontsize=9, loc="left")
    return figure


PROBES = {
    "": "latents as they are",
    "zero": "zeros",
    "noise": "noise of the same length",
    "shuffle": "another problem's latents",
}


def _method(run: RunFiles, decode: Mapping[str, Any]) -> str:
    """Return a run's config as text, without its name and with these options of `decode`."""
    kept = {name: value for name, value in run.config.items() if name not in ("name", "decode")}
    return json.dumps({**kept, "decode": decode}, sort_keys=True)


def _shared_name(group: Mapping[Any, Sequence[RunFiles]]) -> str:
    """Return the longest beginning that the names of the runs share."""
    names = [run.name for some in group.values() for run in some]
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip("-")


def _right(runs: Sequence[RunFiles]) -> statistics.Interval:
    """Return the share of right answers over the seeds of a run."""
    return statistics.mean_interval(_answers(runs, "exact_match"))


def _right_of_thought(runs: Sequence[RunFiles]) -> statistics.Interval:
    """Return the share of right answers among those with latents; nan if there are none."""
    right, latents = (_answers(runs, metric) for metric in RIGHT_OF_THOUGHT.of)
    counts = RIGHT_OF_THOUGHT.counts(right.values, latents.values)
    return statistics.interval_of_sums(counts, RIGHT_OF_THOUGHT.combine, right.groups)


def _answers(runs: Sequence[RunFiles], metric: str) -> statistics.Answers:
    """Return a run's values of a metric over its seeds."""
    import pandas as pd

    samples = pd.concat([pd.read_parquet(run.results / "samples.parquet") for run in runs])
    return statistics.answers(samples[samples["metric"] == metric])


FIGURES = {"insertion": insertion, "geometry": geometry, "budget": budget, "probes": probes}
FIGURE_NEEDS = {"budget": "budget", "probes": "probe"}
