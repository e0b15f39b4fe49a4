"""Writes a graph to files for its jobs, in results/<preset>/plan/.

    <node id>.json        the input of a stage's job
    run-<key>.json        the input of an evaluation's job
    report-<part>.json    the runs of each table, the figures of methods, and all runs
    paper.json            the base, the tests and the runs, to be compared with papers
    between.json          the stages of intermediate models, which nothing reads once all runs are done
    runs.json             the files of the preset's current runs; files of earlier runs stay, for their results

Files with the right content are not written again, so a second start changes nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import problems
from adaptbench.graph.nodes import Evaluation, Graph, Node
from adaptbench.io.files import write_if_changed


def write(graph: Graph) -> Path:
    """Write the plan and return its folder."""
    write_files(files(graph))
    return folder(graph)


def write_files(planned: Mapping[Path, str]) -> None:
    """Write the files whose text differs."""
    for path, text in planned.items():
        write_if_changed(path, text)


def are_written(planned: Mapping[Path, str]) -> bool:
    """Return whether all files have this text."""
    return all(path.exists() and path.read_text(encoding="utf-8") == text for path, text in planned.items())


def folder(graph: Graph) -> Path:
    """Return the folder of the plan."""
    return graph.root / "plan"


def files(graph: Graph) -> dict[Path, str]:
    """Return the plan's files and their text."""
    contents: dict[Path, Mapping[str, Any] | list[str]] = {}
    contents |= {stage_file(graph, node.id): _stage_spec(graph, node) for node in graph.nodes.values()}
    contents |= {evaluation_file(graph, one.key): _evaluation_spec(graph, one) for one in graph.evaluations}
    # A run has the same look in all figures: it depends on the preset as a whole, not on what a figure shows.
    configs = {(one.track, one.run): _config(graph, one) for one in graph.evaluations}
    order = [{"key": {"track": track, "run": run}, "config": config} for (track, run), config in configs.items()]
    for part in parts(graph):
        contents[report_file(graph, part)] = {
            "part": part,
            "sweep": graph.preset.sweep,
            "runs": runs(graph, part),
            "tables": tables(graph, part),
            "figures": method_figures(graph, part),
            "order": order,
        }
    contents[paper_file(graph)] = paper_content(graph)
    contents[folder(graph) / "between.json"] = intermediate_models(graph)
    contents[folder(graph) / "runs.json"] = [evaluation_file(graph, one.key).name for one in graph.evaluations]
    return {path: json.dumps(content, indent=1) + "\n" for path, content in contents.items()}


def _stage_spec(graph: Graph, node: Node) -> dict[str, Any]:
    spec = asdict(node) | {
        "preset": graph.preset.name,
        "inputs": {role: str(graph.directory(parent)) for role, parent in node.parents.items()},
        "checkpoint_seconds": graph.preset.checkpoint_seconds,
    }
    if node.kind == "imported_base":
        spec["needs"] = problems.needs(graph.preset)
    if "training" in node.options:
        spec["devices"] = graph.preset.devices.model_dump()
    return spec


def _evaluation_spec(graph: Graph, evaluation: Evaluation) -> dict[str, Any]:
    lineage = graph.ancestors(evaluation.model) if evaluation.model else ()
    return asdict(evaluation) | {
        "hash": evaluation.digest,
        "preset": graph.preset.name,
        "model_directory": str(graph.directory(evaluation.model)) if evaluation.model else None,
        "data_directory": str(graph.directory(evaluation.data)) if evaluation.data else None,
        "task_directories": {name: str(graph.directory(node)) for name, node in evaluation.tasks.items()},
        "lineage": {node: str(graph.directory(node)) for node in lineage if graph.nodes[node].kind != "data"},
        "config": _config(graph, evaluation),
    }


def intermediate_models(graph: Graph) -> list[str]:
    """Return the stages of intermediate models: no run is scored on them, and their runs belong to the same parts.

    A model that main and the ablation share is not among them. If it were removed and made again for the second part,
    it would be newer than its descendants in the first part, which would be made again, too.
    """
    keys_of = {part: {evaluation.key for evaluation in _evaluations(graph, part)} for part in parts(graph)}
    users: dict[str, list[set[str]]] = {}
    for evaluation in graph.evaluations:
        mine = {part for part, keys in keys_of.items() if evaluation.key in keys}
        for node in graph.ancestors(evaluation.model) if evaluation.model else ():
            users.setdefault(node, []).append(mine)
    scored = {evaluation.model for evaluation in graph.evaluations}
    return sorted(
        node
        for node, shown in users.items()
        if graph.nodes[node].makes_model and node not in scored and all(one == shown[0] for one in shown)
    )


