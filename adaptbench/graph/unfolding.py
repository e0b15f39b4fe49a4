"""Unfolds a preset into its stages and evaluations: plain Python without torch, in a few milliseconds."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config.preset import Preset
from adaptbench.config.schema import Run
from adaptbench.config.training import Training, merge_training
from adaptbench.contracts import BenchmarkConfig, Phase, Preparation, TunerConfig
from adaptbench.graph import stock_tasks
from adaptbench.graph.nodes import Evaluation, Graph, Node, digest


class _Builder:
    """A builder of the graph; equal nodes are added once."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.nodes: dict[str, Node] = {}
        self._main_data: dict[str, str] = {}
        self._tasks: dict[str, dict[str, str]] = {}

    def add(
        self,
        name: str,
        kind: str,
        options: Mapping[str, Any],
        parents: Mapping[str, str] | None = None,
        *,
        files: tuple[str, ...] = (),
        makes_model: bool = True,
    ) -> str:
        """Add a node unless it is there, and return its id."""
        parents = dict(parents or {})
        node_id = f"{name}-{digest([kind, options, parents])}"
        makes_model = makes_model and kind not in ("data", "tasks", "tokenizer")
        self.nodes.setdefault(node_id, Node(node_id, kind, dict(options), parents, files, makes_model))
        return node_id

    def data(self, track: str, config: BenchmarkConfig | None = None) -> str:
        """Return the node of a benchmark's splits: the track's benchmark, or with `config` one that only tests it.

        Every benchmark is checked for overlap with the general texts, a further test also with the track's benchmark.
        """
        if config is None:
            if track not in self._main_data:
                self._main_data[track] = self._add_data(track, None)
            return self._main_data[track]
        return self._add_data(track, config)

    def _add_data(self, track: str, config: BenchmarkConfig | None) -> str:
        main: BenchmarkConfig = self.preset.benchmark(track)
        parents = {} if track == "general" else {"general": self.data("general")}
        if config is not None:
            parents[track] = self.data(track)
        config = config or main
        public = self.preset.public_data(track, config.kind)
        files = tuple(file for source in public.values() if source.path for file in _files(Path(source.path)))
        options = {
            "track": track,
            "config": config.model_dump(mode="json"),
            "seed": self.preset.data.seed,
            "public": {name: source.model_dump() for name, source in public.items()},
        }
        name = track if config is main else f"{track}-{config.kind}"
        return self.add(name, "data", options, parents, files=files)

    def tasks(self, track: str) -> dict[str, str]:
        """Return the nodes of a track's lm-eval tasks with their splits: all that scoring a model needs."""
        if track not in self._tasks:
            self._tasks[track] = self._add_tasks(track)
        return self._tasks[track]

    def _add_tasks(self, track: str) -> dict[str, str]:
        made = {}
        main: BenchmarkConfig = self.preset.benchmark(track)
        for config in (main, *self.preset.further_tests(track)):
            kind = config.kind
            name = track if config is main else f"{track}-{kind}"
            names = [task.name for task in registry.benchmark(track, kind).TASKS]
            files = ("benchmarks/splits.py", *getattr(registry.benchmark(track, kind), "TASK_FILES", ()))
            options = {"track": track, "kind": kind, "tasks": names, "files": files}
            data = self.data(track, None if config is main else config)
            made[name] = self.add(name, "tasks", options, {"data": data})
        return made

    def base(self, seed: int) -> str:
        """Return the base of this seed's runs: the same for all seeds, unless the preset has one per seed."""
        base = self.preset.base
        if base.model is not None:
            imported = {"model": base.model, "revision": base.revision}
            return self.add("base", "imported_base", imported, files=_files(Path(base.model)))
        corpora = {name: self.data(name) for name in self.preset.tokenizer.corpora}
        tokenizer = self.add("tokenizer", "tokenizer", {"vocabulary": self.preset.tokenizer.vocabulary}, corpora)
        options = {
            "architecture": base.architecture.model_dump(mode="json"),
            "training": base.training.model_dump(mode="json"),
            "seed": seed if base.per_seed else base.seed,
        }
        name = f"base-seed{seed}" if base.per_seed else "base"
        return self.add(name, "base", options, {"tokenizer": tokenizer, "general": self.data("general")})

    def prepared(self, tuner: TunerConfig, base: str, seed: int) -> tuple[str, dict[str, str]]:
        """Return the model that the tuner's training starts from, and all of its preparations by name.

        The model is the last one of its preparations, or the base.
        """
        module = registry.method("tuners", tuner.kind)
        made = {"base": base}
        start = base
        for step in _preparations(module, tuner):
            read = None if step.options is None else {"kind", *step.options}
            options = {
                "tuner": tuner.model_dump(mode="json", include=read),
                "function": step.name,
                "seed": seed if step.seeded else None,
            }
            parents = made | {f"data.{name}": self.data(name) for name in step.data}
            name = f"{tuner.kind}-{step.name}" + (f"-seed{seed}" if step.seeded else "")
            made[step.name] = self.add(name, "prepare", options, parents, makes_model=step.makes_model)
            start = made[step.name] if step.makes_model else start
        return start, {name: node for name, node in made.items() if name != "base"}

    def model(self, run: Run, seed: int) -> str:
        """Return the node of a run's final model."""
        curriculum = registry.method("curricula", run.curriculum.kind)
        base = self.base(seed)
        start, prepared = self.prepared(run.tuner, base, seed)
        training = self.preset.training_of(run)
        phases: tuple[Phase, ...] = curriculum.phases(run.curriculum, run.track, training)
        made: dict[str, str] = {}
        for phase in phases:
            parent = start if phase.parent is None else made[phase.parent]
            made[phase.name] = self._train(run, phase, seed, parent=parent, prepared=prepared, training=training)
        end = made[phases[-1].name]
        if hasattr(curriculum, "assemble"):
            options = {"curriculum": run.curriculum.model_dump(mode="json")}
            members = {"start": start} | made
            end = self.add(f"{run.curriculum.kind}-assemble-seed{seed}", "assemble", options, members)
        if run.posthoc is not None:
            options = {"posthoc": run.posthoc.model_dump(mode="json")}
            name = f"{run.posthoc.kind}-{run.tuner.kind}-seed{seed}"
            end = self.add(name, "posthoc", options, {"start": start, "end": end})
        return end

    def _train(
        self, run: Run, phase: Phase, seed: int, *, parent: str, prepared: Mapping[str, str], training: Training
    ) -> str:
        """Return the node of a phase of a run."""
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
        name = f"{run.track}-{curriculum.kind}-{tuner.kind}-{phase.name}-seed{seed}"
        return self.add(name, "train", options, parents)

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
        """Return the evaluation of a model on the track's tasks and the general ones."""
        tracks = tuple(dict.fromkeys(("general", track)))
        tasks = {name: node for one in tracks for name, node in self.tasks(one).items()}
        settings = self.preset.evaluation
        options = settings.model_dump(mode="json", exclude={"stock_tasks"}) | {"decode": dict(decode or {})}
        stock = {
            stock_tasks.result_name(one, task.task): task.model_dump(mode="json")
            for one in tracks
            for task in settings.stock_tasks.get(one, ())
            if settings.split == "test"
        }
        return Evaluation(track, run, seed, model, tasks, options, skipped, stock=stock)

    def baselines(self, track: str) -> list[Evaluation]:
        """Return the evaluations of the base models and of the benchmark's policies on a track."""
        module = registry.benchmark(track, self.preset.benchmark(track).kind)
        decode = getattr(module, "DECODE", {})
        base = self.preset.base
        seeds = self.preset.seeds if base.per_seed else (base.seed,)
        made = [self.evaluation(track, "base", seed, self.base(seed), decode=decode) for seed in seeds]
        for name in getattr(module, "BASELINES", {}):
            whole = self.evaluation(track, name, seeds[0], None)
            made.append(replace(whole, tasks=self.tasks(track), stock={}, policy=name, data=self.data(track)))
        return made


