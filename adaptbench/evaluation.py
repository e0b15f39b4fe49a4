"""Scores one model on all tasks of its track and on the general ones, in one process, through lm-eval.

lm-eval does the prompting, batching, scoring and filtering; what is ours is which tasks, one row per document, and the
cost that the model's lineage has run up.
"""

import inspect
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adaptbench import gpus, hub, models, provenance, records, registry, results, stock_tasks
from adaptbench.contracts import AdaptbenchError, Derived, Task
from adaptbench.cost import peak_bytes
from adaptbench.kernels import implementations

if TYPE_CHECKING:
    import pandas as pd


SEED = 1234  # lm-eval's own of few-shot examples


def run(plan: Path, out: Path) -> None:
    """Evaluate the run that `plan` describes and write its run.json and samples.parquet into `out`."""
    spec = json.loads(plan.read_text())
    key = {name: spec[name] for name in ("preset", "track", "run", "seed")}
    described = {"key": key, "config": spec["config"], "evaluation": spec["options"], "hash": spec["hash"]}
    if spec["skipped"]:
        import pandas as pd

        results.write_run(
            out,
            described | {"status": "skipped", "reason": spec["skipped"]},
            pd.DataFrame(columns=results.SAMPLE_COLUMNS),
        )
        return
    if spec["policy"]:
        directory = Path(spec["data_directory"])
        manifest: dict[str, Any] = {"decode": {"kind": "policy", "policy": spec["policy"]}}
    else:
        directory = Path(spec["model_directory"])
        manifest = models.read_manifest(directory)
    tasks = tasks_of(spec)
    with gpus.own(0 if spec["policy"] else 1), implementations.used() as ran:
        evaluated, seconds = evaluate(
            directory,
            manifest["decode"] | spec["options"]["decode"],
            [task.name for task in tasks if task.name not in spec["stock"]],
            {track: Path(path) for track, path in spec["task_directories"].items()},
            stock=spec["stock"],
            **{name: spec["options"][name] for name in ("batch_size", "limit")},
        )
    samples = sample_rows(evaluated["samples"], tasks).assign(**{name: key[name] for name in ("track", "run", "seed")})
    cost = training_cost(spec["lineage"])
    measured = {
        "status": "done",
        "metrics": {task.name: _metric(samples, task) | evaluated["too_long"].get(task.name, {}) for task in tasks},
        "model": {"directory": str(directory), "bytes": _size(directory), **_final(manifest)},
        "instead": evaluated["instead"],
        "cost": cost,
        "seconds": seconds | {"all": round(provenance.seconds_since_process_start(), 3)},
        "evaluation_peak_bytes": peak_bytes(),
        "provenance": provenance.collect() | _origins(spec) | {"kernels": _kernels(cost, ran)},
    }
    if spec["stock"]:
        measured["stock_tasks"] = {
            name: one | {"data": list(stock_tasks.describe(one["task"]).data)} for name, one in spec["stock"].items()
        }
    results.write_run(out, described | measured, samples)


def tasks_of(spec: Mapping[str, Any]) -> list[Task]:
    """The general tasks and the track's, those that belong to the split under evaluation, and those of lm-eval."""
    tasks: list[Task] = []
    for directory in spec["task_directories"].values():
        made = json.loads((Path(directory) / "manifest.json").read_text())["options"]
        benchmark = registry.benchmark(made["track"], made["config"]["kind"])
        tasks += [task for task in benchmark.TASKS if task.split == spec["options"]["split"]]
    return tasks + [stock_tasks.task(name) for name in spec["stock"]]


