"""Feed a model vectors in place of tokens, and embed its predictions.

An embedding module may do more than look up rows: Gemma's multiplies them by the square root of the width, an adapter
adds to them. So a prediction's embedding is a mean of the module's outputs, and of its `weight` only where these agree.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

SEEN = 32  # tokens on which a module's factor is measured
_FACTORS: "WeakKeyDictionary[torch.nn.Module, float | None]" = WeakKeyDictionary()


def embedding_table(model: Any) -> "tuple[torch.Tensor, float]":
    """Return a matrix (vocabulary, width) and a factor, whose product is the embedding module's output for every token.

    If the module is not its matrix times a number, it embeds all tokens, and the factor is 1.
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
    """Return the number by which an embedding multiplies its rows; None if it does something else."""
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


def run_decoder(model: Any, vectors: "torch.Tensor", **inputs: Any) -> Any:
    """Return the output of the model's decoder for vectors (rows, n, width), without inputs that it does not take."""
    decoder = model.get_decoder()
    kind: Any = type(decoder)
    taken = _taken(kind)
    return decoder(inputs_embeds=vectors, **{name: one for name, one in inputs.items() if name in taken})


def decoder_takes(model: Any, name: str) -> bool:
    """Return whether the model's decoder has an input of that name."""
    kind: Any = type(model.get_decoder())
    return name in _taken(kind)


@cache
def _taken(decoder: Any) -> Mapping[str, Any]:
    return inspect.signature(decoder.forward).parameters