def paper_content(graph: Graph) -> dict[str, Any]:
    """Return what is compared with papers: the base (None: pre-trained here), the evaluation, benchmarks and runs."""
    preset = graph.preset

    def benchmarks(track: str) -> dict[str, Any]:
        tests = preset.further_tests(track)
        own = preset.benchmark(track).model_dump(mode="json")
        return {"benchmark": own, "tests": [one.model_dump(mode="json") for one in tests]}

    every_run = preset.every_run()
    return {
        "base": preset.base.model,
        "evaluation": preset.evaluation.model_dump(mode="json"),
        "general": benchmarks("general")["benchmark"],
        "tracks": {track: benchmarks(track) for track in dict.fromkeys(run.track for _, run in every_run)},
        "runs": [
            {
                "part": "ablation" if key.startswith("ablation") else "main",
                "track": run.track,
                "run": run.name,
                "config": run.model_dump(mode="json", include={"curriculum", "tuner", "posthoc", "decode"}),
            }
            for key, run in every_run
        ],
    }


def stage_file(graph: Graph, node: str) -> Path:
    """Return the file of a stage."""
    return folder(graph) / f"{node}.json"


def evaluation_file(graph: Graph, key: str) -> Path:
    """Return the file of an evaluation."""
    return folder(graph) / f"run-{key.replace('/', '-')}.json"


def report_file(graph: Graph, part: str) -> Path:
    """Return the file of a part's report."""
    return folder(graph) / f"report-{part}.json"


def paper_file(graph: Graph) -> Path:
    """Return the file of the comparison with papers."""
    return folder(graph) / "paper.json"


def parts(graph: Graph) -> tuple[str, ...]:
    """Return the parts that have separate reports: main, and ablation if the preset has one."""
    return ("main", "ablation") if graph.preset.ablation else ("main",)


def name_in_part(name: str, part: str) -> str:
    """Return the name of a part's table or figure that each part has."""
    return name if part == "main" else f"{part}_{name}"


def tables(graph: Graph, part: str) -> dict[str, dict[str, Any]]:
    """Return the part's tables by name: track, runs (baselines first), figures, episodes and baseline of each.

    A table with a run of the ablation belongs to the ablation. The policies of a benchmark are shown in its track's own
    table, the base in every table.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, run in graph.preset.every_run():
        for name in run.shown_in():
            policies = [one.run for one in graph.evaluations if one.policy and one.track == run.track == name]
            empty: dict[str, Any] = {
                "track": run.track,
                "runs": ["base", *policies],
                "figures": benchmark_figures(graph, run.track),
                "episodes": plays_episodes(graph, run.track),
                "baseline": run.name,  # the first run that names the table, unless another is chosen
            }
            table = found.setdefault(name, empty)
            table["runs"].append(run.name)
            if name in run.baseline_of:
                table["baseline"] = run.name
    of_ablation = {name for run in graph.preset.ablation for name in run.shown_in()}
    return {name: table for name, table in found.items() if (name in of_ablation) == (part == "ablation")}


def plays_episodes(graph: Graph, track: str) -> bool:
    """Return whether a task of the track's benchmark plays episodes, for transcripts."""
    tasks = registry.benchmark(track, graph.preset.benchmark(track).kind).TASKS
    return any(task.episodes for task in tasks) and graph.preset.evaluation.split == "test"


def benchmark_figures(graph: Graph, track: str) -> dict[str, dict[str, str]]:
    """Return the figures in `FIGURES` of the track's benchmark, drawn from a table's samples."""
    kind = graph.preset.benchmark(track).kind
    return {name: {"kind": kind, "name": name} for name in getattr(registry.benchmark(track, kind), "FIGURES", {})}


def runs(graph: Graph, part: str) -> list[str]:
    """Return the run.json files that a part's tables show."""
    return [f"{graph.root}/runs/{evaluation.key}/run.json" for evaluation in _evaluations(graph, part)]


def _evaluations(graph: Graph, part: str) -> list[Evaluation]:
    shown = {(table["track"], run) for table in tables(graph, part).values() for run in table["runs"]}
    return [evaluation for evaluation in graph.evaluations if (evaluation.track, evaluation.run) in shown]


def method_figures(graph: Graph, part: str) -> dict[str, dict[str, str]]:
    """Return the figures in methods' `FIGURES`, drawn from the runs of that method in the part.

    A figure that the method's `FIGURE_NEEDS` maps to an option of `decode` is drawn only if a run sets that option.
    """
    found = {}
    for evaluation in _evaluations(graph, part):
        run = graph.run(evaluation)
        if run is None or evaluation.skipped:
            continue
        for axis, method in (("tuners", run.tuner), ("curricula", run.curriculum), ("posthoc", run.posthoc)):
            if method is not None:
                module = registry.method(axis, method.kind)
                needs = getattr(module, "FIGURE_NEEDS", {})
                for name in getattr(module, "FIGURES", {}):
                    if name in needs and needs[name] not in run.decode:
                        continue
                    found[name_in_part(f"{method.kind}_{name}", part)] = {
                        "axis": axis,
                        "kind": method.kind,
                        "name": name,
                    }
    return found


def _config(graph: Graph, evaluation: Evaluation) -> dict[str, Any] | None:
    run = graph.run(evaluation)
    if run is None:
        return None
    training = graph.preset.training_of(run)
    return run.model_dump(mode="json", exclude={"tables", "baseline_of"}) | {
        "training": training.model_dump(mode="json")
    }
