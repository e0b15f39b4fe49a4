"""Units: the parts of a model's parameters that may have a learning rate of their own."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Units:
    """How one parameter splits into units: seen as `blocks`, a unit is what lies along the dimensions `within`."""

    kind: str
    blocks: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value a unit: `blocks`, with 1 for the dimensions that lie within a unit."""
        return tuple(1 if i in self.within else size for i, size in enumerate(self.blocks))

    @property
    def folded(self) -> tuple[int, int, int]:
        """The parameter's shape as (outer, units, inner): a unit is what lies along the first and the last dimension."""
        between = [i for i in range(len(self.blocks)) if i not in self.within]
        if not between:
            return 1, 1, math.prod(self.blocks)
        first, last = between[0], between[-1] + 1
        return math.prod(self.blocks[:first]), math.prod(self.blocks[first:last]), math.prod(self.blocks[last:])

    def means(self, weight: "torch.Tensor", gradient: "torch.Tensor") -> "torch.Tensor":
        """The mean of |weight * gradient| over each unit, in `shape`."""
        from adaptbench.kernels.unit_importance import unit_importance

        outer, _, inner = self.folded
        return (unit_importance(weight, gradient, self.folded) / (outer * inner)).reshape(self.shape)

    def spread(self, by_unit: "torch.Tensor", parameter: "torch.Tensor") -> "torch.Tensor":
        """One value a unit, in a shape that broadcasts over the parameter."""
        if len(self.blocks) == parameter.ndim:
            return by_unit
        split = next(i for i in range(parameter.ndim) if self.blocks[i] != parameter.shape[i])
        whole = [*by_unit.shape[: split + 1], self.blocks[split + 1], *by_unit.shape[split + 2 :]]
        return by_unit.expand(whole).flatten(split, split + 1)


def units(model, unit: str) -> dict[str, Units]:
    """The units of every trained parameter, by name.

    tensor: the parameter itself. row: each row of a matrix (an output), each entry of a vector. head: each attention
    head of the query, key, value and output projections, the parameter itself elsewhere. Importances are compared
    within a kind: the projections of one name, all norm gains (those of queries and keys too), all biases.

    Raises:
        AdaptbenchError: unit is head and the model's config does not say what its heads are.
    """
    found = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        module, _, leaf = name.rpartition(".")
        projection = module.rpartition(".")[2]
        kind = "bias" if leaf == "bias" else "norm" if p.ndim == 1 else projection
        blocks, within = tuple(p.shape), tuple(range(p.ndim))
        if unit == "row":
            within = within[1:]
        elif unit == "head" and projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            heads = _heads(model.config, projection)
            if projection == "o_proj" and leaf == "weight":
                blocks, within = (p.shape[0], heads, p.shape[1] // heads), (0, 2)
            elif projection != "o_proj":
                blocks, within = (heads, p.shape[0] // heads, *p.shape[1:]), tuple(range(1, p.ndim + 1))
        found[name] = Units(kind, blocks, within)
    return found


def _heads(config, projection: str) -> int:
    heads = getattr(config, "num_attention_heads", None)
    if projection in ("k_proj", "v_proj"):
        heads = getattr(config, "num_key_value_heads", None) or heads
    if not isinstance(heads, int):
        raise AdaptbenchError(
            f"tuner.unit: head, but the config of {config.model_type} does not say what its heads are"
        )
    return heads
