"""Reads a preset file and validates it against the methods and benchmarks it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaptbench.config import architectures
from adaptbench.config.preset import Preset
from adaptbench.config.preset_model import preset_model
from adaptbench.config.problems import base_lacks, base_layers, base_positions, base_problem, needs, run_problem
from adaptbench.config.yaml_text import read
from adaptbench.errors import AdaptbenchError, mistakes, reason


def validate(values: Mapping[str, Any], source: str) -> Preset:
    """Return the preset with these `values`; `source` names their file.

    Raises:
        AdaptbenchError: a mistake, with the file, the key and what it must be; further mistakes are counted.
    """
    try:
        preset = preset_model().model_validate(values)
    except ValidationError as error:
        others = len(mistakes(error)) - 1
        more = f" (and {others} more)" if others else ""
        raise AdaptbenchError(f"{source}: {reason(error)}{more}") from None
    if problem := base_problem(preset):
        raise AdaptbenchError(f"{source}: base.{problem}")
    layers, longest = base_layers(preset.base), base_positions(preset.base)
    for key, run in preset.every_run():
        if problem := run_problem(preset, preset.resolved(run), layers, longest):
            raise AdaptbenchError(f"{source}: {key}.{problem}")
    if problem := architectures.missing_capability(base_lacks(preset.base), needs(preset)):
        raise AdaptbenchError(f"{source}: base.model: {preset.base.model}: {problem}")
    return preset


def load(path: Path) -> Preset:
    """Read and validate a preset file.

    Raises:
        AdaptbenchError: there is no such file, or it is no YAML or no valid preset.
    """
    return validate(read(path), str(path))
