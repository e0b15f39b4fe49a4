"""Reads a stage's inputs from its plan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config import architectures
from adaptbench.contracts import StageContext
from adaptbench.io import model_folder
from adaptbench.train import distributed

Spec = Mapping[str, Any]


def input_folders(spec: Spec) -> dict[str, Path]:
    """Return the directories of the stage's inputs by role."""
    return {role: Path(path) for role, path in spec["inputs"].items()}


def base_lacks(spec: Spec) -> dict[str, str]:
    """Return the capabilities that the base of the stage's inputs lacks, with reasons."""
    made = (path for path in input_folders(spec).values() if (path / model_folder.MANIFEST).exists())
    return next(filter(None, map(model_folder.lacks, made)), {})


def announce_instead(context: StageContext) -> dict[str, str]:
    """Print, in one process, the slower ways that the stage takes as its base lacks capabilities; return them there."""
    return architectures.log_fallbacks(context.instead) if distributed.is_main() else {}


def data_folders(spec: Spec) -> dict[str, Path]:
    """Return the directories of the benchmarks' splits by benchmark."""
    return {role.removeprefix("data."): path for role, path in input_folders(spec).items() if role.startswith("data.")}


def method_of(axis: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a method's module and its config."""
    module = registry.method(axis, options["kind"])
    return module, module.Config.model_validate(dict(options))
