"""Describes and loads tasks of lm-eval, and checks their scores.

A preset names them under `evaluation.stock_tasks`, by track. Those under `general` measure forgetting, and are called
general_<name> in results. A group such as mmlu is one task here: the documents of all its tasks, weighted as in
lm-eval. Every evaluation compares our mean over documents with lm-eval's result.
"""

import difflib
import importlib.metadata
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.graph import lm_eval_index
from adaptbench.tasks import Task

if TYPE_CHECKING:
    from lm_eval.tasks._index import Entry

GENERAL = "general_"  # begins the name in results of a task under the track `general`
UNITS = {"acc": "accuracy", "acc_norm": "accuracy, by length"}


@dataclass(frozen=True)
class Stock:
    """A task or group of lm-eval.

    Attributes:
        name: its name in lm-eval.
        tasks: a group's tasks, or itself if it is no group.
        metrics: the metrics of a document, the main one first.
        filters: ways to extract an answer; the main metric uses the first.
        higher_is_better: whether a larger value of the main metric is better.
        weight_by_size: whether a group's result is the mean over documents, else the mean over its tasks.
        data: the hub ids of its data sets.
    """

    name: str
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    filters: tuple[str, ...]
    higher_is_better: bool
    weight_by_size: bool
    data: tuple[str, ...]

    @property
    def more(self) -> tuple[str, ...]:
        """The metrics beside the main one, and all metrics under the other filters."""
        others = (f"{metric} ({one})" for one in self.filters[1:] for metric in self.metrics)
        return (*self.metrics[1:], *others)


def result_name(track: str, name: str) -> str:
    """Return the name of a stock task in results."""
    return f"{GENERAL}{name}" if track == "general" else name


def task(name: str) -> Task:
    """Return the task with this name in results.

    Raises:
        AdaptbenchError: lm-eval has no such task, or it cannot be used.
    """
    stock = describe(name.removeprefix(GENERAL))
    return Task(
        name,
        metric=stock.metrics[0],
        label=stock.name,
        unit=UNITS.get(stock.metrics[0], stock.metrics[0].replace("_", " ")),
        higher_is_better=stock.higher_is_better,
        more=stock.more,
        weight=None if stock.weight_by_size else "weight",
        general=name.startswith(GENERAL),
    )


@cache
def describe(name: str) -> Stock:
    """Describe a task or group from lm-eval's files, without loading data.

    Raises:
        AdaptbenchError: there is no such task, or its result is no mean over documents.
    """
    if name not in lm_eval_index.task_files():
        near = difflib.get_close_matches(name, lm_eval_index.task_files(), n=3)
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise AdaptbenchError(f"{name}: no task or group of lm-eval {importlib.metadata.version('lm-eval')}{meant}")
    index = lm_eval_index.task_manager((name,)).task_index
    leaves = tuple(dict.fromkeys(lm_eval_index.leaves(name, index)))
    configs = [_usable(name, index[leaf]) for leaf in leaves]
    metrics, higher = _metrics(name, configs[0])
    group = index[name].cfg if leaves != (name,) else None
    by_size = True
    if group is not None:
        aggregated = group.get("aggregate_metric_list") or ()
        aggregated = [aggregated] if isinstance(aggregated, Mapping) else list(aggregated)
        main = next((one for one in aggregated if one["metric"] in metrics), None)
        if main is None:
            raise AdaptbenchError(f"{name}: a group without a number of its own; name its members: {_members(group)}")
        metrics = tuple(dict.fromkeys((main["metric"], *metrics)))
        by_size = bool(main.get("weight_by_size", True))
    for leaf, config in zip(leaves, configs, strict=True):
        if metrics[0] not in _metrics(leaf, config)[0]:
            raise AdaptbenchError(f"{name}: its task {leaf} has no {metrics[0]}; name the members: {_members(group)}")
    return Stock(
        name,
        leaves,
        metrics,
        tuple(one["name"] for one in configs[0].get("filter_list") or ({"name": "none"},)),
        higher[metrics[0]],
        by_size,
        tuple(dict.fromkeys(str(config["dataset_path"]) for config in configs if config.get("dataset_path"))),
    )


def _members(group: Mapping[str, Any] | None) -> str:
    named = [str(one) for one in lm_eval_index.children(group)] if group else []
    return ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")


