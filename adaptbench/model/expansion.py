"""Expands a model's depth: inserts copies of chosen layers as identities, within the same architecture.

A copy follows its source. Its parameters that write to the residual stream are zero ("silent"): the output projections
of attention and MLP, or the gain of a norm that follows them, since gradients through the norm of zeros grow without
bound. So the stream passes unchanged, and gradients reach the silent parameters at the first step. Silent parameters
are found in the layer's autograd graph, whatever their names. The model's config lists the copies under
`adaptbench_expanded_layers`.

Sources: LLaMA Pro (arXiv 2401.02415), section 3; ADEPT (arXiv 2510.10071), stage 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.model.capabilities import WINDOWS
from adaptbench.model.layers import config_of, difference, share_tensors, without_weights
from adaptbench.model.residual import silence, some_tokens
from adaptbench.model.temporary import evaluated, generating

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

CONFIG_KEY = "adaptbench_expanded_layers"
LONGEST_WINDOW = 64
"""Tokens; `check_identity` does not fill longer windows."""


def evenly_spread(layers: int, copies: int) -> list[int]:
    """Return the last layer of each of `copies` groups that split `layers` layers as evenly as possible.

    Raises:
        AdaptbenchError: more copies than layers.
    """
    if copies > layers:
        raise AdaptbenchError(f"tuner.layers: {copies} copies of a model with {layers} layers")
    return [(group + 1) * layers // copies - 1 for group in range(copies)]


def decoder_layers(model: "PreTrainedModel") -> "nn.ModuleList":
    """Return the model's list of transformer blocks.

    Raises:
        AdaptbenchError: the architecture has no such list, or more than one.
    """
    return _layers_with_name(model)[1]


def _layers_with_name(model: "PreTrainedModel") -> "tuple[str, nn.ModuleList]":
    from torch import nn

    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for root in (model.get_decoder(), model.base_model):
        lists = {name: one for name, one in root.named_modules() if isinstance(one, nn.ModuleList)}
        outer = [one for name, one in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
        found = [one for one in outer if len(one) == count]
        if len(found) == 1:
            return next(name for name, module in model.named_modules() if module is found[0]), found[0]
    raise AdaptbenchError(f"{type(model).__name__}: no list of {count} decoder layers to expand")


def expanded_layers(model: "PreTrainedModel") -> "list[nn.Module]":
    """Return the blocks that the model's config names as copies.

    Raises:
        AdaptbenchError: the model was not expanded.
    """
    indices = getattr(model.config, CONFIG_KEY, None)
    if not indices:
        raise AdaptbenchError(f"the model's config has no {CONFIG_KEY}: it was not expanded")
    layers = decoder_layers(model)
    return [layers[index] for index in indices]


def expand(model: "PreTrainedModel", sources: Sequence[int]) -> "PreTrainedModel":
    """Return a model that computes the same as `model`, with a copy after each layer in `sources` (indices, ascending).

    Both models share the tensors of all layers but the copies.

    Raises:
        AdaptbenchError: no decoder layers, an index out of range, or an architecture in which copies are no identities.
    """
    expanded, inserted, _ = _expanded(model, sources)
    for layer in inserted:
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.data = tensor.data.clone()
    return expanded


# --- checks


def check_identity(base: "PreTrainedModel", expanded: "PreTrainedModel") -> None:
    """Compare both models' logits: of random tokens, and in greedy generation with and without a cache.

    Raises:
        AdaptbenchError: they differ.
    """
    config = base.config.get_text_config(decoder=True)
    windows = [size for name in WINDOWS if isinstance(size := getattr(config, name, None), int)]
    ids = some_tokens(base, 8 + max(size for size in (8, *windows) if size <= LONGEST_WINDOW))
    with _named(base):
        for way, options in (
            ("", None),
            (", generating with a cache", {"use_cache": True}),
            (", generating without cache", {"use_cache": False}),
        ):
            before, after = (_logits(model, ids, options) for model in (base, expanded))
            moved = (after - before).abs().max().item()
            if not moved <= 1e-6 * max(1.0, before.abs().max().item()):
                raise AdaptbenchError(f"copies are not identities (logits move by {moved:.2g}{way})")


def measure(model: "PreTrainedModel") -> str:
    """Return why the model's layers cannot be copied as identities, "" if they can; leave the model unchanged.

    It tries the first layer, the last one, and those before and after a change of kind. The copies share the model's
    tensors.
    """
    try:
        with _named(model):
            layers = decoder_layers(model)
            places = range(len(layers))
            changes = [i for i in places[1:] if difference(layers[i - 1], i - 1, layers[i], i, places)][:4]
            tried = {0, len(layers) - 1, *changes, *(i - 1 for i in changes)}
            expanded, _, silent = _expanded(model, sorted(tried))
            check_identity(model, expanded)
            _check_gradients(expanded, silent)
    except AdaptbenchError as error:
        return str(error).removeprefix(f"{type(model).__name__}: ").partition(" (logits move")[0]
    return ""


def _check_gradients(model: "PreTrainedModel", silent: "Sequence[nn.Parameter]") -> None:
    """Check that every silent parameter has a gradient, without which it would stay silent."""
    import torch

    ids = some_tokens(model, 16)
    model.requires_grad_(False)
    for p in silent:
        p.requires_grad_(True)
    with evaluated(model), torch.enable_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, silent, allow_unused=True)
    if not all(one is not None and one.isfinite().all() and one.any() for one in gradients):
        raise AdaptbenchError("copies would learn nothing: no gradient reaches what they write with")


def _logits(model: "PreTrainedModel", ids: "torch.Tensor", options: Mapping[str, Any] | None) -> "torch.Tensor":
    """Return float32 logits: of the tokens, or with options of those that greedy generation adds."""
    import torch
    from transformers import GenerationConfig

    # Penalties or sampling that the model's directory recommends would hide differences.
    with evaluated(model), torch.no_grad(), generating(model, GenerationConfig()):
        if options is None:
            return model(input_ids=ids, use_cache=False).logits.float()
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )
        return torch.stack(made.logits, 1).float()


@contextmanager
def _named(model: "PreTrainedModel") -> Iterator[None]:
    """Raise errors inside the block as one AdaptbenchError that names the architecture; its code may raise anything."""
    kind = type(model).__name__
    try:
        yield
    except AdaptbenchError as error:
        raise AdaptbenchError(f"{kind}: {str(error).removeprefix(f'{kind}: ')}") from None
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise AdaptbenchError(f"{kind}: cannot work with more layers ({said[:120].rstrip()})") from None


# --- building the model


def _expanded(
    model: "PreTrainedModel", sources: Sequence[int]
) -> "tuple[PreTrainedModel, list[nn.Module], list[nn.Parameter]]":
    """Return the expanded model, its new layers, and their silent parameters.

    The expanded model shares all other tensors with `model`.
    """
    prefix, layers = _layers_with_name(model)
    chosen = sorted(set(sources))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(layers):
        raise AdaptbenchError(f"layers to copy must lie in 0..{len(layers) - 1}, got {list(sources)}")
    # origin[i]: the old index of the new model's layer i; new: the new indices of the inserted layers.
    origin = [index for index in range(len(layers)) for _ in range(1 + (index in chosen))]
    new = [i for i in range(1, len(origin)) if origin[i] == origin[i - 1]]
    already = [origin.index(index) for index in getattr(model.config, CONFIG_KEY, None) or []]
    with _named(model):
        config = config_of(model.config, origin)
        setattr(config, CONFIG_KEY, sorted([*new, *already]))
        expanded = without_weights(model, config)
        made = decoder_layers(expanded)
        for index, source in enumerate(origin):
            if different := difference(layers[source], source, made[index], index, origin):
                raise AdaptbenchError(f"copies would change what other layers are ({different})")
        share_tensors(model, expanded, prefix, origin)
        weights = [p for layer in made for p in layer.parameters()]
        if len(set(weights)) < len(weights):
            raise AdaptbenchError("layers have weights in common, which would train in the copies")
        inserted = [made[index] for index in new]
        return expanded, inserted, silence(expanded, inserted)
