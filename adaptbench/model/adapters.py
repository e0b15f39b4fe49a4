"""Adapters of peft: checks that a model runs with them, names matrices without one, merges them into the weights."""

import re
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.model.residual import some_tokens
from adaptbench.model.temporary import evaluated
from adaptbench.model.tied import untie


def check_runs(adapted: Any) -> None:
    """Check that a model runs with its adapters.

    peft wraps some modules that it cannot run, such as routers that return tuples.

    Raises:
        AdaptbenchError: it does not.
    """
    import torch

    try:
        with evaluated(adapted), torch.no_grad():
            adapted(input_ids=some_tokens(adapted, 2), use_cache=False)
    except Exception as error:  # wrapped modules may raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise AdaptbenchError(
            f"tuner.target_modules: the model does not run with adapters on all of these ({said});"
            " name those that get one"
        ) from None


def passed_over(adapted: Any) -> list[str]:
    """Name the decoder's frozen matrices without an adapter, with # for numbers, except embeddings and the output head.

    peft adapts linear layers. Experts stacked in one tensor are none. For some architectures it adapts those tensors
    instead of the linear layers that have the names of their parts.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn

    reached = {id(adapted.get_output_embeddings().weight)}
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            reached.add(id(getattr(module.get_base_layer(), getattr(module, "parameter_name", "weight"), None)))
        if isinstance(module, nn.Embedding):
            reached.add(id(module.weight))
    names = (
        name
        for name, p in adapted.get_decoder().named_parameters()
        if p.ndim > 1 and not p.requires_grad and id(p) not in reached and "bias" not in name
    )
    return sorted({re.sub(r"(?<=\.)\d+(?=\.)", "#", name.replace("base_layer.", "")) for name in names})


def merge_adapters(model: Any) -> Any:
    """Add the updates of a peft model to its matrices and return the plain model.

    In a matrix shared by embeddings and output head, the update of one would change both.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(hasattr(module, "base_layer") for module in ends):
        untie(model)
    return model.merge_and_unload()
