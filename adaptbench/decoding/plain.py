"""Plain decoding: one model, one token after another, through lm-eval's own Hugging Face backend."""

from collections.abc import Mapping
from pathlib import Path

from adaptbench import models


def language_model(directory: Path, *, batch_size: int, tasks: Mapping[str, Path]):
    """An lm-eval `LM` over a model directory, as `lm-eval --model hf --model_args pretrained=DIRECTORY` makes it.

    Its cache of logits is off: it joins requests that are the same tokens, and when they differ in where the continuation
    begins (a sentence scored whole in one task, its last word in another) it reads the shorter one's log-probabilities
    at the longer one's first positions (lm-eval 0.4.13, `_loglikelihood_tokens`).
    """
    from lm_eval.models.huggingface import HFLM

    models.check_safe(directory)
    return HFLM(
        pretrained=str(directory),
        device=models.device(),
        batch_size=batch_size,
        logits_cache=False,
        trust_remote_code=False,
    )
