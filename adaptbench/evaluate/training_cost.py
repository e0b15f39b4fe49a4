"""Sum the training cost of a model's lineage of stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptbench.io import model_folder, records


def training_cost(lineage: Mapping[str, str]) -> dict[str, Any]:
    """Return the total cost of the method's stages, and each stage's.

    The base, which all methods share, does not count; nor does compiling, which is in the machine's first stage.
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
        if not (path / model_folder.MANIFEST).exists():
            continue
        manifest = model_folder.read_manifest(path)
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


def kernels_of_lineage(cost: Mapping[str, Any], evaluating: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the implementations of each kernel operation that ran in the run's stages and its evaluation."""
    together: dict[str, set[str]] = {}
    for ran in (*(stage["kernels"] or {} for stage in cost["stages"].values()), evaluating):
        for operation, ways in ran.items():
            together.setdefault(operation, set()).update(ways)
    return {operation: sorted(ways) for operation, ways in sorted(together.items())}
