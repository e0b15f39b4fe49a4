"""Writes a graph down for its jobs: results/<preset>/plan/.

    <node id>.json    what a stage's job must know
    run-<key>.json    what an evaluation's job must know
    report.json       which runs each table shows, and which figures the methods draw

Files that are already right are left alone, so that a second start touches nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.files import write_if_changed
from adaptbench.graph import Evaluation, Graph


def write(graph: Graph) -> Path:
    """Write the plan; returns its folder."""
    folder = graph.root / "plan"
    for node in graph.nodes.values():
        spec = asdict(node) | {
            "preset": graph.preset.name,
            "inputs": {role: str(graph.directory(parent)) for role, parent in node.parents.items()},
            "checkpoint_seconds": graph.preset.checkpoint_seconds,
        }
        _write(folder / f"{node.id}.json", spec)
    for evaluation in graph.evaluations:
        lineage = graph.ancestors(evaluation.model) if evaluation.model else ()
        spec = asdict(evaluation) | {
            "hash": evaluation.digest,
            "preset": graph.preset.name,
            "model_directory": str(graph.directory(evaluation.model)) if evaluation.model else None,
            "task_directories": {name: str(graph.directory(node)) for name, node in evaluation.tasks.items()},
            "lineage": {node: str(graph.directory(node)) for node in lineage if graph.nodes[node].kind != "data"},
            "config": _config(graph, evaluation),
        }
        _write(evaluation_file(graph, evaluation.key), spec)
    _write(report_file(graph), {"runs": runs(graph), "tables": tables(graph), "figures": method_figures(graph)})
    return folder


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_if_changed(path, json.dumps(content, indent=1) + "\n")


def evaluation_file(graph: Graph, key: str) -> Path:
    return graph.root / "plan" / f"run-{key.replace('/', '-')}.json"


def report_file(graph: Graph) -> Path:
    return graph.root / "plan" / "report.json"


def runs(graph: Graph) -> list[str]:
    """Every run.json of the preset."""
    return [f"{graph.root}/runs/{evaluation.key}/run.json" for evaluation in graph.evaluations]


def tables(graph: Graph) -> dict[str, dict[str, Any]]:
    """By table: its track, and the runs that it shows, the base first."""
    found: dict[str, dict[str, Any]] = {}
    for run in graph.preset.runs:
        for name in run.shown_in():
            found.setdefault(name, {"track": run.track, "runs": ["base"]})["runs"].append(run.name)
    return found


def method_figures(graph: Graph) -> dict[str, dict[str, str]]:
    """By figure: the function in a method's `FIGURES` that draws it from the runs of that method."""
    found = {}
    for evaluation in graph.evaluations:
        run = graph.run(evaluation)
        if run is None or evaluation.skipped:
            continue
        for axis, method in (("tuners", run.tuner), ("curricula", run.curriculum), ("posthoc", run.posthoc)):
            if method is not None:
                for name in getattr(registry.method(axis, method.kind), "FIGURES", {}):
                    found[f"{method.kind}_{name}"] = {"axis": axis, "kind": method.kind, "name": name}
    return found


def _config(graph: Graph, evaluation: Evaluation) -> dict[str, Any] | None:
    run = graph.run(evaluation)
    if run is None:
        return None
    training = run.training.model_dump(mode="json", exclude_unset=True)
    return run.model_dump(mode="json", exclude={"tables"}) | {"training": training}
