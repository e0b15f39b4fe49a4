"""Loads the preset in use and checks the files, folders and tasks that it names, before anything long starts."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import architectures, load, problems, yaml_text
from adaptbench.config.overrides import merged, typed
from adaptbench.config.preset import Preset
from adaptbench.config.schema import HubData
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import known_tasks, stock_tasks, sweeps, unfolding
from adaptbench.graph.nodes import Graph
from adaptbench.graph.targets import sweep
from adaptbench.io import hub, local_files, model_folder

DEFAULT_PRESET = "config/tiny.yaml"

TAKEN = {
    r"\{.*\}": "what is in braces for a wildcard",
    "<[a-z][a-z0-9_]*>": "a word between < and > for a variable",  # snakemake/pathvars.py
}
"""Pattern -> why no input of a rule may match it."""

FOLDERS = ("plan", "data", "tasks", "stages", "runs", "logs", "work", "tables", "figures")
"""Folders of a preset's results."""


def load_graph(overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Graph:
    """Return the graph of the preset in use; a mistake ends the process with one line.

    Args:
        overrides: the values of --config (overrides.of_entries).
        files: the files of --configfile, each overriding those before it; the default preset if empty.
        given: the config of another workflow that uses this one as a module, in place of `files`. It is a whole preset
            that already has the values of --config, but not with the right types.
    """
    try:
        graph = unfolding.unfold(load_preset(overrides, files, given))
        _check_names(graph)
        _check_results(graph.root)
        _check_base(graph)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    return graph


def load_preset(overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Preset:
    """Return the preset in use; the arguments are those of `load_graph`.

    Raises:
        AdaptbenchError: it is invalid, or something that it names is missing.
    """
    shown = [] if given else [_shown(path) for path in files or [registry.project_root() / DEFAULT_PRESET]]
    values: dict[str, Any] = dict(given or {})
    for path in shown:
        values = merged(values, yaml_text.read(path))
    source = " + ".join(map(str, shown)) or "config"
    mine = {key: value for key, value in overrides.items() if not given or key in given}
    found = load.validate(merged(values, typed(mine, values)), source)
    if found.sweep is not None and not os.path.exists(found.sweep):
        # A preset of the project names a file of the project, in any working directory.
        found = found.model_copy(update={"sweep": project_path(found.sweep)})
    _check_surroundings(found)
    return found


def _check_names(graph: Graph) -> None:
    """Check that rules can have all paths as inputs."""
    for path in (*sweep(graph), *(file for node in graph.nodes.values() for file in node.files)):
        if path.encode(errors="ignore").decode() != path:
            shown = ascii(path)[1:-1]
            raise AdaptbenchError(f"{shown}: a name that is not UTF-8, which Snakemake cannot write down; rename it")
        for pattern, taken in TAKEN.items():
            if re.search(pattern, path, re.DOTALL):
                raise AdaptbenchError(f"{path}: Snakemake takes {taken}; rename it, or name a link to it")


def _check_results(root: Path) -> None:
    """Check that no file or broken link is where a folder of results will be."""
    for folder in (*reversed(root.parents), root, *(root / name for name in FOLDERS)):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise AdaptbenchError(f"{folder}: no folder, and results go there; remove or rename it")


def check_writable(graph: Graph) -> None:
    """End the process with one line if jobs could not write their results."""
    there = next(path for path in (graph.root, *graph.root.parents) if path.exists())
    if not os.access(there, os.W_OK):
        sys.exit(f"error: {graph.root}: cannot be written to; is it read-only?")


def _shown(path: Path) -> Path:
    """Return a path relative to the working directory if it is in it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def project_path(path: str | Path) -> str:
    """Return the path of a file of the project, relative to the working directory."""
    return os.path.relpath(registry.project_root() / path)


def _check_base(graph: Graph) -> None:
    """Check that an imported base has the capabilities that runs need, as they were measured at its import."""
    for node in (one for one in graph.nodes.values() if one.kind == "imported_base"):
        lacks = model_folder.lacks(graph.directory(node.id))
        if problem := architectures.missing_capability(lacks, problems.needs(graph.preset)):
            raise AdaptbenchError(f"base.model: {graph.preset.base.model}: {problem}")


def _check_surroundings(preset: Preset) -> None:
    """Check that the files, folders and tasks that a preset names exist."""
    if preset.base.model is not None and hub.is_path(preset.base.model):
        try:
            model_folder.check_folder(Path(preset.base.model))
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {error}") from None
    # os.path returns False for a name that is too long; Path raises an error.
    if preset.sweep is not None and not os.path.isfile(preset.sweep):
        raise AdaptbenchError(f"sweep: {preset.sweep}: no such file")
    try:
        sweeps.tried(preset.sweep)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"sweep: {error}") from None
    for name, value in preset.data:
        if isinstance(value, HubData) and value.path is not None:
            problem = local_files.folder_problem(value.path)
            if problem:
                raise AdaptbenchError(f"data.{name}.path: {value.path}: {problem}")
    _check_stock_tasks(preset)
    for track in registry.tracks():
        for benchmark in (preset.benchmark(track), *preset.further_tests(track)):
            if benchmark is not None:
                _check_files(registry.benchmark(track, benchmark.kind), preset.public_data(track, benchmark.kind))


def _check_stock_tasks(preset: Preset) -> None:
    """Check that lm-eval has the tasks that the preset names, and that no model gets a document twice."""
    own = known_tasks.known_tasks().keys()
    for track, tasks in preset.evaluation.stock_tasks.items():
        for place, task in enumerate(tasks):
            key = f"evaluation.stock_tasks.{track}.{place}"
            try:
                stock_tasks.describe(task.task)
                problem = stock_tasks.fewshot_problem(task.task, task.num_fewshot or 0)
            except AdaptbenchError as error:
                raise AdaptbenchError(f"{key}: {error}") from None
            if problem:
                raise AdaptbenchError(f"{key}.num_fewshot: must be 0; {problem}")
            if stock_tasks.result_name(track, task.task) in own:
                raise AdaptbenchError(f"{key}: {task.task} is a task of a benchmark here")
    for track in preset.evaluation.stock_tasks:
        tracks = dict.fromkeys(("general", track))
        names = [task.task for one in tracks for task in preset.evaluation.stock_tasks.get(one, ())]
        if shared := stock_tasks.overlap(names):
            raise AdaptbenchError(f"evaluation.stock_tasks.{track}: {shared} ask the same documents")
        if len(set(names)) != len(names):
            raise AdaptbenchError(f"evaluation.stock_tasks.{track}: each task once")


def _check_files(module: Any, public: Mapping[str, HubData]) -> None:
    """Check that the folders of a benchmark's public data have the files that it reads.

    A benchmark with `FILE` reads it from a folder, because the hub has none.
    """
    file: str | None = getattr(module, "FILE", None)
    reads: tuple[str, ...] = getattr(module, "READS", ())
    for name, source in public.items():
        path = source.path
        if file is not None and (path is None or not (Path(path) / file).is_file()):
            raise AdaptbenchError(f"data.{name}.path: must name a folder with {file}")
        if reads and path is not None and not any(any(Path(path).glob(pattern)) for pattern in reads):
            shown = ", ".join(pattern.removeprefix("**/") for pattern in reads)
            raise AdaptbenchError(f"data.{name}.path: {path}: no file of {shown}")
