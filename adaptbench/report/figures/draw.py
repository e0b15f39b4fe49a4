"""Draw the figures of tables (learning against forgetting, scores, effects, losses) and those of methods and
benchmarks.

They are SVG, PDF and PNG, with the same bytes for the same numbers. A run has the same colour, marker and line in every
figure of its track. A figure whose files are missing or damaged shows the reason instead, and the others are drawn.
"""

import json
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import targets
from adaptbench.io import results
from adaptbench.report import overall
from adaptbench.report.figures import effects
from adaptbench.report.figures.bars import score_bars
from adaptbench.report.figures.palette import STYLE, decoding_variants, save_images, styles
from adaptbench.report.figures.runs import learning_against_forgetting, loss_curves, run_files
from adaptbench.report.tables import shown
from adaptbench.statistics.collect import main_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


Makers = Iterator[tuple[str, Callable[[], "Figure"]]]
"""Names of figures and the functions that draw them."""


def draw(collected: Path, report: Path, out: Path, only: str | None = None) -> None:
    """Draw the figures of the plan's `report` into the folder `out`: all, or the `only` one of that name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    planned = json.loads(report.read_text())
    runs = [run for run in json.loads((collected / "runs.json").read_text()) if run["status"] == "done"]
    out.mkdir(parents=True, exist_ok=True)
    looks = {track: styles(_of_track(planned, track)) for track in {run["key"]["track"] for run in planned["order"]}}
    whole = targets.overall_figure(planned["part"]), partial(_cost_and_gain, collected, report, planned, looks)
    samples = cache(partial(results.read_samples, collected / "samples.parquet"))
    makers: Makers = chain(
        _of_tables(collected, planned, runs, looks, samples), iter([whole]), _of_methods(planned, runs, looks)
    )
    with plt.rc_context(STYLE):
        for name, make in makers:
            if only in (None, name):
                save_images(_drawn(name, make), out / name)


def _drawn(name: str, make: Callable[[], "Figure"]) -> "Figure":
    """Return the figure, or one that says why it cannot be drawn."""
    import matplotlib.pyplot as plt

    try:
        return make()
    except (OSError, ValueError, LookupError, StopIteration, AdaptbenchError) as error:
        plt.close("all")
        reason = f"{name} is not drawn: {type(error).__name__}: {error}".partition("\n")[0]
        if isinstance(error, OSError | json.JSONDecodeError):
            print(f"{reason}; run that stage again", file=sys.stderr)
        else:  # a damaged file, or a mistake in the function that draws
            print(f"{reason} ({_place(error)})", file=sys.stderr)
        return _notes(reason)


def _place(error: Exception) -> str:
    """Return the innermost line outside libraries that an error passed, as "<file's name>:<line>"."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("site-packages", sys.base_prefix)
    last = [one for one in frames if not any(folder in one.filename for folder in libraries)] or frames
    return f"{Path(last[-1].filename).name}:{last[-1].lineno}"


def _of_track(planned: Mapping[str, Any], track: str) -> list[dict[str, Any]]:
    return [run for run in planned["order"] if run["key"]["track"] == track]


def _of_tables(
    collected: Path,
    planned: Mapping[str, Any],
    runs: list[dict[str, Any]],
    looks: Mapping[str, Any],
    samples: Callable[[], "pd.DataFrame"],
) -> Makers:
    """Yield the figures of every table: the common ones, and those of the track's benchmark, which need `samples`."""
    import pandas as pd

    scores, comparisons = (pd.read_csv(collected / name) for name in ("scores.csv", "comparisons.csv"))
    for table, content in planned["tables"].items():
        ours = [run for run in runs if shown(run, content)]
        if not ours:
            continue
        look = looks[content["track"]]
        mine = scores[(scores["track"] == content["track"]) & scores["run"].isin(content["runs"])]
        yield f"{table}_forgetting", partial(learning_against_forgetting, main_scores(mine), ours, look)
        yield f"{table}_scores", partial(score_bars, mine, look)
        yield f"{table}_loss", partial(loss_curves, ours, look)
        compared = comparisons[comparisons["table"] == table]
        yield f"{table}_effects", partial(effects.forest, compared, content["runs"], look)
        for name, figure in content["figures"].items():
            yield f"{table}_{name}", partial(_of_benchmark, samples, content, figure, look)


def _of_benchmark(
    samples: Callable[[], "pd.DataFrame"],
    table: Mapping[str, Any],
    figure: Mapping[str, str],
    look: Mapping[str, Any],
) -> "Figure":
    rows = samples()
    answered = rows[(rows["track"] == table["track"]) & rows["run"].isin(table["runs"])]
    make = registry.benchmark(table["track"], figure["kind"]).FIGURES[figure["name"]]
    drawn: Figure = make(answered, look)
    return drawn


def _cost_and_gain(collected: Path, report: Path, planned: Mapping[str, Any], looks: Mapping[str, Any]) -> "Figure":
    gains = overall.gains(collected, report)
    for track in looks:  # a decoding variant has the model, and so the cost, of another run
        variants = gains["run"].isin(decoding_variants(_of_track(planned, track)))
        gains = gains[~(variants & (gains["track"] == track))]
    return effects.cost_and_gain(gains, looks)


def _of_methods(planned: Mapping[str, Any], runs: list[dict[str, Any]], looks: Mapping[str, Any]) -> Makers:
    """Yield the figures of methods, each drawn from all runs of its method."""
    for name, figure in planned["figures"].items():
        mine = [
            run_files(run, looks[run["key"]["track"]][run["key"]["run"]]["color"]) for run in runs if _uses(run, figure)
        ]
        if mine:
            yield name, partial(registry.method(figure["axis"], figure["kind"]).FIGURES[figure["name"]], mine)


def _notes(reason: str) -> "Figure":
    """Return a figure that shows the reason why there is none."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(6.4, 1.2))
    figure.text(0.02, 0.5, "\n".join(textwrap.wrap(reason, 90)), va="center", parse_math=False)
    return figure


def _uses(run: dict[str, Any], figure: Mapping[str, str]) -> bool:
    """Return True if the run uses the method that draws `figure`."""
    part = {"tuners": "tuner", "curricula": "curriculum", "posthoc": "posthoc"}[figure["axis"]]
    config = (run["config"] or {}).get(part)
    return config is not None and config["kind"] == figure["kind"]
