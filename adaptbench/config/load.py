"""Reads a preset file and validates it against the methods and benchmarks it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaptbench.config import architectures
from adaptbench.config.preset import Preset, preset_model
from adaptbench.config.validate import base_lacks, base_layers, base_positions, base_problem, needs, run_problem
from adaptbench.config.yaml_text import read
from adaptbench.errors import AdaptbenchError, mistakes, reason


def validate(values: Mapping[str, Any], source: str) -> Preset:
    """The preset that `values` describe.

    Raises:
        AdaptbenchError: one line with the file, the key and what it must be; further mistakes are counted.
    """
    try:
        preset = preset_model().model_validate(values)
    except ValidationError as error:
        others = len(mistakes(error)) - 1
        more = f" (and {others} more)" if others else ""
        raise AdaptbenchError(f"{source}: {reason(error)}{more}") from None
    problem = base_problem(preset)
    if problem:
        raise AdaptbenchError(f"{source}: base.{problem}")
    layers, longest = base_layers(preset.base), base_positions(preset.base)
    for key, run in preset.every_run():
        training = preset.training_of(run)
        problem = run_problem(preset, run.model_copy(update={"training": training}), layers, longest)
        if problem:
            raise AdaptbenchError(f"{source}: {key}.{problem}")
    if problem := architectures.problem(base_lacks(preset.base), needs(preset)):
        raise AdaptbenchError(f"{source}: base.model: {preset.base.model}: {problem}")
    return preset


def load(path: Path) -> Preset:
    """Read and check a preset file.

    Raises:
        AdaptbenchError: no such file, not YAML, or not a valid preset.
    """
    return validate(read(path), str(path))
