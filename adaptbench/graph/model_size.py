"""Finds the size of a preset's base model, from its configuration, the hub or published figures."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from adaptbench.config.preset import Preset
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import published
from adaptbench.graph.nodes import Graph
from adaptbench.io import hub

ASSUMED_LAYERS = 32
"""Layers of a model whose configuration is unknown."""


@dataclass(frozen=True)
class Assumptions:
    """Quantities that no preset contains.

    Attributes:
        flops: a GPU's FLOPs a second: H100 SXM, bfloat16 without sparsity (NVIDIA's data sheet).
        utilisation: the share of `flops` that is reached.
        gpus: GPUs that work at the same time, one job each.
        epoch_tokens: tokens of an epoch, if the data are not there yet and no size of them is published.
        stock_task_tokens: tokens that a model processes for a task of lm-eval.
        task_tokens: tokens that a model processes for a task of a benchmark.
        layer_seconds: the least duration of a layer in a training step: about 135 operations and casts to bfloat16,
            started one by one.
        latent_passes: sequential passes of a step with latents: one more than the most latents of a row.
        token_seconds: the least duration of a layer to generate the next token of a batch.
        answer_tokens: tokens of the longest answer of a batch.
        answers: generated answers of a task, if no option sets their number.
        turns: turns of a live episode.
        job_seconds: seconds to start a job on its GPU, without waiting in a queue.
        read_rate: bytes of a model that are read in a second.
    """

    flops: float = 989e12
    utilisation: float = 0.35
    gpus: int = 1
    epoch_tokens: float = 10e6
    stock_task_tokens: float = 5e6
    task_tokens: float = 2e5
    layer_seconds: float = 0.002
    latent_passes: float = 8.0
    token_seconds: float = 0.0005
    answer_tokens: float = 100.0
    answers: float = 1000.0
    turns: float = 5.0
    job_seconds: float = 10.0
    read_rate: float = 1e9


@dataclass(frozen=True)
class Shape:
    """A model's size.

    Attributes:
        layers: number of layers.
        layer: parameters of a layer.
        head: parameters of the output head.
        rest: parameters outside of the layers.
        hidden: hidden size.
        bytes: bytes of a stored parameter.
        origin: the source of these numbers.
        missing: bytes that must be downloaded.
    """

    layers: int
    layer: int
    head: int
    rest: int
    hidden: int
    bytes: float
    origin: str
    missing: int = 0

    def parameters(self, layers: int) -> int:
        """Return the number of parameters with this number of layers."""
        return self.rest + layers * self.layer


def shape(graph: Graph, *, online: bool = True) -> Shape:
    """Return the base's size, from the first of these sources that is available.

    They are: the architecture of a base that is pre-trained here, the imported base, its folder, the hub's cache, the
    hub (if `online`), its published size, its name.

    Raises:
        AdaptbenchError: its size is unknown.
    """
    base = graph.preset.base
    if base.model is None:
        return _from_architecture(graph.preset)
    (node,) = (node.id for node in graph.nodes.values() if node.kind == "imported_base")
    imported = hub.find_local(str(graph.directory(node)), "main")
    if found := imported or hub.find_local(base.model, base.revision):
        try:
            return _from_config(found)
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {base.model}: {error}") from None
    why = "not in the hub's cache"
    if online:
        try:
            return _from_config(hub.find_remote(base.model, base.revision))
        except AdaptbenchError as error:  # a base that preflight.py refuses can still be estimated
            why = str(error)
    if base.model in published.MODELS:
        return _from_published(published.MODELS[base.model], f"its published config.json: {why}")
    return _from_name(base.model, why)


def _from_architecture(preset: Preset) -> Shape:
    """Return the size of the Qwen3 model that is pre-trained here, in float32."""
    made = preset.base.architecture
    size = published.Model(
        made.num_hidden_layers,
        made.hidden_size,
        made.intermediate_size,
        made.num_attention_heads,
        made.num_key_value_heads,
        made.hidden_size // made.num_attention_heads,
        preset.tokenizer.vocabulary,
        tied=made.tie_word_embeddings,
        head_norms=True,
    )
    return Shape(size.layers, size.layer, size.head, size.rest, size.hidden, 4.0, "base.architecture")


def _from_published(size: published.Model, origin: str) -> Shape:
    """Return a published size, in 16 bits, as all of these models are stored."""
    missing = 2 * (size.rest + size.layers * size.layer)
    return Shape(size.layers, size.layer, size.head, size.rest, size.hidden, 2.0, origin, missing)


def _from_config(found: hub.ModelInfo) -> Shape:
    """Return the size from a model's config.json and weights.

    Raises:
        AdaptbenchError: there are no weights, or sizes are no whole numbers above zero.
    """
    inner = found.config.get("text_config")
    config = inner if isinstance(inner, Mapping) else found.config
    if not found.parameters:
        raise AdaptbenchError("no weights in its safetensors files")
    stored = found.bytes / found.parameters
    sizes = {"num_hidden_layers", "hidden_size", "vocab_size"} & config.keys()
    for name in sorted(sizes):
        if not isinstance(config[name], int) or isinstance(config[name], bool) or config[name] < 1:
            raise AdaptbenchError(f"config.json: {name} is {config[name]!r}; it must be a whole number above zero")
    if len(sizes) < 3:  # other names in older architectures
        layer = found.parameters // ASSUMED_LAYERS
        origin = f"{found.origin}, {ASSUMED_LAYERS} layers assumed"
        return Shape(ASSUMED_LAYERS, layer, 0, 0, math.isqrt(layer // 12), stored, origin, found.missing)
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    head = config["vocab_size"] * hidden
    layer = (found.parameters - head * (1 if config.get("tie_word_embeddings") else 2)) // layers
    rest = found.parameters - layers * layer
    return Shape(layers, layer, head, rest, hidden, stored, found.origin, found.missing)


def _from_name(model: str, why: str) -> Shape:
    """Return the size from the parameters in a model's name; n layers of width h have about 12 n h^2 parameters."""
    found = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", model.casefold())
    if found is None:
        raise AdaptbenchError(f"base.model: {why}; and its name does not say how large it is")
    layer = round(float(found[1]) * 1e9 / ASSUMED_LAYERS)
    origin = f"its name alone, {ASSUMED_LAYERS} layers assumed: {why}"
    return Shape(ASSUMED_LAYERS, layer, 0, 0, math.isqrt(layer // 12), 2.0, origin, 2 * ASSUMED_LAYERS * layer)
