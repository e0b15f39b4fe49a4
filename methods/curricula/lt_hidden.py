"""LT-Tuning's first two stages: explicit chain of thought, then latents of hidden states at low-confidence positions.

Paper: LT-Tuning, arXiv 2602.10229, section 3.2. The second stage first scores the training set with the model of the
first stage, and inserts latents before the tokens to which that model gives a low probability.
"""

from typing import Literal

from adaptbench.config.training import Training
from adaptbench.contracts import Phase, StageContext
from adaptbench.latent import stage
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.stage import InsertedConfig, LatentConfig
from adaptbench.methods.curricula import cot, lt_figures

FIGURES = {"geometry": lt_figures.geometry}
SWEPT = ("later_rate_ratio", stage.RATE_RATIOS)


class Config(LatentConfig, InsertedConfig):
    kind: Literal["lt_hidden"] = "lt_hidden"


def fusion(config: LatentConfig) -> Fusion:
    return Fusion(alpha=1.0, detach=config.detach)


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (
        Phase("cot", data=(track,), curriculum=cot.Config()),
        Phase("hidden", "cot", (track,), config.later_training(training, config.hidden_training)),
    )


def extend(config: Config, phase: str, model, tokenizer) -> tuple[int, ...]:
    return stage.add_tokens(model, tokenizer)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every worked problem with latents where the model of the first stage is unsure."""
    return stage.latent_examples(config, config.hidden, phase, model, context)


def objective(config: Config, phase: str, model, context: StageContext):
    return stage.objective(config, fusion(config), model, context)


def collate(config: Config, phase: str, context: StageContext):
    return stage.collate


def decode(config: Config, phase: str):
    return stage.decoding(config, config.hidden, fusion(config))
