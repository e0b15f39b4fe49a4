"""Assign colours, markers and line styles to runs, and save images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.graph.targets import IMAGES

if TYPE_CHECKING:
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


def families(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the curve of each run by name; runs that differ only in a post-hoc option share one."""
    found = {}
    for run in runs:
        name, config = run["key"]["run"], run["config"]
        if config and config["posthoc"]:
            same = [config[key] for key in ("curriculum", "tuner", "training")] + [config["posthoc"]["kind"]]
            found[name] = json.dumps(same, sort_keys=True)
        else:
            found[name] = name
    return found


def decoding_variants(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the runs that evaluate another run's model with other decoding options, each with that run's name."""

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
    """Return colour, marker and line of a track's runs by name.

    The points of one curve share a style, and two curves differ in at least one property. Policies are grey. Decoding
    variants have the colour of the run whose model they evaluate, with hollow markers.
    """
    family = families(runs)
    variants = decoding_variants(runs)
    plain = [run["key"]["run"] for run in runs if run["config"] is None]
    order = list(dict.fromkeys(found for name, found in family.items() if name not in plain and name not in variants))
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
    for i, (name, of) in enumerate(variants.items()):
        other = {"marker": MARKERS[i % len(MARKERS)], "markerfacecolor": "white", "linestyle": LINES[i % len(LINES)]}
        look[name] = look[family[of]] | other
    return {name: look[name if name in variants else found] for name, found in family.items()}


def save_images(figure: "Figure", stem: Path) -> None:
    """Write <stem>.svg, .pdf and .png with the same layout, and close the figure."""
    import matplotlib.pyplot as plt

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # else each format repeats the layout, which takes longer than drawing
    around = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
    for suffix in IMAGES:
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}.get(
            suffix, {"Software": None}
        )
        figure.savefig(stem.with_suffix(f".{suffix}"), metadata=metadata, bbox_inches=around)
    plt.close(figure)
