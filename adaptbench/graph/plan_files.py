"""Writes a graph down for its jobs: results/<preset>/plan/.

    <node id>.json        what a stage's job must know
    run-<key>.json        what an evaluation's job must know
    report-<part>.json    which runs each table shows, which figures the methods draw, and all runs
    paper.json            what the preset starts from, what it asks, and its runs, to be held against papers
    between.json          the stages whose models nothing reads once all runs are done
    runs.json             the files of the runs that the preset has now: those of earlier ones stay, for their results

Files that are already right are left alone, so that a second start touches nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import validate
from adaptbench.graph.nodes import Evaluation, Graph
from adaptbench.io.files import write_if_changed


def write(graph: Graph) -> Path:
    """Write the plan; returns its folder."""
    write_files(files(graph))
    return folder(graph)


def write_files(planned: Mapping[Path, str]) -> None:
    for path, text in planned.items():
        write_if_changed(path, text)


def are_written(planned: Mapping[Path, str]) -> bool:
    """Whether the files hold this plan and not one of other options."""
    return all(path.exists() and path.read_text(encoding="utf-8") == text for path, text in planned.items())


def folder(graph: Graph) -> Path:
    return graph.root / "plan"


def files(graph: Graph) -> dict[Path, str]:
    """The plan's files and their text."""
    contents: dict[Path, Mapping[str, Any] | list[str]] = {}
    for node in graph.nodes.values():
        spec = asdict(node) | {
            "preset": graph.preset.name,
            "inputs": {role: str(graph.directory(parent)) for role, parent in node.parents.items()},
            "checkpoint_seconds": graph.preset.checkpoint_seconds,
        }
        if node.kind == "imported_base":
            spec["needs"] = validate.needs(graph.preset)
        if "training" in node.options:
            spec["devices"] = graph.preset.devices.model_dump()
        contents[stage_file(graph, node.id)] = spec
    for evaluation in graph.evaluations:
        lineage = graph.ancestors(evaluation.model) if evaluation.model else ()
        spec = asdict(evaluation) | {
            "hash": evaluation.digest,
            "preset": graph.preset.name,
            "model_directory": str(graph.directory(evaluation.model)) if evaluation.model else None,
            "data_directory": str(graph.directory(evaluation.data)) if evaluation.data else None,
            "task_directories": {name: str(graph.directory(node)) for name, node in evaluation.tasks.items()},
            "lineage": {node: str(graph.directory(node)) for node in lineage if graph.nodes[node].kind != "data"},
            "config": _config(graph, evaluation),
        }
        contents[evaluation_file(graph, evaluation.key)] = spec
    # One look for a run in all figures: it depends on the preset as a whole, not on what a figure shows.
    whole = {(evaluation.track, evaluation.run): _config(graph, evaluation) for evaluation in graph.evaluations}
    every_run = [{"key": {"track": track, "run": run}, "config": config} for (track, run), config in whole.items()]
    for part in parts(graph):
        report = {
            "part": part,
            "sweep": graph.preset.sweep,
            "runs": runs(graph, part),
            "tables": tables(graph, part),
            "figures": method_figures(graph, part),
            "order": every_run,
        }
        contents[report_file(graph, part)] = report
    contents[paper_file(graph)] = for_papers(graph)
    contents[folder(graph) / "between.json"] = intermediate_models(graph)
    contents[folder(graph) / "runs.json"] = [evaluation_file(graph, one.key).name for one in graph.evaluations]
    return {path: json.dumps(content, indent=1) + "\n" for path, content in contents.items()}


def intermediate_models(graph: Graph) -> list[str]:
    """The stages whose models no run is scored on, where all runs that come of one belong to the same parts.

    A model that main and the ablation share is not among them: removed and made again for the second, it would be newer than what came
    of it in the first, which would then be made again, too.
    """
    of_part = {part: {evaluation.key for evaluation in _evaluations(graph, part)} for part in parts(graph)}
    users: dict[str, list[set[str]]] = {}
    for evaluation in graph.evaluations:
        mine = {part for part, keys in of_part.items() if evaluation.key in keys}
        for node in graph.ancestors(evaluation.model) if evaluation.model else ():
            users.setdefault(node, []).append(mine)
    scored = {evaluation.model for evaluation in graph.evaluations}
    return sorted(
        node
        for node, shown in users.items()
        if graph.nodes[node].makes_model and node not in scored and all(one == shown[0] for one in shown)
    )


