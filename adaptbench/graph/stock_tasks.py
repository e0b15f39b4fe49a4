"""Tasks that lm-eval brings, by their own names: what each is, its documents, its one number.

A preset names them under `evaluation.stock_tasks`, by track. Those under `general` count as what a method may forget, and are
called general_<name> in results. A group (mmlu, say) is one task here: the documents of all its tasks, weighted as lm-eval
weights them. Our mean over the documents is held against lm-eval's own number at every evaluation.

lm-eval reads all of its 14,000 files to find a task, which takes ten seconds; here its TaskManager is given only the
folders that hold the names in question.
"""

import difflib
import importlib.metadata
import importlib.util
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.tasks import Task

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry

_NAMED = re.compile(rb"""^["']?(?:task|group)["']?\s*:\s*["']?([^\s"'#]+)["']?\s*(?:#.*)?$""", re.MULTILINE)
UNITS = {"acc": "accuracy", "acc_norm": "accuracy, by length"}


@dataclass(frozen=True)
class Stock:
    """A task or group of lm-eval.

    Attributes:
        tasks: the tasks that ask documents, itself if it is no group.
        metrics: what each document is scored by, the main one first.
        filters: ways of reading an answer; the first is the main number's.
        weight_by_size: a group's number is the mean over documents, else the mean over its tasks.
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
        """The further metrics, and all of them under the other filters."""
        others = (f"{metric} ({one})" for one in self.filters[1:] for metric in self.metrics)
        return (*self.metrics[1:], *others)


def result_name(track: str, name: str) -> str:
    """What a stock task is called in results."""
    return f"general_{name}" if track == "general" else name


def task(name: str) -> Task:
    """The task of that name in results.

    Raises:
        AdaptbenchError: this lm-eval has none that can be used.
    """
    stock = describe(name.removeprefix("general_"))
    return Task(
        name,
        metric=stock.metrics[0],
        label=stock.name,
        unit=UNITS.get(stock.metrics[0], stock.metrics[0].replace("_", " ")),
        higher_is_better=stock.higher_is_better,
        more=stock.more,
        weight=None if stock.weight_by_size else "weight",
    )


@cache
def describe(name: str) -> Stock:
    """What lm-eval's files say of a task or group; loads no data.

    Raises:
        AdaptbenchError: there is none of that name, or its number is no mean over documents.
    """
    if name not in _files():
        near = difflib.get_close_matches(name, _files(), n=3)
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise AdaptbenchError(f"{name}: no task or group of lm-eval {importlib.metadata.version('lm-eval')}{meant}")
    index = _manager((name,)).task_index
    leaves = tuple(dict.fromkeys(_leaves(name, index)))
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
    named = [str(one) for one in _children(group)] if group else []
    return ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")


def _usable(name: str, entry: "Entry") -> Mapping[str, Any]:
    """A task's options, if its documents can be scored one by one here."""
    config = entry.cfg or {}
    if "class" in config:
        raise AdaptbenchError(f"{name}: {entry.name} is a Python class of lm-eval, whose metrics no file names")
    if any(one.get("hf_evaluate") for one in config.get("metric_list") or ()):
        raise AdaptbenchError(f"{name}: {entry.name} is scored by code from the hub, which is never run here")
    if config.get("unsafe_code"):
        raise AdaptbenchError(f"{name}: {entry.name} runs code that the model writes, which is never done here")
    return config


def _metrics(name: str, config: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, bool]]:
    """The metrics that are means over documents, the main one first, and whether more of each is better."""
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


@cache
def _files() -> dict[str, Path]:
    """The file of every task and group, by name."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise AdaptbenchError("lm-eval is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "tasks"
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _NAMED.findall(path.read_bytes()):
            found.setdefault(name.decode(), path)
    return found


@cache
def _manager(names: tuple[str, ...]) -> "TaskManager":
    """lm-eval's manager of the tasks of these names, and of what their groups hold."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    folders = {_files()[name].parent for name in names}
    while True:
        manager = TaskManager(include_path=sorted(folders), include_defaults=False)
        held = {child for name in names for child in _all_children(name, manager.task_index)}
        elsewhere = {_files()[child].parent for child in held if child not in manager.task_index and child in _files()}
        if not elsewhere:
            return manager
        folders |= elsewhere


def _children(config: Mapping[str, Any]) -> list[str]:
    """What a group's file lists: tasks, groups or tags."""
    listed = config["task"] if isinstance(config["task"], list) else [config["task"]]
    names = [one if isinstance(one, str) else one.get("task", one.get("group")) for one in listed]
    if not all(isinstance(one, str) for one in names):
        raise AdaptbenchError(f"{config['group']}: a group that makes tasks of its own; name others")
    return names


def _all_children(name: str, index: "Mapping[str, Entry]") -> Iterator[str]:
    entry = index.get(name)
    if entry is None or entry.cfg is None or "group" not in entry.cfg:
        return
    for child in _children(entry.cfg):
        yield child
        yield from _all_children(child, index)


def _leaves(name: str, index: "Mapping[str, Entry]") -> Iterator[str]:
    """The tasks that a name stands for, in lm-eval's order."""
    entry = index.get(name)
    if entry is None:
        raise AdaptbenchError(f"{name}: no task, group or tag of lm-eval")
    if entry.cfg is None:  # a tag
        yield from sorted(entry.tags)
    elif "group" in entry.cfg:
        for child in _children(entry.cfg):
            yield from _leaves(child, index)
    else:
        yield name


def overlap(names: Iterable[str]) -> str:
    """Two names that ask the same documents, as "<one> and <other>"; empty if none do.

    Raises:
        AdaptbenchError: a name that lm-eval does not have.
    """
    asked: dict[str, str] = {}
    for name in names:
        for leaf in describe(name).tasks:
            if asked.setdefault(leaf, name) != name:
                return f"{asked[leaf]} and {name}"
    return ""


def fewshot_problem(name: str, examples: int) -> str:
    """Why a task cannot be asked with that many examples; empty if it can."""
    index = _manager((name,)).task_index
    fixed = [leaf for leaf in describe(name).tasks if (index[leaf].cfg or {}).get("num_fewshot") == 0 and examples]
    return f"lm-eval fixes {fixed[0]} at no examples" if fixed else ""


def load(stock: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """lm-eval's tasks and groups, with their data, as its evaluator takes them; `stock` as in a run's plan.

    Raises:
        AdaptbenchError: their data cannot be had.
    """
    found: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for one in stock.values():
        try:
            loaded = _manager((one["task"],)).load([one["task"]])
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
    """By name in results: every document once, numbered through a group's tasks, with all its metrics and its `weight`.

    Raises:
        AdaptbenchError: their mean is not lm-eval's number.
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
    """lm-eval logs a document once for each filter; here it is once, the other filters' metrics beside the main ones."""
    found: dict[int, dict[str, Any]] = {}
    for sample in logged:
        if sample["filter"] == about.filters[0]:
            found[sample["doc_id"]] = dict(sample)
    for sample in logged:
        if sample["filter"] != about.filters[0]:
            others = {f"{metric} ({sample['filter']})": sample.get(metric) for metric in about.metrics}
            found[sample["doc_id"]] |= others
    return [found[document] for document in sorted(found)]
