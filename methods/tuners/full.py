"""Full fine-tuning: every weight moves, at one rate. What every other tuner is compared with."""

from typing import Literal

from adaptbench.contracts import StageContext, TunerConfig


class Config(TunerConfig):
    kind: Literal["full"] = "full"

    @property
    def moves_base_weights(self) -> bool:
        return True


def adapt(config: Config, model, context: StageContext):
    """Everything requires gradients."""
    model.requires_grad_(True)
    return model