def for_papers(graph: Graph) -> dict[str, Any]:
    """The base's name (None: pre-trained here), how the tests are asked, each track's benchmarks, every run's methods and part."""
    preset = graph.preset

    def asked(track: str) -> dict[str, Any]:
        tests = preset.further_tests(track)
        own = preset.benchmark(track).model_dump(mode="json")
        return {"benchmark": own, "tests": [one.model_dump(mode="json") for one in tests]}

    every_run = preset.every_run()
    return {
        "base": preset.base.model,
        "evaluation": preset.evaluation.model_dump(mode="json"),
        "general": asked("general")["benchmark"],
        "tracks": {track: asked(track) for track in dict.fromkeys(run.track for _, run in every_run)},
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
    return folder(graph) / f"{node}.json"


def evaluation_file(graph: Graph, key: str) -> Path:
    return folder(graph) / f"run-{key.replace('/', '-')}.json"


def report_file(graph: Graph, part: str) -> Path:
    return folder(graph) / f"report-{part}.json"


def paper_file(graph: Graph) -> Path:
    return folder(graph) / "paper.json"


def parts(graph: Graph) -> tuple[str, ...]:
    """What is reported together: main, and ablation if the preset has one."""
    return ("main", "ablation") if graph.preset.ablation else ("main",)


def of_part(name: str, part: str) -> str:
    """The name of a part's own table or figure, where each part has one."""
    return name if part == "main" else f"{part}_{name}"


def tables(graph: Graph, part: str) -> dict[str, dict[str, Any]]:
    """By table: its track, and the runs that it shows, baselines first. A table with a run of the ablation belongs to it.

    The policies of a benchmark are shown in its track's own table; the base in every one.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, run in graph.preset.every_run():
        for name in run.shown_in():
            policies = [one.run for one in graph.evaluations if one.policy and one.track == run.track == name]
            empty: dict[str, Any] = {
                "track": run.track,
                "runs": ["base", *policies],
                "figures": benchmark_figures(graph, run.track),
            }
            empty["episodes"] = plays_episodes(graph, run.track)
            empty["baseline"] = run.name  # the first run that names the table, unless another is chosen
            table = found.setdefault(name, empty)
            table["runs"].append(run.name)
            if name in run.baseline_of:
                table["baseline"] = run.name
    of_ablation = {name for run in graph.preset.ablation for name in run.shown_in()}
    return {name: table for name, table in found.items() if (name in of_ablation) == (part == "ablation")}


def plays_episodes(graph: Graph, track: str) -> bool:
    """Whether some task of the track's benchmark plays episodes, which can then be read."""
    tasks = registry.benchmark(track, graph.preset.benchmark(track).kind).TASKS
    return any(task.episodes for task in tasks) and graph.preset.evaluation.split == "test"


def benchmark_figures(graph: Graph, track: str) -> dict[str, dict[str, str]]:
    """By figure: the function in `FIGURES` of the track's benchmark that draws it from a table's samples."""
    kind = graph.preset.benchmark(track).kind
    return {name: {"kind": kind, "name": name} for name in getattr(registry.benchmark(track, kind), "FIGURES", {})}


def runs(graph: Graph, part: str) -> list[str]:
    """The run.json files that a part's tables show."""
    return [f"{graph.root}/runs/{evaluation.key}/run.json" for evaluation in _evaluations(graph, part)]


def _evaluations(graph: Graph, part: str) -> list[Evaluation]:
    shown = {(table["track"], run) for table in tables(graph, part).values() for run in table["runs"]}
    return [evaluation for evaluation in graph.evaluations if (evaluation.track, evaluation.run) in shown]


def method_figures(graph: Graph, part: str) -> dict[str, dict[str, str]]:
    """By figure: the function in a method's `FIGURES` that draws it from the runs of that method in the part.

    A figure that the method's `FIGURE_NEEDS` maps to an option of `decode` is drawn where some run sets that option.
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
                    found[of_part(f"{method.kind}_{name}", part)] = {"axis": axis, "kind": method.kind, "name": name}
    return found


def _config(graph: Graph, evaluation: Evaluation) -> dict[str, Any] | None:
    run = graph.run(evaluation)
    if run is None:
        return None
    training = graph.preset.training_of(run)
    return run.model_dump(mode="json", exclude={"tables", "baseline_of"}) | {
        "training": training.model_dump(mode="json")
    }
