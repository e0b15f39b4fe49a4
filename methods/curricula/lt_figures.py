"""What LT-Tuning looks like: where latents went in a few training samples, by the model's confidence in each token."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptbench.contracts import RunFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENT_COLOUR = "#D62728"
SAMPLES, WIDTH = 3, 84  # samples of a stage; characters of a line


def insertion(runs: Sequence[RunFiles]) -> "Figure":
    """The responses of the first samples, one panel a stage: each token on its confidence, latents as red dots before it."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    run = runs[0]
    stages = [name for name in ("hidden", "fused") if name in run.stages]
    figure, panels = plt.subplots(max(1, len(stages)), 1, figsize=(8.6, 2.6 * max(1, len(stages))), squeeze=False)
    colours = mpl.colormaps["Blues_r"]
    for axes, stage in zip(panels[:, 0], stages, strict=False):
        record = json.loads((run.stages[stage] / "insertion.json").read_text())
        axes.set_xlim(0, WIDTH)
        axes.axis("off")
        line = 0.0
        for sample in record["shown"][:SAMPLES]:
            line = _write(axes, sample, line, colours) + 1.6
        axes.set_ylim(line, -0.6)
        mean = record["latents"] / record["samples"]
        tau = record["options"]["tau"]
        axes.set_title(
            f"{run.name}, stage {stage}: {mean:.1f} latents a sample, before tokens below {tau}", fontsize=9, loc="left"
        )
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), colours)
    figure.colorbar(scale, ax=panels, label="what the model gave the token", fraction=0.02, pad=0.01)
    return figure


def _write(axes, sample, line: float, colours) -> float:
    """Write a sample's response from this line on; returns the last line."""
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
    """Latents of test problems on their first two principal axes, one panel a run, its first seed; cosine and rank in words."""
    import matplotlib.pyplot as plt
    import pandas as pd

    from adaptbench.latent import geometry as shape

    first = {run.name: run for run in reversed(runs)}
    found = {}
    for name, run in sorted(first.items()):
        samples = pd.read_parquet(run.results / "samples.parquet")
        asked = samples[samples["metric"] == "latent_tokens"].drop_duplicates(["task", "document"])
        directory = next(run.stages[stage] for stage in LAST if stage in run.stages)
        vectors = shape.collect(directory, asked["prompt"].head(PROBLEMS).tolist())
        if len(vectors) > 2:
            found[name] = vectors
    columns = min(3, max(1, len(found)))
    lines = -(-max(1, len(found)) // columns)
    figure, panels = plt.subplots(lines, columns, figsize=(3.1 * columns, 3.1 * lines), squeeze=False)
    for axes in panels.flat[len(found) :]:
        axes.axis("off")
    for axes, (name, vectors) in zip(panels.flat, found.items(), strict=False):
        points, shares = shape.principal(vectors)
        axes.scatter(points[:, 0], points[:, 1], s=7, color=LATENT_COLOUR, alpha=0.5, linewidths=0)
        axes.set_xlabel(f"first axis ({shares[0]:.0%} of variance)", fontsize=8)
        axes.set_ylabel(f"second axis ({shares[1]:.0%})", fontsize=8)
        cosine, rank = shape.mean_cosine(vectors), shape.effective_rank(vectors)
        axes.set_title(
            f"{name}: {len(vectors)} latents\ncosine {cosine:.2f}, effective rank {rank:.1f} of {vectors.shape[1]}",
            fontsize=8.5, loc="left",
        )  # fmt: skip
    return figure


FIGURES = {"insertion": insertion, "geometry": geometry}
