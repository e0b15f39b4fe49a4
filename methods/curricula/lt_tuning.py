"""LT-Tuning: explicit chain of thought, then latents of hidden states, then latents that fuse context with prediction.

Paper: arXiv 2602.10229, section 3.3. The first two stages are those of `lt_hidden`. The third stage scores the training
set again, with the model of the second, and inserts latents again. A latent is `alpha` times the last hidden state plus
1 - `alpha` times the mean embedding of the likeliest next tokens (adaptbench/latent/fusion.py).

Differs from the authors' code (NeosKnight233/Latent-Thoughts-Tuning) in three points. That code scores one text format
and inserts into another, so that its latents are not at the hard tokens; here both use the same tokens. It validates on
the test. It has one cosine schedule over all stages; here each stage has its own, since methods share stages. Its
optional adapter for untied embeddings is left out.
"""

from typing import Literal

from adaptbench.config.training import Training
from adaptbench.contracts import Phase, StageContext
from adaptbench.latent import stage
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.stage import FusedConfig, LatentConfig
from adaptbench.methods.curricula import lt_figures, lt_hidden

FIGURES, FIGURE_NEEDS = lt_figures.FIGURES, lt_figures.FIGURE_NEEDS
SWEPT = lt_hidden.SWEPT


class Config(LatentConfig, FusedConfig, Fusion):
    kind: Literal["lt_tuning"] = "lt_tuning"


def fusion(config: Config) -> Fusion:
    return Fusion.model_validate(config.model_dump(include=set(Fusion.model_fields)))


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    shared = set(lt_hidden.Config.model_fields) - {"kind"}
    before = lt_hidden.Config.model_validate(config.model_dump(include=shared))
    return (
        *(
            Phase(one.name, one.parent, one.data, one.training, curriculum=one.curriculum or before)
            for one in lt_hidden.phases(before, track, training)
        ),
        Phase("fused", "hidden", (track,), config.later_training(training, config.fused_training)),
    )


def extend(config: Config, phase: str, model, tokenizer) -> tuple[int, ...]:
    return stage.added_rows(tokenizer)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every worked problem with latents where the model of the second stage is unsure."""
    return stage.latent_examples(config, config.fused, phase, model, context)


def objective(config: Config, phase: str, model, context: StageContext):
    return stage.objective(config, fusion(config), model, context)


def collate(config: Config, phase: str, context: StageContext):
    return stage.collate


def decode(config: Config, phase: str):
    return stage.decoding(config, config.fused, fusion(config))
