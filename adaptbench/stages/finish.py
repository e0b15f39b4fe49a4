"""Runs stages after training: assembles a team, applies a post-hoc method."""

from pathlib import Path
from typing import Any

from adaptbench.contracts import StageContext
from adaptbench.io import model_folder
from adaptbench.model import storage
from adaptbench.stages.inputs import Spec, input_folders, method_of


def assemble(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Assemble a curriculum's trained models into a team."""
    module, config = method_of("curricula", spec["options"]["curriculum"])
    inputs = input_folders(spec)
    context = StageContext(0, {}, storage.load_tokenizer(next(iter(inputs.values()))))
    return module.assemble(config, inputs, out, context) or {}


def posthoc(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Apply a post-hoc method to the tuned model and its start."""
    inputs = input_folders(spec)
    module, config = method_of("posthoc", spec["options"]["posthoc"])
    module.apply(config, inputs["start"], inputs["end"], out)
    before = model_folder.read_manifest(inputs["end"])
    return {key: before[key] for key in ("decode", "parameters") if key in before}
