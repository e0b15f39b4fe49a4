"""LLaMA-Pro: copy layers spread evenly over the depth as identities, then train the copies alone.

Paper: LLaMA Pro, arXiv 2401.02415, section 3. The model's layers are split into groups, and the last layer of each
group is copied after it. The paper's layer counts divide evenly; where ours do not, groups differ by at most one layer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from adaptbench.contracts import Preparation, StageContext, TunerConfig

EXAMPLE = {"layers": 2}


class Config(TunerConfig):
    kind: Literal["llama_pro"] = "llama_pro"
    layers: int = Field(8, gt=0, description="number of copied layers")

    def needs(self) -> tuple[str, ...]:
        return ("expansion",)

    def share(self, layers: int) -> tuple[int, int | None]:
        return self.layers, self.layers

    def problem(self, run, base_layers: int | None) -> str:
        too_many = base_layers is not None and self.layers > base_layers
        return f"layers: must be <= {base_layers}, the base's layers" if too_many else ""


def preparations(config: Config) -> tuple[Preparation, ...]:
    return (Preparation("expand"),)


def expand(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> None:
    """Write the expanded model, equal in output to the base."""
    from adaptbench.model import expansion, storage

    base = storage.load_model(inputs["base"])
    layers = expansion.evenly_spread(len(expansion.decoder_layers(base)), config.layers)
    expanded = expansion.expand(base, layers)
    expansion.check_identity(base, expanded)
    storage.save_model(expanded, context.tokenizer, out)


def adapt(config: Config, model, context: StageContext):
    """Let only the copies require gradients."""
    from adaptbench.model.expansion import expanded_layers

    model.requires_grad_(False)
    for layer in expanded_layers(model):
        layer.requires_grad_(True)
    return model