def unfold(preset: Preset) -> Graph:
    """Return all stages and evaluations of a preset. Baselines are evaluated on every track that has a run."""
    builder = _Builder(preset)
    evaluations = [
        one for track in dict.fromkeys(run.track for _, run in preset.every_run()) for one in builder.baselines(track)
    ]
    for _, run in preset.every_run():
        reason = skip_reason(run)
        for seed in preset.seeds:
            model = None if reason else builder.model(run, seed)
            evaluations.append(builder.evaluation(run.track, run.name, seed, model, skipped=reason, decode=run.decode))
    return Graph(preset, builder.nodes, tuple(evaluations))


def skip_reason(run: Run) -> str:
    """Return why a run's methods cannot run here; empty if they can."""
    for axis, config in (("tuners", run.tuner), ("curricula", run.curriculum), ("posthoc", run.posthoc)):
        if config is None:
            continue
        reason = getattr(registry.method(axis, config.kind), "skip_reason", lambda config: "")(config)
        if reason:
            return f"{config.kind}: {reason}"
    return ""


def _files(folder: Path) -> tuple[str, ...]:
    """Return the files in a local folder, as inputs of the stage that reads it; nothing for a hub id."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, it returns False for names that are no valid path
        return ()
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(
        str(path) for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _preparations(module: Any, tuner: TunerConfig) -> tuple[Preparation, ...]:
    return tuple(module.preparations(tuner)) if hasattr(module, "preparations") else ()
