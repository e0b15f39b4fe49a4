"""What a model reads in place of tokens: vectors, and the embedding of a prediction.

An embedding module may do more than look rows up: Gemma's multiplies them by the square root of the width, an adapter adds to
them. So a prediction's embedding is a mean of what the module returns, and never of its `weight` unasked.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

SEEN = 32  # tokens by which a module's factor is measured
_FACTORS: "WeakKeyDictionary[torch.nn.Module, float | None]" = WeakKeyDictionary()


def table(model: Any) -> "tuple[torch.Tensor, float]":
    """A matrix (vocabulary, width) and a factor, whose product is what the embedding module returns for every token.

    Where the module is more than its matrix times a number, all tokens go through it and the factor is 1.
    """
    import torch

    module = model.get_input_embeddings()
    if module not in _FACTORS:
        _FACTORS[module] = _factor(module)
    factor = _FACTORS[module]
    if factor is not None:
        return module.weight, factor
    return module(torch.arange(model.get_output_embeddings().weight.shape[0], device=model.device)), 1.0


def _factor(module: "torch.nn.Module") -> float | None:
    """The number by which a plain embedding multiplies its rows; None where it does something else."""
    import torch

    own = [name for name, _ in module.named_parameters()]
    if not isinstance(module, torch.nn.Embedding) or module.max_norm is not None or own != ["weight"]:
        return None
    ids = torch.linspace(0, module.num_embeddings - 1, min(SEEN, module.num_embeddings)).long()
    with torch.no_grad():
        ids = ids.to(module.weight.device)
        rows, given = module.weight[ids].double(), module(ids).double()
        factor = float((rows * given).sum() / rows.square().sum())
        wrong = (given - factor * rows).abs().max() > 4 * torch.finfo(module.weight.dtype).eps * given.abs().max()
    return None if wrong else factor


def read(model: Any, vectors: "torch.Tensor", **inputs: Any) -> Any:
    """The output of the model's decoder for vectors (rows, n, width); inputs that it does not take are left out."""
    decoder = model.get_decoder()
    kind: Any = type(decoder)
    taken = _taken(kind)
    return decoder(inputs_embeds=vectors, **{name: one for name, one in inputs.items() if name in taken})


def takes(model: Any, name: str) -> bool:
    """Whether the model's decoder has an input of that name."""
    kind: Any = type(model.get_decoder())
    return name in _taken(kind)


@cache
def _taken(decoder: Any) -> Mapping[str, Any]:
    return inspect.signature(decoder.forward).parameters
