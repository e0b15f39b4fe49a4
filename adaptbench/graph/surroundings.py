"""Loads the preset in force and checks what it names outside itself, before anything long starts."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import architectures, load, schema, validate, yaml_text
from adaptbench.config.overrides import merged, typed
from adaptbench.config.preset import Preset
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
"""By pattern what no rule can have in the path of an input."""


FOLDERS = ("plan", "data", "tasks", "stages", "runs", "logs", "work", "tables", "figures")
"""Where a preset's results are, in its folder."""


def start(overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Graph:
    """The graph of the preset in force.

    `files` are what --configfile names (the default preset if nothing), each changing those before it, `overrides` what
    --config sets on top (overrides.of_entries). Another workflow that uses this one as a module gives its config instead, or a part of it: a whole preset, with
    what --config sets in it but for types. A mistake ends the process with one line.
    """
    try:
        unfolded = unfolding.unfold(preset(overrides, files, given))
        _check_names(unfolded)
        _check_results(unfolded.root)
        _check_base(unfolded)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    return unfolded


def preset(overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Preset:
    """The preset in force, of what `start` is given.

    Raises:
        AdaptbenchError: a mistake in it, or something that it names is not there.
    """
    shown = [] if given else [_shown(path) for path in files or [registry.project_root() / DEFAULT_PRESET]]
    values: dict[str, Any] = dict(given or {})
    for path in shown:
        values = merged(values, yaml_text.read(path))
    source = " + ".join(map(str, shown)) or "config"
    mine = {key: value for key, value in overrides.items() if not given or key in given}
    found = load.validate(merged(values, typed(mine, values)), source)
    if found.sweep is not None and not os.path.exists(found.sweep):
        # A preset of the project names its own, wherever it runs.
        found = found.model_copy(update={"sweep": of_project(found.sweep)})
    _check_surroundings(found)
    return found


def _check_names(unfolded: Graph) -> None:
    """Refuse what a rule cannot have as an input."""
    for path in (*sweep(unfolded), *(file for node in unfolded.nodes.values() for file in node.files)):
        if path.encode(errors="ignore").decode() != path:
            shown = ascii(path)[1:-1]
            raise AdaptbenchError(f"{shown}: a name that is not UTF-8, which Snakemake cannot write down; rename it")
        for pattern, taken in TAKEN.items():
            if re.search(pattern, path, re.DOTALL):
                raise AdaptbenchError(f"{path}: Snakemake takes {taken}; rename it, or name a link to it")


def _check_results(root: Path) -> None:
    """Refuse what is where folders of results are to be and is none: a file, or a link that leads nowhere."""
    for folder in (*reversed(root.parents), root, *(root / name for name in FOLDERS)):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise AdaptbenchError(f"{folder}: no folder, and results go there; remove or rename it")


def check_writable(unfolded: Graph) -> None:
    """End the process with one line where jobs could not write their results."""
    there = next(path for path in (unfolded.root, *unfolded.root.parents) if path.exists())
    if not os.access(there, os.W_OK):
        sys.exit(f"error: {unfolded.root}: cannot be written to; is it read-only?")


def _shown(path: Path) -> Path:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def of_project(path: str | Path) -> str:
    """A file of the project as it is called from the working directory."""
    return os.path.relpath(registry.project_root() / path)


def _check_base(unfolded: Graph) -> None:
    """See that a base which is taken in already can do what every run needs, as it was measured then."""
    for node in (one for one in unfolded.nodes.values() if one.kind == "imported_base"):
        if problem := architectures.problem(
            model_folder.lacks(unfolded.directory(node.id)), validate.needs(unfolded.preset)
        ):
            raise AdaptbenchError(f"base.model: {unfolded.preset.base.model}: {problem}")


def _check_surroundings(preset: Preset) -> None:
    """What a preset names outside itself is there, before anything long starts."""
    if preset.base.model is not None and hub.is_path(preset.base.model):
        try:
            model_folder.check_folder(Path(preset.base.model))
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {error}") from None
    # Of a name too long for a file, Path would fail instead of saying no.
    if preset.sweep is not None and not os.path.isfile(preset.sweep):
        raise AdaptbenchError(f"sweep: {preset.sweep}: no such file")
    try:
        sweeps.tried(preset.sweep)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"sweep: {error}") from None
    for name, value in preset.data:
        if isinstance(value, schema.HubData) and value.path is not None:
            problem = local_files.folder_problem(value.path)
            if problem:
                raise AdaptbenchError(f"data.{name}.path: {value.path}: {problem}")
    _check_stock_tasks(preset)
    for track in registry.tracks():
        for benchmark in (preset.benchmark(track), *preset.further_tests(track)):
            if benchmark is not None:
                _check_files(preset, registry.benchmark(track, benchmark.kind))


def _check_stock_tasks(preset: Preset) -> None:
    """lm-eval has the tasks that the preset names, and no document is asked twice of one model."""
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
        asked = [
            task.task
            for one in dict.fromkeys(("general", track))
            for task in preset.evaluation.stock_tasks.get(one, ())
        ]
        shared = stock_tasks.overlap(asked)
        if shared or len(set(asked)) != len(asked):
            raise AdaptbenchError(
                f"evaluation.stock_tasks.{track}: {shared or 'each task once'}{' ask the same documents' if shared else ''}"
            )


def _check_files(preset: Preset, module: Any) -> None:
    """Data that only a folder has, and no hub, are in a folder that the preset names, and a folder in place of the hub has what is read."""
    file: str | None = getattr(module, "FILE", None)
    reads: tuple[str, ...] = getattr(module, "READS", ())
    for name in getattr(module, "PUBLIC_DATA", {}):
        path = getattr(preset.data, name).path
        if file is not None and (path is None or not (Path(path) / file).is_file()):
            raise AdaptbenchError(f"data.{name}.path: must name a folder with {file}")
        if reads and path is not None and not any(any(Path(path).glob(pattern)) for pattern in reads):
            shown = ", ".join(pattern.removeprefix("**/") for pattern in reads)
            raise AdaptbenchError(f"data.{name}.path: {path}: no file of {shown}")
