"""Make a row for each track and run: its methods, status, scores with intervals, costs and colour."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.report.explorer.columns import FORGOTTEN
from adaptbench.report.explorer.parts import Results
from adaptbench.report.figures import palette, runs
from adaptbench.report.tables import forgotten, own_stages, trained_parameters

Values = dict[str, list[float | None]]
"""The mean by column, for scores with both ends of its interval. None replaces numbers that are not finite."""


def rows(found: Results) -> list[dict[str, Any]]:
    """Return a row for each track and run, in the order of the preset."""
    planned = [(run["key"]["track"], run["key"]["run"]) for run in found.order]
    there = dict.fromkeys(key[:2] for key in found.runs)
    look = _look(found)
    values = _scores(found)
    return [
        _row(found, track, name)
        | {"values": values.get((track, name), {}) | _costs(_done(found, track, name)), "look": look[track, name]}
        for track, name in sorted(there, key=lambda key: planned.index(key) if key in planned else len(planned))
    ]


def curves(found: Results, track: str) -> list[list[str]]:
    """Return the lines of the plot: runs that interpolate between others, with these."""
    lines = runs.curves([run for run in found.order if run["key"]["track"] == track])
    return [[*members, *ends] for members, ends in lines if len(members) > 1]


def _seeds(found: Results, track: str, name: str) -> dict[int, dict[str, Any]]:
    return {key[2]: run for key, run in found.runs.items() if key[:2] == (track, name)}


def _done(found: Results, track: str, name: str) -> list[dict[str, Any]]:
    return [run for run in _seeds(found, track, name).values() if run["status"] == "done"]


def _row(found: Results, track: str, name: str) -> dict[str, Any]:
    seeds = _seeds(found, track, name)
    not_done = {seed: f"{run['status']}: {run['reason']}" for seed, run in seeds.items() if run["status"] != "done"}
    done = len(seeds) - len(not_done)
    status = (
        "done"
        if not not_done
        else f"{done} of {len(seeds)} seeds"
        if done
        else next(iter(not_done.values())).partition(":")[0]
    )
    config = next((run["config"] for run in seeds.values() if run.get("config")), None)
    return {
        "track": track,
        "run": name,
        "seeds": sorted(seeds),
        "done": sorted(set(seeds) - set(not_done)),
        "status": status,
        "reasons": [f"seed {seed}: {reason}" for seed, reason in sorted(not_done.items())],
        "tables": [
            table for table, content in found.tables.items() if content["track"] == track and name in content["runs"]
        ],
        "method": method(name, config, _done(found, track, name)),
    }  # fmt: skip


def method(name: str, config: Mapping[str, Any] | None, done: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe the run in a line for each of its methods, the first sentence of its file."""
    if config is None:
        if name == "base":
            return ["The base that the track's runs start from, as it is."]
        policy = any((run["model"].get("decode") or {}).get("kind") == "policy" for run in done)
        return ["A rule that answers without a model, from the training data's frequencies."] if policy else []
    axes = (("curricula", "curriculum"), ("tuners", "tuner"), ("posthoc", "posthoc"))
    return [_first_line(axis, config[part]["kind"]) for axis, part in axes if config.get(part)]


def _first_line(axis: str, kind: str) -> str:
    try:
        text = registry.method(axis, kind).__doc__ or ""
    except (KeyError, AdaptbenchError):  # results of a method that this checkout does not have
        return kind
    return text.strip().partition("\n")[0]


def _look(found: Results) -> dict[tuple[str, str], dict[str, str]]:
    """Return colour and marker of each run, as in the figures."""
    known = {(run["key"]["track"], run["key"]["run"]) for run in found.order}
    others = dict.fromkeys(key[:2] for key in found.runs if key[:2] not in known)
    order = [*found.order, *({"key": {"track": track, "run": name}, "config": None} for track, name in others)]
    look: dict[tuple[str, str], dict[str, str]] = {}
    for track in dict.fromkeys(run["key"]["track"] for run in order):
        styles = palette.styles([run for run in order if run["key"]["track"] == track])
        look |= {(track, name): style for name, style in styles.items()}
    return look


def _scores(found: Results) -> dict[tuple[str, str], Values]:
    tasks = known_tasks()
    rows: dict[tuple[str, str], Values] = {}
    for each in found.scores.itertuples():
        row = cast(Any, each)
        values = rows.setdefault((row.track, row.run), {})
        values[f"{row.task}/{row.metric}"] = _numbers(row.mean, row.low, row.high)
        task = tasks.or_unknown(row.task, row.metric)
        if task.general and row.metric == task.metric and not math.isnan(row.change):
            values[row.task + FORGOTTEN] = _numbers(*forgotten(row, task))
    return rows


def _numbers(*values: float) -> list[float | None]:
    """Round the values to six decimals, without negative zeros; None replaces numbers that are not finite."""
    return [round(value, 6) + 0.0 if math.isfinite(value) else None for value in values]


def _costs(done: Sequence[Mapping[str, Any]]) -> Values:
    """Return the mean costs over seeds; a run without training stages has only a size on disk."""
    values: Values = {}
    sizes = [run["model"]["bytes"] for run in done if run["model"].get("bytes")]
    if sizes:
        values["cost/disk_bytes"] = [sum(sizes) / len(sizes)]
    trained = [run for run in done if own_stages(dict(run))]
    if trained:
        values["cost/trained_parameters"] = [max(trained_parameters(dict(run)) for run in trained)]
        for name in ("wall_seconds", "flops", "tokens", "peak_bytes", "trained_tokens", "train_seconds"):
            numbers = [run["cost"].get(name) for run in trained]
            if None not in numbers:  # an older version may not have counted it
                values[f"cost/{name}"] = [round(sum(numbers) / len(numbers), 3)]
    return values