def _usable(name: str, entry: "Entry") -> Mapping[str, Any]:
    """Return a task's options.

    Raises:
        AdaptbenchError: its documents cannot be scored one by one, or only by running code from elsewhere.
    """
    config = entry.cfg or {}
    if "class" in config:
        raise AdaptbenchError(f"{name}: {entry.name} is a Python class of lm-eval, whose metrics no file names")
    if any(one.get("hf_evaluate") for one in config.get("metric_list") or ()):
        raise AdaptbenchError(f"{name}: {entry.name} is scored by code from the hub, which is never run here")
    if config.get("unsafe_code"):
        raise AdaptbenchError(f"{name}: {entry.name} runs code that the model writes, which is never done here")
    return config


def _metrics(name: str, config: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, bool]]:
    """Return the metrics that are means over documents, the main one first, and whether higher is better for each."""
    from lm_eval.api.registry import AGGREGATION_REGISTRY, DEFAULT_METRIC_REGISTRY, is_higher_better
    from lm_eval.api.registry import get_metric_aggregation as default_aggregation

    listed = config.get("metric_list")
    if listed is None:
        listed = [{"metric": one} for one in DEFAULT_METRIC_REGISTRY[config["output_type"]]]
    mean = AGGREGATION_REGISTRY["mean"]
    found: dict[str, bool] = {}
    for one in listed:
        aggregation = one.get("aggregation")
        if aggregation == "mean" or (aggregation is None and default_aggregation(one["metric"]) is mean):
            found[one["metric"]] = bool(one.get("higher_is_better", is_higher_better(one["metric"])))
        elif not found:
            raise AdaptbenchError(f"{name}: its {one['metric']} is no mean over documents, so runs cannot be paired")
    return tuple(found), found


def overlap(names: Iterable[str]) -> str:
    """Return two names with a task in common, as "<one> and <other>"; empty if there are none.

    Raises:
        AdaptbenchError: lm-eval has no such name.
    """
    owner: dict[str, str] = {}
    for name in names:
        for leaf in describe(name).tasks:
            if owner.setdefault(leaf, name) != name:
                return f"{owner[leaf]} and {name}"
    return ""


def fewshot_problem(name: str, examples: int) -> str:
    """Return why a task cannot have so many few-shot examples; empty if it can."""
    index = lm_eval_index.task_manager((name,)).task_index
    fixed = [leaf for leaf in describe(name).tasks if (index[leaf].cfg or {}).get("num_fewshot") == 0 and examples]
    return f"lm-eval fixes {fixed[0]} at no examples" if fixed else ""


def load(stock: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Load tasks and groups with their data, for lm-eval's evaluator; `stock` is as in a run's plan.

    Raises:
        AdaptbenchError: their data cannot be loaded.
    """
    found: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for one in stock.values():
        try:
            loaded = lm_eval_index.task_manager((one["task"],)).load([one["task"]])
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise AdaptbenchError(f"evaluation.stock_tasks: {one['task']}: {type(error).__name__}: {reason}") from None
        if one["num_fewshot"] is not None:
            for task_ in loaded["tasks"].values():
                task_.set_config(key="num_fewshot", value=one["num_fewshot"])
        for part in found:
            found[part] |= loaded.get(part, {})
    return found


def samples(evaluated: Mapping[str, Any], stock: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return every document once, by name in results, with all its metrics and its `weight`.

    Documents are numbered through a group's tasks.

    Raises:
        AdaptbenchError: their mean differs from lm-eval's result.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, one in stock.items():
        about = describe(one["task"])
        documents: list[dict[str, Any]] = []
        for leaf in about.tasks:
            of_leaf = _by_document(evaluated["samples"][leaf], about)
            weight = 1.0 if about.weight_by_size else 1 / len(of_leaf)
            documents += [
                sample | {"doc_id": len(documents) + place, "weight": weight} for place, sample in enumerate(of_leaf)
            ]
        weights = [sample["weight"] for sample in documents]
        ours = sum(sample[about.metrics[0]] * sample["weight"] for sample in documents) / sum(weights)
        theirs = evaluated["results"][about.name][f"{about.metrics[0]},{about.filters[0]}"]
        if not math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12):
            raise AdaptbenchError(f"{name}: the mean over documents is {ours}, lm-eval's number {theirs}")
        found[name] = documents
    return found


def _by_document(logged: Iterable[Mapping[str, Any]], about: Stock) -> list[dict[str, Any]]:
    """Merge what lm-eval logs for each filter into one sample a document, with the metrics of all filters."""
    found: dict[int, dict[str, Any]] = {}
    for sample in logged:
        if sample["filter"] == about.filters[0]:
            found[sample["doc_id"]] = dict(sample)
    for sample in logged:
        if sample["filter"] != about.filters[0]:
            others = {f"{metric} ({sample['filter']})": sample.get(metric) for metric in about.metrics}
            found[sample["doc_id"]] |= others
    return [found[document] for document in sorted(found)]
