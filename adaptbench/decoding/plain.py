"""Plain decoding: one model, one token after another."""

from collections.abc import Mapping
from pathlib import Path

from adaptbench import models


def language_model(directory: Path, *, batch_size: int, tasks: Mapping[str, Path]):
    """Return an lm-eval `LM` over a model directory."""
    from adaptbench.scoring import ScoringLM

    model = models.load_model(directory).to(models.device())
    return ScoringLM(model, models.load_tokenizer(directory), batch_size, models.lacks(directory))
