"""Unfolds a preset into the stages that must run: plain Python, no torch, a few milliseconds.

A node is one directory and one job. Its id is a readable name and a hash of everything that determines its content: its
options, its parents' ids, its seed. Equal stages of different runs are therefore one node, and a changed option is
another directory: nothing stale is ever taken for fresh. A node's full specification is written to the plan folder,
where the node's job reads it; the code of its method is not in the hash but an input of its rule.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import Preset, Run, Training, merge_training
from adaptbench.contracts import AdaptbenchError, Phase, Preparation, TunerConfig
from adaptbench.files import write_if_changed

HASH_LENGTH = 10


@dataclass(frozen=True)
class Node:
    """One stage of the graph.

    Attributes:
        id: readable name and hash; the directory's name.
        kind: which function of adaptbench/stages.py makes it.
        options: everything that determines it besides its parents.
        parents: role -> id of the nodes that it reads.
        sources: code files (relative to the project) whose change makes it again.
        files: data files outside the graph that it reads.
    """

    id: str
    kind: str
    options: Mapping[str, Any]
    parents: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.kind if self.kind in ("data", "tasks") else "stages"


@dataclass(frozen=True)
class Evaluation:
    """One run under one seed: the model that is scored, and on what.

    `model` is None where the run is skipped, for the reason in `skipped`; `tasks` maps a track to its tasks' node.
    """

    track: str
    run: str
    seed: int
    model: str | None
    tasks: Mapping[str, str]
    options: Mapping[str, Any]
    skipped: str = ""

    @property
    def key(self) -> str:
        return f"{self.track}/{self.run}/seed{self.seed}"

    @property
    def digest(self) -> str:
        return _digest(asdict(self))


@dataclass(frozen=True)
class Graph:
    preset: Preset
    nodes: Mapping[str, Node]
    evaluations: tuple[Evaluation, ...]

    @property
    def root(self) -> Path:
        return Path("results") / self.preset.name

    def directory(self, node_id: str) -> Path:
        return self.root / self.nodes[node_id].folder / node_id

    def evaluation(self, key: str) -> Evaluation:
        """The evaluation that results/<preset>/runs/<key>/run.json holds.

        Raises:
            AdaptbenchError: the preset has no such run.
        """
        for evaluation in self.evaluations:
            if evaluation.key == key:
                return evaluation
        raise AdaptbenchError(f"{key}: preset {self.preset.name!r} has no such run or seed")

    def plan(self, key: str) -> Path:
        """The file that holds the specification of the evaluation `key`."""
        return self.root / "plan" / f"run-{key.replace('/', '-')}.json"

    def tracks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(e.track for e in self.evaluations))

    def ancestors(self, node_id: str) -> tuple[str, ...]:
        """The nodes that `node_id` descends from, parents first, itself last."""
        found: dict[str, None] = {}
        for parent in self.nodes[node_id].parents.values():
            found.update(dict.fromkeys(self.ancestors(parent)))
        return (*found, node_id)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]


class _Builder:
    """Collects nodes; asking for an equal node twice gives the first."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.nodes: dict[str, Node] = {}

    def add(
        self,
        name: str,
        kind: str,
        options: Mapping[str, Any],
        parents: Mapping[str, str] | None = None,
        *,
        sources: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
    ) -> str:
        parents = dict(parents or {})
        node_id = f"{name}-{_digest([kind, options, parents])}"
        self.nodes.setdefault(node_id, Node(node_id, kind, dict(options), parents, sources, files))
        return node_id

    def data(self, track: str) -> str:
        """The node of one benchmark's splits. Every other benchmark is checked against the general one's."""
        config = getattr(self.preset.data, track)
        module = registry.benchmark(track, config.kind)
        public = {name: getattr(self.preset.data, name) for name in getattr(module, "PUBLIC_DATA", {})}
        files = tuple(file for source in public.values() if source.path for file in _files(Path(source.path)))
        options = {
            "track": track,
            "config": config.model_dump(mode="json"),
            "seed": self.preset.data.seed,
            "public": {name: source.model_dump() for name, source in public.items()},
        }
        parents = {} if track == "general" else {"general": self.data("general")}
        return self.add(
            track, "data", options, parents, sources=registry.benchmark_sources(track, config.kind), files=files
        )

    def tasks(self, track: str) -> str:
        """The node of a benchmark's lm-eval tasks with the splits that they ask: all that scoring a model needs."""
        kind = getattr(self.preset.data, track).kind
        names = [task.name for task in registry.benchmark(track, kind).TASKS]
        files = tuple(f"benchmarks/{track}/tasks/{name}.yaml" for name in names)
        options = {"track": track, "kind": kind, "tasks": names}
        return self.add(track, "tasks", options, {"data": self.data(track)}, sources=(*files, "benchmarks/splits.py"))

    def base(self) -> str:
        base = self.preset.base
        if base.model is not None:
            imported = {"model": base.model, "revision": base.revision}
            return self.add("base", "imported_base", imported, files=_files(Path(base.model)))
        corpora = {name: self.data(name) for name in self.preset.tokenizer.corpora}
        tokenizer = self.add("tokenizer", "tokenizer", {"vocabulary": self.preset.tokenizer.vocabulary}, corpora)
        options = {
            "architecture": base.architecture.model_dump(mode="json"),
            "training": base.training.model_dump(mode="json"),
            "seed": base.seed,
        }
        return self.add("base", "base", options, {"tokenizer": tokenizer, "general": self.data("general")})

    def prepared(self, tuner: TunerConfig, base: str, seed: int) -> tuple[str, dict[str, str]]:
        """The model that the tuner's training starts from (the base, or the last model of its preparations), and all
        of its preparations by name.
        """
        module = registry.method("tuners", tuner.kind)
        made = {"base": base}
        start = base
        for step in _preparations(module, tuner):
            options = {
                "tuner": tuner.model_dump(mode="json"),
                "function": step.name,
                "seed": seed if step.seeded else None,
            }
            parents = made | {f"data.{name}": self.data(name) for name in step.data}
            name = f"{tuner.kind}-{step.name}" + (f"-seed{seed}" if step.seeded else "")
            made[step.name] = self.add(name, "prepare", options, parents, sources=(_source("tuners", tuner.kind),))
            start = made[step.name] if step.makes_model else start
        return start, {name: node for name, node in made.items() if name != "base"}

    def model(self, run: Run, seed: int) -> str:
        """The directory that a run ends in."""
        curriculum = registry.method("curricula", run.curriculum.kind)
        base = self.base()
        start, prepared = self.prepared(run.tuner, base, seed)
        training = merge_training(self.preset.training, run.training.model_dump(exclude_unset=True))
        phases: tuple[Phase, ...] = curriculum.phases(run.curriculum, run.track, training)
        made: dict[str, str] = {}
        for phase in phases:
            parent = start if phase.parent is None else made[phase.parent]
            made[phase.name] = self._trained(run, phase, parent, prepared, training, seed)
        end = made[phases[-1].name]
        if hasattr(curriculum, "assemble"):
            options = {"curriculum": run.curriculum.model_dump(mode="json")}
            code = (_source("curricula", run.curriculum.kind),)
            end = self.add(f"{run.curriculum.kind}-assemble-seed{seed}", "assemble", options, made, sources=code)
        if run.posthoc is not None:
            options = {"posthoc": run.posthoc.model_dump(mode="json")}
            code = (_source("posthoc", run.posthoc.kind),)
            name = f"{run.posthoc.kind}-{run.tuner.kind}-seed{seed}"
            end = self.add(name, "posthoc", options, {"start": start, "end": end}, sources=code)
        return end

    def _trained(
        self, run: Run, phase: Phase, parent: str, prepared: Mapping[str, str], training: Training, seed: int
    ) -> str:
        tuner, curriculum = phase.tuner or run.tuner, phase.curriculum or run.curriculum
        if phase.tuner is not None:
            prepared = {}
        options = {
            "curriculum": curriculum.model_dump(mode="json"),
            "phase": phase.name,
            "tuner": tuner.model_dump(mode="json"),
            "training": merge_training(training, phase.training).model_dump(mode="json"),
            "merge": phase.merge,
            "seed": seed,
        }
        needed = getattr(registry.method("tuners", tuner.kind), "data", lambda config: ())(tuner)
        parents: dict[str, str] = {"model": parent} | {
            f"data.{name}": self.data(name) for name in (*phase.data, *needed)
        }
        parents |= {f"prepared.{name}": node for name, node in prepared.items()}
        sources = (_source("tuners", tuner.kind), _source("curricula", curriculum.kind))
        name = f"{run.track}-{curriculum.kind}-{tuner.kind}-{phase.name}-seed{seed}"
        return self.add(name, "train", options, parents, sources=sources)

    def evaluation(
        self,
        track: str,
        run: str,
        seed: int,
        model: str | None,
        *,
        skipped: str = "",
        decode: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        tasks = {name: self.tasks(name) for name in dict.fromkeys(("general", track))}
        options = self.preset.evaluation.model_dump(mode="json") | {"decode": dict(decode or {})}
        return Evaluation(track, run, seed, model, tasks, options, skipped)


def unfold(preset: Preset) -> Graph:
    """Every stage and every evaluation of a preset. The base itself is evaluated on every track that has a run."""
    builder = _Builder(preset)
    evaluations = [
        builder.evaluation(track, "base", preset.base.seed, builder.base())
        for track in dict.fromkeys(run.track for run in preset.runs)
    ]
    for run in preset.runs:
        reason = skip_reason(run)
        for seed in preset.seeds:
            model = None if reason else builder.model(run, seed)
            evaluations.append(builder.evaluation(run.track, run.name, seed, model, skipped=reason, decode=run.decode))
    return Graph(preset, builder.nodes, tuple(evaluations))


def skip_reason(run: Run) -> str:
    """Why a run cannot be made here, as its method files say; empty if it can."""
    for axis, config in (("tuners", run.tuner), ("curricula", run.curriculum), ("posthoc", run.posthoc)):
        if config is None:
            continue
        reason = getattr(registry.method(axis, config.kind), "skip_reason", lambda config: "")(config)
        if reason:
            return f"{config.kind}: {reason}"
    return ""


def write_plan(graph: Graph) -> Path:
    """Write each node's specification to results/<preset>/plan/<id>.json, and each evaluation's beside them.

    Files that are already right are left alone, so that a second start touches nothing.
    """
    folder = graph.root / "plan"
    for node in graph.nodes.values():
        spec = asdict(node) | {
            "preset": graph.preset.name,
            "inputs": {role: str(graph.directory(parent)) for role, parent in node.parents.items()},
            "checkpoint_seconds": graph.preset.checkpoint_seconds,
        }
        write_if_changed(folder / f"{node.id}.json", json.dumps(spec, indent=1) + "\n")
    for evaluation in graph.evaluations:
        lineage = graph.ancestors(evaluation.model) if evaluation.model else ()
        spec = asdict(evaluation) | {
            "preset": graph.preset.name,
            "model_directory": str(graph.directory(evaluation.model)) if evaluation.model else None,
            "task_directories": {name: str(graph.directory(node)) for name, node in evaluation.tasks.items()},
            "lineage": {node: str(graph.directory(node)) for node in lineage if graph.nodes[node].kind != "data"},
            "config": _run_config(graph.preset, evaluation),
        }
        write_if_changed(graph.plan(evaluation.key), json.dumps(spec, indent=1) + "\n")
    return folder


def _run_config(preset: Preset, evaluation: Evaluation) -> dict[str, Any] | None:
    run = next((run for run in preset.runs if (run.track, run.name) == (evaluation.track, evaluation.run)), None)
    if run is None:
        return None
    return run.model_dump(mode="json") | {"training": run.training.model_dump(mode="json", exclude_unset=True)}


def _files(folder: Path) -> tuple[str, ...]:
    """The files of a local folder, inputs of the stage that reads it; none for a hub id."""
    return tuple(str(path) for path in sorted(folder.glob("*")) if path.is_file())


def _preparations(module: Any, tuner: TunerConfig) -> tuple[Preparation, ...]:
    return tuple(module.preparations(tuner)) if hasattr(module, "preparations") else ()


def _source(axis: str, kind: str) -> str:
    return registry.source_of(f"methods.{axis}", kind)
