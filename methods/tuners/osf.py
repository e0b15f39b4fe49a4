"""OSF, orthogonal subspace fine-tuning: every matrix keeps its largest singular directions, the others are trained.

Paper: Sculpting Subspaces, arXiv 2504.07097. What a matrix does most strongly is taken for what it has learned: the
top singular triples are frozen and gradients are projected off them, so that an update cannot touch those directions.
The implementation is peft's; at the end the update is added to the matrices.
"""

import importlib.util
import re
from typing import Literal

from pydantic import Field

from adaptbench.contracts import Real, StageContext, TunerConfig
from adaptbench.errors import AdaptbenchError


class Config(TunerConfig):
    kind: Literal["osf"] = "osf"
    preserved: Real = Field(0.5, gt=0, lt=1, description="share of a matrix's singular directions that is frozen")
    target_modules: str = Field("all-linear", description="module names, or all-linear: all but the output head")

    def share(self, layers: int) -> tuple[int, int | None]:
        return 0, 0  # at the least: what trains lies beside the frozen part

    def sharded_problem(self, run) -> str:
        return "kind: osf projects gradients of whole matrices; use devices.strategy: ddp"


def skip_reason(config: Config) -> str:
    return "" if importlib.util.find_spec("peft") else "peft is not installed"


def adapt(config: Config, model, context: StageContext):
    """The low singular triples of the target matrices train; everything else is frozen."""
    from peft import OSFConfig, get_peft_model
    from peft.tuners.osf.layer import OSFLayer

    try:
        adapted = get_peft_model(
            model, OSFConfig(effective_rank=config.preserved, target_modules=config.target_modules)
        )
    except (ValueError, re.error) as error:
        raise AdaptbenchError(f"tuner.target_modules: {str(error).splitlines()[0]}") from None
    # peft passes over what is no linear layer.
    for name in adapted.targeted_module_names:
        if not isinstance(found := model.get_submodule(name), OSFLayer):
            raise AdaptbenchError(
                f"tuner.target_modules: {name} ({type(found).__name__}) is no linear layer, and osf trains those alone"
            )
    return adapted


def merge(config: Config, model):
    """The plain model with the updates added to its matrices."""
    from adaptbench.model.tied import merged

    return merged(model)
