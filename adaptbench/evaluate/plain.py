"""Plain decoding: one model writes one token after another."""

from collections.abc import Mapping
from pathlib import Path

from adaptbench.io import model_folder
from adaptbench.jobs import gpus
from adaptbench.model import storage


def language_model(directory: Path, *, batch_size: int, tasks: Mapping[str, Path]):
    """Return an lm-eval `LM` over a model directory."""
    from adaptbench.model.scoring import ScoringLM

    model = storage.load_model(directory).to(gpus.device())
    return ScoringLM(model, storage.load_tokenizer(directory), batch_size, model_folder.lacks(directory))
