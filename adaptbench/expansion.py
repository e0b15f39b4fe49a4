"""Depth expansion: copies of chosen layers, inserted as identities, in an ordinary model of the same architecture.

A copy stands right after its source. What writes to the residual stream is silent in it: the output projections of
attention and MLP are zero, or the gain of the norm where a norm follows them, since gradients grow without bound on their way
through the norm of zeros. So the stream passes through unchanged, and gradients reach the silent parameters at the first
step. Silent parameters are found in the layer's autograd graph, whatever their names. Which layers are copies is written in
the model's config under `adaptbench_expanded_layers`, never guessed from zero weights.

Sources: LLaMA Pro (arXiv 2401.02415), section 3; ADEPT (arXiv 2510.10071), stage 1.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

CONFIG_KEY = "adaptbench_expanded_layers"
# How configurations say which layer is of which kind: a value for each layer, the places of some, the number of the first ones.
COUNTS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")
BY_LAYER = (
    "layer_types", "mlp_layer_types", "layers_block_type", "block_types", "attention_layers", "no_rope_layers", "indexer_types",
    "num_attention_heads_per_layer", "layer_rope_theta",
)  # fmt: skip
PLACES = ("mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "moe_layers")
FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
LONGEST_WINDOW = 64
"""In tokens; `check_identity` does not fill longer ones."""


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
    """The blocks that the model's config names as copies.

    Raises:
        AdaptbenchError: the model was not expanded.
    """
    indices = getattr(model.config, CONFIG_KEY, None)
    if not indices:
        raise AdaptbenchError(f"the model's config has no {CONFIG_KEY}: it was not expanded")
    layers = decoder_layers(model)
    return [layers[index] for index in indices]


def expand(model: "PreTrainedModel", sources: Sequence[int]) -> "PreTrainedModel":
    """A new model that computes what `model` computes, with a copy after each layer in `sources` (indices, ascending).

    Both models share the tensors of all layers but the copies, so that they take little more memory than one.

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
    ids = _tokens(base, 8 + max(size for size in (8, *windows) if size <= LONGEST_WINDOW))
    with _named(base):
        for way, options in (
            ("", None),
            (", generating with a cache", {"use_cache": True}),
            (", generating without cache", {"use_cache": False}),
        ):
            before, after = (_logits(model, ids, options) for model in (base, expanded))
            difference = (after - before).abs().max().item()
            if not difference <= 1e-6 * max(1.0, before.abs().max().item()):
                raise AdaptbenchError(f"copies are not identities (logits move by {difference:.2g}{way})")


def measure(model: "PreTrainedModel") -> str:
    """Why the model's layers cannot be copied as identities, "" if they can; leaves the model as it was.

    Copies the first layer, the last one, and those before and after a change of kind. The copies share the model's tensors.
    """
    try:
        with _named(model):
            layers = decoder_layers(model)
            places = range(len(layers))
            changes = [i for i in places[1:] if _difference(layers[i - 1], i - 1, layers[i], i, places)][:4]
            tried = {0, len(layers) - 1, *changes, *(i - 1 for i in changes)}
            expanded, _, silent = _expanded(model, sorted(tried))
            check_identity(model, expanded)
            _check_gradients(expanded, silent)
    except AdaptbenchError as error:
        return str(error).removeprefix(f"{type(model).__name__}: ").partition(" (logits move")[0]
    return ""


def _check_gradients(model: "PreTrainedModel", silent: "Sequence[nn.Parameter]") -> None:
    """Every silent parameter has a gradient, without which it would stay silent."""
    import torch

    ids = _tokens(model, 16)
    model.requires_grad_(False)
    for p in silent:
        p.requires_grad_(True)
    with _evaluated(model), torch.enable_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, silent, allow_unused=True)
    if not all(one is not None and one.isfinite().all() and one.any() for one in gradients):
        raise AdaptbenchError("copies would learn nothing: no gradient reaches what they write with")


def _logits(model: "PreTrainedModel", ids: "torch.Tensor", options: Mapping[str, Any] | None) -> "torch.Tensor":
    """In float32, of the tokens themselves or, under these options, of those that greedy generation adds."""
    import torch
    from transformers import GenerationConfig

    own = model.generation_config
    # What the model's directory recommends (penalties, sampling) would hide differences.
    model.generation_config = GenerationConfig()
    try:
        with _evaluated(model), torch.no_grad():
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
    finally:
        model.generation_config = own