def evaluate(
    directory: Path,
    decode: Mapping[str, Any],
    names: list[str],
    task_folders: Mapping[str, Path],
    *,
    batch_size: int,
    limit: int | None,
    stock: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return lm-eval's results, and the seconds that start-up (imports, loading) and evaluation took.

    Beside its own entries the results have "too_long": by task, what its entry in run.json says of items that did not fit; and
    "instead": what the decoding did in place of what the base lacks.

    `names` are tasks in the `task_folders`, `stock` lm-eval's own by their names in results.

    Raises:
        AdaptbenchError: a decoding kind without a file in adaptbench/decoding, or data of a stock task that cannot be had.
    """
    import importlib

    import torch

    _quiet()
    from lm_eval.evaluator import evaluate as evaluate_tasks
    from lm_eval.tasks import TaskManager
    from transformers import set_seed

    try:
        decoding = importlib.import_module(f"adaptbench.decoding.{decode['kind']}")
    except ModuleNotFoundError:
        raise AdaptbenchError(
            f"{directory}: decodes by {decode['kind']!r}, which adaptbench/decoding does not have"
        ) from None
    options = {name: value for name, value in decode.items() if name != "kind"}
    known = inspect.signature(decoding.language_model).parameters
    for name in options:
        if name not in known:
            raise AdaptbenchError(f"decode.{name}: {decode['kind']} decoding has no such option")
    language_model = decoding.language_model(directory, batch_size=batch_size, tasks=task_folders, **options)
    manager = TaskManager(
        include_path=[str(folder / "tasks") for folder in task_folders.values()], include_defaults=False
    )
    loaded = manager.load(names)
    for task in (one["task"] for one in stock.values()):
        for name in stock_tasks.describe(task).data:
            try:
                hub.check_id(name)
            except AdaptbenchError as error:
                raise AdaptbenchError(f"evaluation.stock_tasks: {task}: {error}") from None
    for part, found in stock_tasks.load(stock).items():
        loaded[part] |= found
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
    set_seed(SEED)
    start_up = provenance.seconds_since_process_start()
    # Not `simple_evaluate`, which does as much and then asks pip and lscpu about the machine, for a second.
    with torch.inference_mode():
        evaluated = evaluate_tasks(lm=language_model, task_dict=loaded, limit=limit, bootstrap_iters=0)
    _add_taken(evaluated["samples"], getattr(language_model, "taken", {}))
    evaluated["samples"] |= stock_tasks.samples(evaluated, stock)
    members: dict[str, Iterable[str]] = {name: (name,) for name in names}
    members |= {name: stock_tasks.describe(one["task"]).tasks for name, one in stock.items()}
    evaluated["instead"] = getattr(language_model, "instead", {})
    evaluated["too_long"] = _too_long(language_model, evaluated["samples"], members)
    whole = provenance.seconds_since_process_start()
    return evaluated, {"start_up": round(start_up, 3), "evaluation": round(whole - start_up, 3)}


def _too_long(
    language_model: Any, samples: Mapping[str, list[dict[str, Any]]], members: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, int]]:
    """Count the items of each task that are longer than the model's input, and say in the log what was done.

    `members` are lm-eval's tasks that a task here consists of.
    """
    found = {}
    for name, tasks in members.items():
        noted = getattr(language_model, "too_long", {})
        done = Counter(done for task in tasks for done in noted.get(task, {}).values())
        if done:
            found[name] = {"too_long": done.total()}
            said = ", ".join(f"{count} {how}" for how, count in done.items())
            print(
                f"{name}: {done.total()} of {len(samples[name])} items do not fit into {language_model.max_length} tokens: {said}",
                file=sys.stderr,
            )
    return found


def _add_taken(
    samples: Mapping[str, list[dict[str, Any]]], taken: Mapping[tuple[str, int], Mapping[str, float]]
) -> None:
    """What a decoding noted of its answers (tokens, passes, time), as further metrics of the samples."""
    for task, its in samples.items():
        for sample in its:
            sample.update(taken.get((task, sample["doc_id"]), {}))


def sample_rows(samples: Mapping[str, list[dict[str, Any]]], tasks: list[Task]) -> "pd.DataFrame":
    """One row per task, document and metric; a further metric that a document lacks (None) has no row."""
    import pandas as pd

    rows = []
    for task in tasks:
        for sample in samples[task.name]:
            prediction, target = _answer(sample)
            for metric in (task.metric, *task.more):
                value = sample[metric] if metric == task.metric else sample.get(metric)
                if value is None:
                    continue
                rows.append(
                    {
                        "task": task.name,
                        "document": int(sample["doc_id"]),
                        "group": int(sample["doc"][task.group] if task.group else sample["doc_id"]),
                        "document_hash": sample["doc_hash"],
                        "prompt_hash": sample["prompt_hash"],
                        "metric": metric,
                        "value": results.finite(value, f"{task.name}, document {sample['doc_id']}"),
                        "weight": float(sample[task.weight]) if task.weight else 1.0,
                        "prompt": str(sample["arguments"][0][0]),
                        "prediction": prediction,
                        "target": target,
                    }
                )
    return pd.DataFrame(rows)


def _answer(sample: Mapping[str, Any]) -> tuple[str, str]:
    """What the model answered and what is right, as text."""
    response, target = sample["filtered_resps"][0], sample["target"]
    if len(sample["arguments"]) > 1:  # choices, by their log-likelihoods
        scores = [float(one[0]) for one in sample["filtered_resps"]]
        choices = [str(arguments[1]).strip() for arguments in sample["arguments"]]
        return choices[scores.index(max(scores))], choices[target] if isinstance(target, int) else str(target)
    return (response if isinstance(response, str) else ""), str(target)


def _metric(samples: "pd.DataFrame", task: Task) -> dict[str, Any]:
    """The task's main metric, and under `more` its further ones."""

    def mean(metric: str) -> float:
        rows = samples[(samples["task"] == task.name) & (samples["metric"] == metric)]
        return float((rows["value"] * rows["weight"]).sum() / rows["weight"].sum())

    def derived(metric: Derived) -> float:
        rows = samples[(samples["task"] == task.name)].pivot(index="document", columns="metric", values="value")
        counts = metric.counts(*(rows[name].to_numpy() for name in metric.of))
        return float(metric.combine(*(one.sum() for one in counts)))

    documents = samples[samples["task"] == task.name]["document"].nunique()
    found = {"metric": task.metric, "value": mean(task.metric), "documents": int(documents)}
    asked = set(samples[samples["task"] == task.name]["metric"])
    more = {metric: mean(metric) for metric in task.more if metric in asked}
    # A baseline's answers lack what a model's take.
    known = [metric for metric in task.derived if asked.issuperset(metric.of)]
    more |= {metric.name: value for metric in known if not math.isnan(value := derived(metric))}
    return found | ({"more": more} if more else {})


def training_cost(lineage: Mapping[str, str]) -> dict[str, Any]:
    """What the method's own stages cost in all; the base, which every method shares, is not counted, nor is compiling, which
    falls to whichever stage is the machine's first.
    """
    total = {
        "steps": 0,
        "tokens": 0,
        "trained_tokens": 0,
        "flops": 0,
        "train_seconds": 0.0,
        "wall_seconds": 0.0,
        "peak_bytes": 0,
    }
    stages = {}
    for node, directory in lineage.items():
        path = records.find(Path(directory))
        if not (path / models.MANIFEST).exists():
            continue
        manifest = models.read_manifest(path)
        stages[node] = {
            name: manifest.get(name)
            for name in (
                "kind",
                "cost",
                "seconds",
                "parameters",
                "git",
                "kernels",
                "precision",
                "compiled",
                "attention",
                "instead",
                "without_adapters",
                "devices",
            )
        }
        stages[node]["name"] = manifest["options"].get("phase") or manifest["options"].get("function")
        if manifest["kind"] in ("base", "imported_base"):
            continue
        seconds = manifest["seconds"]
        total["wall_seconds"] = round(total["wall_seconds"] + seconds["all"] - seconds.get("compiling", 0.0), 3)
        cost = manifest.get("cost") or {}
        for name in ("steps", "tokens", "trained_tokens", "flops", "train_seconds"):
            total[name] += cost.get(name, 0)
        total["peak_bytes"] = max(total["peak_bytes"], cost.get("peak_bytes", 0))
    return total | {"stages": stages}


def _kernels(cost: Mapping[str, Any], evaluating: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """By operation of kernels/ the implementations that ran, in the run's stages and its evaluation."""
    together: dict[str, set[str]] = {}
    for ran in (*(stage["kernels"] or {} for stage in cost["stages"].values()), evaluating):
        for operation, ways in ran.items():
            together.setdefault(operation, set()).update(ways)
    return {operation: sorted(ways) for operation, ways in sorted(together.items())}


def _origins(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Which base model and which data, with their revisions."""
    data = {
        name: json.loads((Path(directory) / "manifest.json").read_text())
        for name, directory in spec["task_directories"].items()
    }
    bases = [Path(directory) for node, directory in spec["lineage"].items() if node.startswith("base-")]
    if not bases:
        return {"base": None, "data": data}
    manifest = models.read_manifest(bases[0])
    return {"base": manifest["options"] | {"commit": manifest.get("commit")}, "data": data}


def _final(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("decode", "parameters", "lacks")}


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*.safetensors"))


def _quiet() -> None:
    """lm-eval and transformers log at length; what matters here is in run.json."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
