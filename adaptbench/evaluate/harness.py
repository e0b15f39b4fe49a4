"""Run lm-eval on one model in this process."""

import inspect
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate.metrics import too_long
from adaptbench.graph import stock_tasks
from adaptbench.io import hub
from adaptbench.tasks import Task
from adaptbench.train import provenance

SEED = 1234  # lm-eval's default for few-shot examples


def tasks_of(spec: Mapping[str, Any]) -> list[Task]:
    """Return the general tasks and the track's that belong to the evaluated split, and lm-eval's own tasks."""
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
    """Return lm-eval's results, and the seconds of start-up (imports, loading) and of evaluation.

    Besides lm-eval's entries the results have "too_long": for each task the number of items that did not fit; and
    "instead": how the decoding replaced capabilities that the base lacks.

    Args:
        decode: the kind of decoding, and its options.
        names: tasks in the `task_folders`.
        stock: lm-eval's own tasks, by their names in results.

    Raises:
        AdaptbenchError: the decoding is unknown, or the data of a stock task cannot be loaded.
    """
    import torch

    _quiet()
    from lm_eval.evaluator import evaluate as evaluate_tasks
    from transformers import set_seed

    language_model = _language_model(directory, decode, task_folders, batch_size)
    loaded = _load_tasks(names, task_folders, stock)
    set_seed(SEED)
    start_up = provenance.seconds_since_process_start()
    # Not `simple_evaluate`, which then calls pip and lscpu to describe the machine, for a second.
    with torch.inference_mode():
        evaluated = evaluate_tasks(lm=language_model, task_dict=loaded, limit=limit, bootstrap_iters=0)
    _add_taken(evaluated["samples"], getattr(language_model, "taken", {}))
    evaluated["samples"] |= stock_tasks.samples(evaluated, stock)
    members: dict[str, Iterable[str]] = {name: (name,) for name in names}
    members |= {name: stock_tasks.describe(one["task"]).tasks for name, one in stock.items()}
    evaluated["instead"] = getattr(language_model, "instead", {})
    evaluated["too_long"] = too_long(language_model, evaluated["samples"], members)
    whole = provenance.seconds_since_process_start()
    return evaluated, {"start_up": round(start_up, 3), "evaluation": round(whole - start_up, 3)}


def _language_model(directory: Path, decode: Mapping[str, Any], task_folders: Mapping[str, Path], batch_size: int):
    """Return the lm-eval `LM` that decodes as `decode` says.

    Raises:
        AdaptbenchError: the kind of decoding is unknown, or has no such option.
    """
    if decode["kind"] not in registry.DECODINGS:
        known = ", ".join(registry.DECODINGS)
        raise AdaptbenchError(f"{directory}: decodes by {decode['kind']!r}; known are {known}")
    decoding = registry.decoding(decode["kind"])
    options = {name: value for name, value in decode.items() if name != "kind"}
    parameters = inspect.signature(decoding.language_model).parameters
    for name in options:
        if name not in parameters:
            raise AdaptbenchError(f"decode.{name}: {decode['kind']} decoding has no such option")
    return decoding.language_model(directory, batch_size=batch_size, tasks=task_folders, **options)


def _load_tasks(
    names: list[str], task_folders: Mapping[str, Path], stock: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return lm-eval's tasks of the folders and of its own, zero-shot by default, with a fixed seed.

    Raises:
        AdaptbenchError: the data of a stock task cannot be loaded.
    """
    from lm_eval.tasks import TaskManager

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
    return loaded


def _add_taken(
    samples: Mapping[str, list[dict[str, Any]]], taken: Mapping[tuple[str, int], Mapping[str, float]]
) -> None:
    """Add a decoding's notes on its answers (tokens, passes, time) to the samples, as further metrics."""
    for task, its in samples.items():
        for sample in its:
            sample.update(taken.get((task, sample["doc_id"]), {}))


def _quiet() -> None:
    """Silence the long logs of lm-eval and transformers; run.json has what matters here."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
