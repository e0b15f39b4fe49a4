"""Full fine-tuning: every weight is trained, at one learning rate. The reference for all other tuners."""

from typing import Literal

from adaptbench.contracts import StageContext, TunerConfig


class Config(TunerConfig):
    kind: Literal["full"] = "full"

    @property
    def moves_base_weights(self) -> bool:
        return True


def adapt(config: Config, model, context: StageContext):
    """Let every parameter require gradients."""
    model.requires_grad_(True)
    return model
