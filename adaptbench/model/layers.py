"""Builds a model with some of another's layers twice: its configuration, and the same tensors in their new places.

Throughout, layer i of the new model is layer `origin[i]` of the old one.
"""

import copy
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

# How configurations give the kinds of layers: a value for each layer, the indices of some, the number of the first
# ones.
COUNTS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")
BY_LAYER = (
    "layer_types", "mlp_layer_types", "layers_block_type", "block_types", "attention_layers", "no_rope_layers",
    "indexer_types", "num_attention_heads_per_layer", "layer_rope_theta",
)  # fmt: skip
PLACES = ("mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "moe_layers")
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")


def config_of(config: "PreTrainedConfig", origin: Sequence[int]) -> "PreTrainedConfig":
    """Return the new model's configuration, as it will be read from a file.

    Where it cannot say what the layers are, `difference` finds it.
    """
    values = copy.deepcopy(config.to_dict())
    text = config.get_text_config(decoder=True)
    inner = next((name for name in config.sub_configs if getattr(config, name) is text), None)
    own = values[inner] if inner else values
    count = text.num_hidden_layers

    def places(of: Sequence[int]) -> list[int]:
        return [new for new, old in enumerate(origin) if old in of]

    for name in COUNTS:
        if own.get(name := text.attribute_map.get(name, name)) == count:
            own[name] = len(origin)
    if (step := own.get("decoder_sparse_step") or 1) > 1:
        dense = {*(own.get("mlp_only_layers") or ()), *(i for i in range(count) if (i + 1) % step)}
        own |= {"decoder_sparse_step": 1, "mlp_only_layers": sorted(dense)}
    for name in BY_LAYER:
        if isinstance(found := own.get(name), list) and found:
            own[name] = [found[old % len(found)] for old in origin]  # block_types may be a pattern that repeats
    for name in PLACES:
        if isinstance(found := own.get(name), list):
            own[name] = places(found)
    for name in FIRST:
        if isinstance(found := own.get(name), int):
            own[name] = len(places(range(found)))
    if isinstance(last := own.get("moe_layer_end_index"), int):
        own["moe_layer_end_index"] = len(places(range(last + 1))) - 1
    if "attention_types" in own:  # of GPT-Neo: patterns with how often they repeat, written out in attention_layers
        own["attention_types"] = [[own["attention_layers"], 1]]
    if isinstance(found := own.get("per_layer_config"), dict):  # of Gemma-4: what differs from the rest, by place
        own["per_layer_config"] = {str(new): found[str(old)] for new, old in enumerate(origin) if str(old) in found}
    return type(config).from_dict(values)


def without_weights(model: "PreTrainedModel", config: "PreTrainedConfig") -> "PreTrainedModel":
    """Return a model of `model`'s class with this configuration, whose parameters take no memory."""
    import torch
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    parts = {"": model.config} | {name: getattr(model.config, name) for name in model.config.sub_configs}
    attention = {name: part._attn_implementation for name, part in parts.items() if part is not None}
    with init_empty_weights(include_buffers=False), no_init_weights(), torch.random.fork_rng(devices=[]):
        # What AutoModelForCausalLM.from_config calls; that one does not know the class for a part of a composite model.
        made = type(model)._from_config(config, dtype=model.dtype, attn_implementation=attention)
    made.train(model.training)
    made.generation_config = copy.deepcopy(model.generation_config)
    return made


def share_tensors(model: "PreTrainedModel", expanded: "PreTrainedModel", prefix: str, origin: Sequence[int]) -> None:
    """Give the new model the old one's tensors; `prefix` is the name of the list of layers in both.

    Raises:
        AdaptbenchError: weights outside of the layers are of other shapes.
    """
    index = re.compile(rf"(?<=^{re.escape(prefix)}\.)\d+")

    def source(name: str) -> str:
        return index.sub(lambda found: str(origin[int(found[0])]), name)

    before, state = model.state_dict(), {}
    for name, empty in expanded.state_dict().items():
        old = before.get(source(name))
        if old is None or old.shape != empty.shape:
            raise AdaptbenchError(f"copies would change the shape of other weights ({name})")
        state[name] = old.detach()  # a tensor for each layer, in the same memory
    expanded.load_state_dict(state, strict=True, assign=True)
    expanded.tie_weights()
    # Buffers that no file keeps are made in the dtype in which the model was opened, which may have changed.
    buffers = dict(model.named_buffers())
    for name, buffer in expanded.named_buffers():
        buffer.data = buffers[source(name)].data


def difference(old: "nn.Module", place: int, new: "nn.Module", new_place: int, origin: Sequence[int]) -> str:
    """Name the module, attribute or buffer in which two layers differ, apart from their index; "" if none.

    A list with a value for each layer must have the values of `origin` in the second layer.
    """
    parts, others = dict(old.named_modules()), dict(new.named_modules())
    if parts.keys() != others.keys():
        return min(parts.keys() ^ others.keys())
    for name, part in parts.items():
        shapes = [
            {key: p is not None and p.shape for key, p in one._parameters.items()} for one in (part, others[name])
        ]
        if type(part) is not type(others[name]) or shapes[0] != shapes[1]:
            return name or type(part).__name__
        for key, value in vars(part).items():
            if key.startswith("_") or key == "training" or not isinstance(value, _PLAIN):
                continue
            found = vars(others[name]).get(key)
            if isinstance(value, tuple | list) and isinstance(found, tuple | list):
                by_layer = [value[i] for i in origin] if len(value) > max(origin) else None
                alike = list(found) in (list(value), by_layer)
            else:
                alike = found == value or (value, found) == (place, new_place)
            if not alike:
                return f"{name}.{key}".lstrip(".")
    return _other_buffer(old, new)


_PLAIN = bool | int | float | str | tuple | list | None


def _other_buffer(old: "nn.Module", new: "nn.Module") -> str:
    """Name a buffer with other values; buffers that files keep are the old layer's anyway, and are still empty."""
    import torch

    kept, buffers = old.state_dict(), dict(new.named_buffers())
    for name, buffer in old.named_buffers():
        if name not in buffers or buffer.shape != buffers[name].shape:
            return name
        # They may have been rounded to the dtype in which the model was opened.
        if name not in kept and not torch.allclose(buffer.float(), buffers[name].float(), rtol=1e-2):
            return name
    return ""
