"""What a stage's plan says of its inputs."""

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
    return {role: Path(path) for role, path in spec["inputs"].items()}


def base_lacks(spec: Spec) -> dict[str, str]:
    """Return what the base lacks that the stage's inputs come from."""
    made = (path for path in input_folders(spec).values() if (path / model_folder.MANIFEST).exists())
    return next(filter(None, map(model_folder.lacks, made)), {})


def announce_instead(context: StageContext) -> dict[str, str]:
    """Say once, for all processes, what the stage does in place of what its base lacks; return the same by capability."""
    return architectures.log_fallbacks(context.instead) if distributed.is_main() else {}


def data_folders(spec: Spec) -> dict[str, Path]:
    return {role.removeprefix("data."): path for role, path in input_folders(spec).items() if role.startswith("data.")}


def method_of(axis: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """A method's module and its config."""
    module = registry.method(axis, options["kind"])
    return module, module.Config.model_validate(dict(options))
