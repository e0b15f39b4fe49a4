"""OSF, orthogonal subspace fine-tuning: every matrix keeps its largest singular directions, the others are trained.

Paper: Sculpting Subspaces, arXiv 2504.07097. The strongest directions of a matrix are taken for learned knowledge. The
top singular triples are frozen, and gradients are projected onto the complement, so that no update touches them. The
implementation is peft's; at the end the update is added to the matrices.
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
        return 0, 0  # a lower bound: the trained parts are beside the frozen ones

    def sharded_problem(self, run) -> str:
        return "kind: osf projects gradients of whole matrices; use devices.strategy: ddp"


def skip_reason(config: Config) -> str:
    return "" if importlib.util.find_spec("peft") else "peft is not installed"


def adapt(config: Config, model, context: StageContext):
    """Train the low singular triples of the target matrices and freeze everything else.

    Raises:
        AdaptbenchError: a target module does not exist or is not a linear layer.
    """
    from peft import OSFConfig, get_peft_model
    from peft.tuners.osf.layer import OSFLayer

    try:
        adapted = get_peft_model(
            model, OSFConfig(effective_rank=config.preserved, target_modules=config.target_modules)
        )
    except (ValueError, re.error) as error:
        raise AdaptbenchError(f"tuner.target_modules: {str(error).splitlines()[0]}") from None
    # peft skips other layers without an error.
    for name in adapted.targeted_module_names:
        if not isinstance(found := model.get_submodule(name), OSFLayer):
            raise AdaptbenchError(
                f"tuner.target_modules: {name} ({type(found).__name__}) is no linear layer, and osf trains those alone"
            )
    return adapted


def merge(config: Config, model):
    """Return the plain model with the updates added to its matrices."""
    from adaptbench.model.adapters import merge_adapters

    return merge_adapters(model)
