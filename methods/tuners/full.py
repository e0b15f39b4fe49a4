"""Full fine-tuning: every weight moves, at one rate. What every other tuner is compared with."""

from typing import ClassVar, Literal

from adaptbench.contracts import StageContext, TunerConfig


class Config(TunerConfig):
    kind: Literal["full"] = "full"
    moves_base_weights: ClassVar[bool] = True


def adapt(config: Config, model, context: StageContext):
    """Everything requires gradients."""
    model.requires_grad_(True)
    return model
