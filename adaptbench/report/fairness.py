"""Write the cost card of every comparison: parameters, tokens, seconds, tuning."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.graph.sweeps import Key
from adaptbench.report.tables import trained_parameters

if TYPE_CHECKING:
    import pandas as pd


def cost_card(
    by_key: Mapping[Key, Sequence[dict[str, Any]]], tried: Mapping[Key, int], sweep: str | None
) -> "tuple[pd.DataFrame, str]":
    """Return the cost card, a row for each run, and its caption; `tried` is the number of tuned settings by run."""
    import pandas as pd

    bases = {
        track: mean_costs([run for run in runs if run["status"] == "done"], CARD)["evaluation seconds"]
        for (track, name), runs in by_key.items()
        if name == "base"
    }
    rows = []
    for (track, name), runs in by_key.items():
        done = [run for run in runs if run["status"] == "done"]
        means = mean_costs(done, CARD)
        row = {"track": track, "run": name} | means
        row["times the base's"] = means["evaluation seconds"] / bases[track] if bases.get(track) else float("nan")
        rows.append(row | {"tries": tried.get((track, name), float("nan")), "note": note(runs)})
    caption = (
        "Means over seeds, of a method's own stages; trained parameters: of the stage that trains most; pre-training,"
        " which the runs of a seed share, is not counted. Tokens: positions put through the decoder, padding and"
        " repeated passes included; trained: those with a label. Evaluation: all tasks of the run."
    )
    if sweep:
        caption += (
            f" Tries: settings scored on validation before one was chosen ({sweep}); runs without took another's."
        )
    return pd.DataFrame(rows), caption


def _milliseconds(run: Mapping[str, Any]) -> float | None:
    """Return the milliseconds of one document's evaluation, None if there are no documents."""
    documents = sum(one["documents"] for one in run["metrics"].values())
    return 1000 * run["seconds"]["evaluation"] / documents if documents else None


Number = Callable[[dict[str, Any]], float | None]


CARD: Mapping[str, Number] = {
    "trained parameters": trained_parameters,
    "total parameters": lambda run: (run["model"].get("parameters") or {}).get("total"),
    "steps": lambda run: run["cost"]["steps"],
    "tokens": lambda run: run["cost"]["tokens"],
    "trained tokens": lambda run: run["cost"]["trained_tokens"],
    "TFLOP": lambda run: run["cost"]["flops"] / 1e12,
    "training seconds": lambda run: run["cost"]["train_seconds"],
    "job seconds": lambda run: run["cost"]["wall_seconds"],
    "peak MB": lambda run: run["cost"]["peak_bytes"] / 1e6,
    "MB on disk": lambda run: run["model"]["bytes"] / 1e6,
    "evaluation seconds": lambda run: run["seconds"]["evaluation"],
    "ms a document": _milliseconds,
    "evaluation peak MB": lambda run: run["evaluation_peak_bytes"] / 1e6,
}


COSTS = {name: CARD[name] for name in ("trained parameters", "tokens", "TFLOP")} | {"seconds": CARD["job seconds"]}


def mean_costs(runs: Sequence[dict[str, Any]], numbers: Mapping[str, Number]) -> dict[str, float]:
    """Return the mean of each of `numbers` over the runs that have it, nan if none has."""
    found = {}
    for name, number in numbers.items():
        values = [value for run in runs if (value := number(run)) is not None]
        found[name] = sum(values) / len(values) if values else float("nan")
    return found


def note(runs: Sequence[dict[str, Any]]) -> str:
    """Return the reasons why seeds of a run are missing from its numbers."""
    undone = [f"seed {run['key']['seed']} {run['status']}: {run['reason']}" for run in runs if run["status"] != "done"]
    return "; ".join(dict.fromkeys(undone)) if runs else "missing"