def _tokens(model: "PreTrainedModel", count: int) -> "torch.Tensor":
    """Two rows of random tokens. Those with a meaning of their own (ends, pictures) have the lowest and the highest numbers."""
    import torch

    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    generator = torch.Generator().manual_seed(0)
    low, high = vocabulary // 4, vocabulary // 2
    return torch.randint(low, max(low + 1, high), (2, count), generator=generator).to(model.device)


@contextmanager
def _evaluated(model: "nn.Module") -> Iterator[None]:
    """Without dropout inside the block."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _named(model: "PreTrainedModel") -> Iterator[None]:
    """What goes wrong inside is one line that names the architecture. What its own code raises has no common kind."""
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
    """The expanded model, which shares all tensors with `model` but the silent ones; its new layers; what writes in them."""
    prefix, layers = _layers_with_name(model)
    chosen = sorted(set(sources))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(layers):
        raise AdaptbenchError(f"layers to copy must lie in 0..{len(layers) - 1}, got {list(sources)}")
    # origin[i]: the old index of the new model's layer i; new: the new indices of what is inserted.
    origin = [index for index in range(len(layers)) for _ in range(1 + (index in chosen))]
    new = [i for i in range(1, len(origin)) if origin[i] == origin[i - 1]]
    already = [origin.index(index) for index in getattr(model.config, CONFIG_KEY, None) or []]
    with _named(model):
        config = _config(model.config, origin)
        setattr(config, CONFIG_KEY, sorted([*new, *already]))
        expanded = _without_weights(model, config)
        made = decoder_layers(expanded)
        for index, source in enumerate(origin):
            if different := _difference(layers[source], source, made[index], index, origin):
                raise AdaptbenchError(f"copies would change what other layers are ({different})")
        _share(model, expanded, prefix, origin)
        weights = [p for layer in made for p in layer.parameters()]
        if len(set(weights)) < len(weights):
            raise AdaptbenchError("layers have weights in common, which would train in the copies")
        inserted = [made[index] for index in new]
        return expanded, inserted, _silence(expanded, inserted)


def _config(config: "PreTrainedConfig", origin: Sequence[int]) -> "PreTrainedConfig":
    """The configuration of a model whose layer i is of the kind of layer `origin[i]`, as it will be read from a file."""
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


def _without_weights(model: "PreTrainedModel", config: "PreTrainedConfig") -> "PreTrainedModel":
    """A model of `model`'s class with this configuration, whose parameters have shapes and no memory."""
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


def _share(model: "PreTrainedModel", expanded: "PreTrainedModel", prefix: str, origin: Sequence[int]) -> None:
    """Give the expanded model's layer i the tensors of `model`'s layer `origin[i]`, and the rest those of the rest."""
    index = re.compile(rf"(?<=^{re.escape(prefix)}\.)\d+")

    def source(name: str) -> str:
        return index.sub(lambda found: str(origin[int(found[0])]), name)

    before = model.state_dict()
    state = {}
    for name, empty in expanded.state_dict().items():
        old = before.get(source(name))
        if old is None or old.shape != empty.shape:
            raise AdaptbenchError(f"copies would change the shape of other weights ({name})")
        state[name] = old.detach()  # a tensor for each layer, in the same memory
    expanded.load_state_dict(state, strict=True, assign=True)
    expanded.tie_weights()
    # Buffers that no file keeps are made in the type that the model was opened in, which may not be the one it has now.
    buffers = dict(model.named_buffers())
    for name, buffer in expanded.named_buffers():
        buffer.data = buffers[source(name)].data


def _difference(one: "nn.Module", place: int, other: "nn.Module", other_place: int, origin: Sequence[int]) -> str:
    """What, but for its place, is not built alike in the second layer: the name of a module or of its attribute, or "".

    A list with a value for each layer must have the values of `origin` in the second.
    """
    import torch

    parts, others = dict(one.named_modules()), dict(other.named_modules())
    if parts.keys() != others.keys():
        return min(parts.keys() ^ others.keys())
    for name, part in parts.items():
        found = others[name]
        shapes = [{key: p is not None and p.shape for key, p in each._parameters.items()} for each in (part, found)]
        if type(part) is not type(found) or shapes[0] != shapes[1]:
            return name or type(found).__name__
        for key, value in vars(part).items():
            if (
                isinstance(value, bool | int | float | str | tuple | list | None)
                and key[0] != "_"
                and key != "training"
            ):
                new = vars(found).get(key)
                if isinstance(value, tuple | list) and isinstance(new, tuple | list):
                    by_layer = len(value) == max(origin) + 1 and list(new) == [value[old] for old in origin]
                    if by_layer or list(value) == list(new):
                        continue
                elif value == new or (value, new) == (place, other_place):
                    continue
                return f"{name}.{key}".lstrip(".")
    kept, buffers = one.state_dict(), dict(other.named_buffers())
    for name, buffer in one.named_buffers():
        alike = name in buffers and buffer.shape == buffers[name].shape
        # The rest of the buffers come from the first layer; these are computed, perhaps in a narrower type.
        if not alike or (name not in kept and not torch.allclose(buffer.float(), buffers[name].float(), rtol=1e-2)):
            return name
    return ""


