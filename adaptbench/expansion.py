"""Depth expansion: copies of chosen layers, inserted as identities, in an ordinary model of the same architecture.

A copy stands right after its source. Its attention output projection and its MLP down projection are zero, so the
residual stream passes through unchanged, and the gradient still reaches both projections at the first step. Which layers
are copies is written in the model's config under `adaptbench_expanded_layers`, never guessed from zero weights.

Sources: LLaMA Pro (arXiv 2401.02415), section 3; ADEPT (arXiv 2510.10071), stage 1.
"""

import copy
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

CONFIG_KEY = "adaptbench_expanded_layers"
OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "down_proj")
PER_LAYER_KEYS = ("layer_types", "mlp_layer_types", "no_rope_layers")


def evenly_spread(layers: int, copies: int) -> list[int]:
    """The last layer of each of `copies` groups that split `layers` layers as evenly as possible.

    Raises:
        AdaptbenchError: more copies than layers.
    """
    if copies > layers:
        raise AdaptbenchError(f"tuner.layers: {copies} copies of a model with {layers} layers")
    return [(group + 1) * layers // copies - 1 for group in range(copies)]


def decoder_layers(model: "PreTrainedModel") -> "nn.ModuleList":
    """The model's list of transformer blocks.

    Raises:
        AdaptbenchError: the architecture keeps its blocks elsewhere.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None or len(layers) != model.config.num_hidden_layers:
        raise AdaptbenchError(f"{type(model).__name__}: no list of decoder layers to expand")
    return layers


def expand(model: "PreTrainedModel", sources: Sequence[int]) -> "PreTrainedModel":
    """A new model that computes what `model` computes, with a copy after each layer in `sources` (indices, ascending).

    Raises:
        AdaptbenchError: no decoder layers, an index out of range, or a block without known output projections.
    """
    from transformers import AutoModelForCausalLM

    layers = decoder_layers(model)
    chosen = sorted(set(sources))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(layers):
        raise AdaptbenchError(f"layers to copy must lie in 0..{len(layers) - 1}, got {list(sources)}")
    # origin[i]: the old index of the new model's layer i; copies[j]: the new index of the j-th copy.
    origin: list[int] = []
    copies: list[int] = []
    already = set(getattr(model.config, CONFIG_KEY, None) or [])
    for index in range(len(layers)):
        origin.append(index)
        if index in already:
            copies.append(len(origin) - 1)
        if index in chosen:
            origin.append(index)
            copies.append(len(origin) - 1)

    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(origin)
    for key in PER_LAYER_KEYS:
        values = getattr(model.config, key, None)
        computed = isinstance(getattr(type(config), key, None), property)
        if isinstance(values, (list, tuple)) and len(values) == len(layers) and not computed:
            setattr(config, key, [values[index] for index in origin])
    setattr(config, CONFIG_KEY, copies)
    expanded = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    expanded.load_state_dict(_expanded_state(model, origin, _prefix(model, layers)), strict=True)
    if model.generation_config is not None:
        expanded.generation_config = copy.deepcopy(model.generation_config)
    new_layers = decoder_layers(expanded)
    for index in copies:
        if index > 0 and origin[index] == origin[index - 1]:
            _silence(new_layers[index])
    return expanded


def check_identity(base: "PreTrainedModel", expanded: "PreTrainedModel") -> None:
    """The expanded model computes what the base computes, on a few random tokens.

    Raises:
        AdaptbenchError: it does not; the architecture writes to the residual stream in a way that is not known here.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, base.config.vocab_size, (2, 16), generator=generator)
    with torch.inference_mode():
        before, after = (model.eval()(input_ids=ids, use_cache=False).logits.float() for model in (base, expanded))
    difference = (after - before).abs().max().item()
    if not difference <= 1e-6 * max(1.0, before.abs().max().item()):
        raise AdaptbenchError(f"{type(base).__name__}: copies are not identities (logits move by {difference:.2g})")


def expanded_layers(model: "PreTrainedModel") -> "list[nn.Module]":
    """The blocks that the model's config names as copies.

    Raises:
        AdaptbenchError: the model was not expanded.
    """
    indices = getattr(model.config, CONFIG_KEY, None)
    if not indices:
        raise AdaptbenchError(f"the model's config has no {CONFIG_KEY}: it was not expanded")
    layers = decoder_layers(model)
    return [layers[index] for index in indices]


def _prefix(model: "PreTrainedModel", layers: "nn.ModuleList") -> str:
    return next(name for name, module in model.named_modules() if module is layers)


def _expanded_state(model: "PreTrainedModel", origin: Sequence[int], prefix: str) -> dict:
    state = model.state_dict()
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.(.*)")
    expanded = {name: tensor for name, tensor in state.items() if not pattern.fullmatch(name)}
    for name, tensor in state.items():
        match = pattern.fullmatch(name)
        if match:
            for new, old in enumerate(origin):
                if old == int(match[1]):
                    expanded[f"{prefix}.{new}.{match[2]}"] = tensor
    return expanded


def _silence(layer: "nn.Module") -> None:
    """Zero the projections that write to the residual stream."""
    import torch

    # By parameter, not by module: mixtures of experts keep one three-dimensional down_proj without a module of its own.
    outputs = {name: p for name, p in layer.named_parameters() if set(name.split(".")) & set(OUTPUT_PROJECTIONS)}
    found = {part for name in outputs for part in name.split(".") if part in OUTPUT_PROJECTIONS}
    if len(found) < 2:
        raise AdaptbenchError(f"{type(layer).__name__}: no {' or '.join(OUTPUT_PROJECTIONS)} to set to zero")
    with torch.no_grad():
        for parameter in outputs.values():
            parameter.zero_()
