"""Evaluate one model on all tasks of its track and on the general ones, in one process, by lm-eval.

lm-eval prompts, batches, scores and filters. This module chooses the tasks, writes one row per document, and adds the
training cost of the model's lineage.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptbench.evaluate.harness import evaluate, tasks_of
from adaptbench.evaluate.metrics import metric, sample_rows
from adaptbench.evaluate.training_cost import kernels_of_lineage, training_cost
from adaptbench.graph import stock_tasks
from adaptbench.io import model_folder, results
from adaptbench.jobs import gpus
from adaptbench.kernels import implementations
from adaptbench.train import provenance
from adaptbench.train.cost import peak_bytes


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
        manifest = model_folder.read_manifest(directory)
    tasks = tasks_of(spec)
    with gpus.reserve(0 if spec["policy"] else 1), implementations.recording() as ran:
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
        "metrics": {task.name: metric(samples, task) | evaluated["too_long"].get(task.name, {}) for task in tasks},
        "model": {"directory": str(directory), "bytes": _size(directory), **_final(manifest)},
        "instead": evaluated["instead"],
        "cost": cost,
        "seconds": seconds | {"all": round(provenance.seconds_since_process_start(), 3)},
        "evaluation_peak_bytes": peak_bytes(),
        "provenance": provenance.collect() | _origins(spec) | {"kernels": kernels_of_lineage(cost, ran)},
    }
    if spec["stock"]:
        measured["stock_tasks"] = {
            name: one | {"data": list(stock_tasks.describe(one["task"]).data)} for name, one in spec["stock"].items()
        }
    results.write_run(out, described | measured, samples)


def _origins(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base model and the data, with their revisions."""
    data = {
        name: json.loads((Path(directory) / "manifest.json").read_text())
        for name, directory in spec["task_directories"].items()
    }
    bases = [Path(directory) for node, directory in spec["lineage"].items() if node.startswith("base-")]
    if not bases:
        return {"base": None, "data": data}
    manifest = model_folder.read_manifest(bases[0])
    return {"base": manifest["options"] | {"commit": manifest.get("commit")}, "data": data}


def _final(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("decode", "parameters", "lacks")}


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*.safetensors"))
