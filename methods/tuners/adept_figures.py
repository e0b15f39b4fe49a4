"""ADEPT's figures: the probe's layer importances, and the units' rates over the refreshes."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptbench.contracts import RunFiles
from adaptbench.report.figures import layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PANELS_IN_A_ROW = 4


def layer_importance(runs: Sequence[RunFiles]) -> "Figure":
    """Draw importance by layer, the chosen layers marked; one panel for each placement that was probed."""
    import matplotlib.pyplot as plt

    probed: dict[str, RunFiles] = {}
    for run in runs:
        if "probe" in run.stages:
            probed.setdefault(run.config["tuner"]["placement"], run)
    figure, panels = plt.subplots(
        max(1, len(probed)), 1, figsize=(6.4, 2.6 * max(1, len(probed))), squeeze=False, sharex=True
    )
    for axes, (placement, run) in zip(panels[:, 0], probed.items(), strict=False):
        importance = json.loads((run.stages["probe"] / "importance.json").read_text())["importance"]
        chosen = json.loads((run.stages["expand"] / "chosen.json").read_text())
        colours = ["#D55E00" if layer in chosen else "#B9B9B9" for layer in range(len(importance))]
        axes.bar_label(axes.bar(range(len(importance)), importance, color=colours), fmt="%.2f", fontsize=7, padding=1)
        axes.set_xticks(range(len(importance)))
        axes.set_ylabel("importance (nats a token)")
        axes.set_title(
            f"Rise of the general loss when a layer is bypassed; {placement} {len(chosen)} marked",
            fontsize=9,
            loc="left",
        )
    panels[-1, 0].set_xlabel("layer of the base")
    return figure


def unit_rates(runs: Sequence[RunFiles]) -> "Figure":
    """Draw rate multipliers by unit kind and layer (rows) over the refreshes (columns; 0: before the first step).

    One panel for each run, of its first seed.
    """
    import pandas as pd

    logs = {}
    for run in runs:
        if run.name in logs:
            continue
        # A curriculum of several stages tunes by ADEPT in each; the first one's refreshes are shown.
        trained = [path for path in run.stages.values() if (path / "training.jsonl").exists()]
        log = pd.read_json(trained[0] / "training.jsonl", lines=True).set_index("step")
        start, later = (
            log[[column for column in log if str(column).startswith(f"{prefix}multiplier/")]].dropna()
            for prefix in ("start/", "")
        )
        start = start.rename(columns=lambda column: str(column).removeprefix("start/"), index=lambda _: 0)
        rates = pd.concat([one for one in (start, later) if one.size] or [later])
        if rates.size:
            logs[run.name] = rates
    longest = max((len(rates.columns) for rates in logs.values()), default=1)
    figure, panels = layout.grid(len(logs), PANELS_IN_A_ROW, (2.6, 1.2 + 0.15 * longest), margin=2.2)
    image = None
    for axes, (name, rates) in zip(panels, logs.items(), strict=False):
        labels = [_short(str(column)) for column in rates]
        image = axes.imshow(rates.T.to_numpy(), aspect="auto", cmap="RdBu_r", vmin=0, vmax=2, interpolation="nearest")
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
        every = -(-len(rates) // 10)
        axes.set_xticks(range(0, len(rates), every), rates.index[::every].astype(str), fontsize=6, rotation=90)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("refresh after step")
        axes.grid(visible=False)
    if image is not None:
        down = panels[0].get_gridspec().nrows
        figure.colorbar(image, ax=panels, shrink=1 / down, aspect=30 / down, label="multiple of the base rate")
    return figure


def _short(column: str) -> str:
    """Return the label of a column: multiplier/model.layers.3.self_attn.q_proj.weight becomes 3 q_proj."""
    parts = column.removesuffix(".weight").split(".")
    index = next(part for part in parts if part.isdigit())
    return f"{index} {'.'.join(parts[-2:]) if column.endswith('.bias') else parts[-1]}"