# --- what writes to the residual stream

# Operations of autograd by which parts of a layer are scaled, moved and added up on their way into the residual stream.
_LINEAR = re.compile(
    "(Add|Sub|Mul|Div|View|UnsafeView|ReshapeAlias|ToCopy|Transpose|Permute|T|Squeeze|Unsqueeze|Expand|Clone|Index|IndexAdd"
    "|IndexPut|IndexSelect|Gather|Scatter|ScatterAdd|Sum|Cat|Stack|Split|SplitWithSizes|Slice|Select|AsStrided|MaskedFill"
    "|Where)Backward[0-9]+"
)
_NORMS = re.compile("(Rsqrt|NativeLayerNorm|FusedRmsNorm|NativeGroupNorm)Backward[0-9]+")


def _silence(model: "PreTrainedModel", layers: "Sequence[nn.Module]") -> "list[nn.Parameter]":
    """Let these layers of the model write nothing to the residual stream; return the parameters that wrote there.

    Raises:
        AdaptbenchError: none were found.
    """
    import torch

    silent = []
    for layer, writing in zip(layers, _writing(model, layers), strict=True):
        if not writing:
            raise AdaptbenchError(f"{type(layer).__name__}: no parameters found that write to the residual stream")
        # Of experts with modules of their own, only those that were asked are in the graph; the rest write alike.
        alike = {re.sub(r"\.\d+\.", ".#.", name): value for name, value in writing.items()}
        for name, p in layer.named_parameters():
            if (value := alike.get(re.sub(r"\.\d+\.", ".#.", name))) is not None:
                p.data = torch.full_like(p, value)
                silent += [p] if name in writing else []
    return silent


def _writing(model: "PreTrainedModel", layers: "Sequence[nn.Module]") -> list[dict[str, float]]:
    """For each layer the names of the parameters that write to the residual stream, and the value at which they write zeros."""
    import torch

    found: dict[int, dict[str, float]] = {}

    def enter(layer: "nn.Module", _: Any) -> None:
        layer.requires_grad_(True)

    def leave(layer: "nn.Module", _: Any, output: Any) -> Any:
        hidden, *rest = (output,) if isinstance(output, torch.Tensor) else output
        found[id(layer)] = _last(hidden.grad_fn, {p: name for name, p in layer.named_parameters()})
        layer.requires_grad_(False)
        return hidden.detach() if isinstance(output, torch.Tensor) else (hidden.detach(), *rest)

    model.requires_grad_(False)
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    try:
        with _evaluated(model), torch.enable_grad():
            model(input_ids=_tokens(model, 8), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        model.requires_grad_(True)
    return [found[id(layer)] for layer in layers]


def _last(result: Any, names: "Mapping[torch.Tensor, str]") -> dict[str, float]:
    """The last parameters on each way to this node of the graph, with the values at which nothing comes that way."""
    found: dict[str, float] = {}
    seen, todo = set(), [result]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        before = [one for one, _ in node.next_functions]
        own = dict(filter(None, (_parameter(one, names) for one in before)))
        found |= own
        if _NORMS.fullmatch(node.name()) and not own:
            raise AdaptbenchError("a norm without a gain follows what a layer writes")
        # A sum goes on beside a bias; before a matrix or a gain nothing matters any more.
        if _LINEAR.fullmatch(node.name()) and (not own or node.name().startswith("Add")):
            todo += [one for one in before if not _parameter(one, names)]
    return found


def _parameter(node: Any, names: "Mapping[torch.Tensor, str]") -> tuple[str, float] | None:
    """The parameter that this node hands on, moved or with one added, and the value at which it hands on zeros."""
    silent = 0.0
    while node is not None and not hasattr(node, "variable"):
        before = [one for one, _ in node.next_functions if one is not None]
        if len(before) != 1 or not _LINEAR.fullmatch(node.name()):
            return None
        silent = -1.0 if node.name().startswith("Add") else silent  # Gemma's gain is 1 + weight
        node = before[0]
    return (names[node.variable], silent) if node is not None and node.variable in names else None
