"""LoRA: low-rank updates beside frozen matrices, merged into them at the end.

Papers: LoRA, arXiv 2106.09685, section 4; rsLoRA (scale alpha / sqrt(rank)), arXiv 2312.03732; DoRA (magnitude and
direction apart), arXiv 2402.09353. The implementation is peft's.
"""

import importlib.util
import re
from typing import Annotated, Literal

from pydantic import Field

from adaptbench.contracts import Real, StageContext, TunerConfig
from adaptbench.errors import AdaptbenchError

ADAPTERS = True  # adapters can be stored apart from the model they were added to


class Config(TunerConfig):
    kind: Literal["lora"] = "lora"
    rank: int = Field(8, gt=0, description="rank of the update")
    alpha: Real = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: Real = Field(0.0, ge=0, lt=1, description="dropout on the update's input")
    target_modules: str | Annotated[tuple[str, ...], Field(strict=False)] = Field(
        "all-linear", min_length=1, description="module names, or all-linear: every linear layer but the output head"
    )
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(rank)")
    use_dora: bool = Field(False, description="learn each column's magnitude apart from its direction")

    def share(self, layers: int) -> tuple[int, int | None]:
        return 0, 0


def skip_reason(config: Config) -> str:
    return "" if importlib.util.find_spec("peft") else "peft is not installed"


def adapt(config: Config, model, context: StageContext):
    """Add adapters to the target modules and freeze everything else.

    Raises:
        AdaptbenchError: a target module does not exist or cannot have an adapter.
    """
    from peft import LoraConfig, get_peft_model

    targets = config.target_modules
    options = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        task_type="CAUSAL_LM",
    )
    try:
        if not isinstance(targets, str):
            _check_names(targets, [name for name, _ in model.named_modules()])
        return get_peft_model(model, options)
    except (ValueError, re.error) as error:
        # peft's message shows the whole module; its first line is enough.
        said = str(error).splitlines()[0]
        said = f"{said[:-1]} cannot hold one" if said.endswith("(") else said
        raise AdaptbenchError(f"tuner.target_modules: {said}") from None


def _check_names(targets, names) -> None:
    """Check that every target module exists; peft would train those that exist and say nothing of the others."""
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            raise ValueError(f"the model has no module {target!r}")


def merge(config: Config, model):
    """Return the plain model with the updates added to its matrices."""
    from adaptbench.model.adapters import merge_adapters

    return merge_adapters(model)
