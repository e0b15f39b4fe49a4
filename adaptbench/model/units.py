"""Splits a model's parameters into units, which may have separate learning rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Units:
    """The split of one parameter, viewed in the shape `blocks`: a unit extends along the dimensions `within`."""

    kind: str
    blocks: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one value per unit: `blocks`, with 1 for the dimensions within a unit."""
        return tuple(1 if i in self.within else size for i, size in enumerate(self.blocks))

    @property
    def folded(self) -> tuple[int, int, int]:
        """Return the parameter's shape as (outer, units, inner): a unit extends along the first and last dimension."""
        between = [i for i in range(len(self.blocks)) if i not in self.within]
        if not between:
            return 1, 1, math.prod(self.blocks)
        first, last = between[0], between[-1] + 1
        return math.prod(self.blocks[:first]), math.prod(self.blocks[first:last]), math.prod(self.blocks[last:])

    def means(self, weight: "torch.Tensor", gradient: "torch.Tensor") -> "torch.Tensor":
        """Return the mean of |weight * gradient| over each unit, in `shape`, in float32 or more.

        ADEPT, arXiv 2510.10071, section 3.3.
        """
        import torch

        outer, _, inner = self.folded
        wide = torch.promote_types(weight.dtype, torch.float32)
        sums = (weight.detach().to(wide) * gradient.to(wide)).abs().reshape(self.folded).sum((0, 2))
        return (sums / (outer * inner)).reshape(self.shape)

    def spread(self, by_unit: "torch.Tensor", parameter: "torch.Tensor") -> "torch.Tensor":
        """Return one value per unit in a shape that broadcasts over the parameter."""
        if len(self.blocks) == parameter.ndim:
            return by_unit
        split = next(i for i in range(parameter.ndim) if self.blocks[i] != parameter.shape[i])
        whole = [*by_unit.shape[: split + 1], self.blocks[split + 1], *by_unit.shape[split + 2 :]]
        return by_unit.expand(whole).flatten(split, split + 1)


HEADED = ("q_proj", "k_proj", "v_proj", "o_proj")


def units(model, unit: str) -> dict[str, Units]:
    """Return the units of every trained parameter, by name.

    tensor: the parameter itself. row: the weights of one output of a matrix, each entry of a vector. head: each
        attention
    head of the query, key, value and output projections, the parameter itself elsewhere. Importances are compared
    within a kind: the projections of one name, all norm gains (those of queries and keys too), all biases.

    Raises:
        AdaptbenchError: unit is head and a trained layer has other projections than these four, or other heads than the
            model's config says; or unit is row and the output dimension of a parameter is not known.
    """
    modules = dict(model.named_modules())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = {}
    for name, p in trained.items():
        module, _, leaf = name.rpartition(".")
        projection = module.rpartition(".")[2]
        kind = "bias" if leaf.endswith("bias") else "norm" if p.ndim == 1 else projection
        blocks, within = tuple(p.shape), tuple(range(p.ndim))
        if unit == "row":
            within = _inputs(modules[module], name, p)
        elif unit == "head" and projection in HEADED:
            heads = _heads(model.config, projection)
            if projection == "o_proj" and leaf == "weight":
                blocks, within = (p.shape[0], heads, p.shape[1] // heads), (0, 2)
            elif projection != "o_proj":
                blocks, within = (heads, p.shape[0] // heads, *p.shape[1:]), tuple(range(1, p.ndim + 1))
        found[name] = Units(kind, blocks, within)
    if unit == "head":
        _check_headed(model, trained)
    return found


def _inputs(module: "nn.Module", name: str, p: "torch.Tensor") -> tuple[int, ...]:
    """Return the input dimensions of a parameter: along them are the weights of one output."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if p.ndim == 1 or name.endswith("bias"):
        return ()
    if isinstance(module, (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)) or type(module).__name__.endswith(
        "Router"
    ):
        return tuple(range(1, p.ndim))
    if isinstance(module, Conv1D):
        return (0,)
    # Stacked experts, whose classes tell transformers' kernels that their matrices are (outputs, inputs).
    if p.ndim == 3 and getattr(module, "is_transposed", None) is False:
        return (2,)
    raise AdaptbenchError(f"tuner.unit: row, but which dimension of {name} are outputs is not known; set it to tensor")


def _check_headed(model, trained: "Mapping[str, torch.Tensor]") -> None:
    """Check that trained layers attend only by the projections HEADED, with the heads that the config counts.

    Other projections (such as one of queries, keys and values together) would silently be one unit each.
    """
    from adaptbench.model.expansion import decoder_layers

    names = {id(module): name for name, module in model.named_modules()}
    for layer in decoder_layers(model):
        own = f"{names[id(layer)]}."
        matrices = {name for name, p in trained.items() if name.startswith(own) and p.ndim > 1}
        attending = [name.removesuffix(".q_proj.weight") for name in matrices if name.endswith(".q_proj.weight")]
        if matrices and not (len(attending) == 1 and _has_heads(model, attending[0], matrices)):
            raise AdaptbenchError(
                f"tuner.unit: head, but {type(layer).__name__} has other projections than {', '.join(HEADED)}, or"
                " other heads than its config says; set it to row or tensor"
            )


def _has_heads(model, attention: str, matrices: set[str]) -> bool:
    """Return whether this attention module has the projections HEADED, with the heads of the config."""
    wanted = {f"{attention}.{projection}.weight": projection for projection in HEADED}
    if {name for name in matrices if name.startswith(f"{attention}.")} != wanted.keys():
        return False
    heads = {projection: _heads(model.config, projection) for projection in HEADED}
    sizes = {wanted[name]: model.get_parameter(name).shape[name.endswith("o_proj.weight")] for name in wanted}
    width = getattr(model.get_submodule(attention), "head_dim", None)
    return all(sizes[name] % heads[name] == 0 for name in HEADED) and width in (None, sizes["k_proj"] / heads["k_proj"])


def _heads(config, projection: str) -> int:
    """Return the number of heads of a projection."""
    config = config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None)
    if projection in ("k_proj", "v_proj"):
        heads = getattr(config, "num_key_value_heads", None) or heads
    if not isinstance(heads, int):
        raise AdaptbenchError(
            f"tuner.unit: head, but the config of {config.model_type} does not say what its heads are"
        )
    return heads
