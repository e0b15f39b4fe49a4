"""How large a preset's base model is, from its configuration, the hub or published figures."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from adaptbench.config.preset import Preset
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import published
from adaptbench.graph.nodes import Graph
from adaptbench.io import hub

ASSUMED_LAYERS = 32  # of a model of which only the name is known


@dataclass(frozen=True)
class Assumptions:
    """What no preset says."""

    flops: float = 989e12  # a GPU's in a second: H100 SXM, bfloat16 without sparsity (NVIDIA's data sheet)
    utilisation: float = 0.35  # the share of them that is reached
    gpus: int = 1  # that work at a time, one job each
    epoch_tokens: float = 10e6  # of an epoch, where the data are not there yet and nothing is published of them
    stock_task_tokens: float = 5e6  # that a task of lm-eval puts through a model
    task_tokens: float = 2e5  # the same, a task of a benchmark here
    layer_seconds: float = 0.002  # that a layer takes in a training step at least: some 135 operations and casts to bfloat16, started one by one
    latent_passes: float = 8.0  # of a step with latents, one after another: one more than the most of a row
    token_seconds: float = 0.0005  # that a layer takes at least to write the next token of a batch
    answer_tokens: float = 100.0  # of an answer, in the longest of its batch
    answers: float = 1000.0  # that a task has written, where no option says how many
    turns: float = 5.0  # in which a live episode is written
    job_seconds: float = 10.0  # to start a job on its GPU, waiting in a queue apart
    read_rate: float = 1e9  # bytes of a model that are read in a second


@dataclass(frozen=True)
class Shape:
    """A model's size: parameters of a layer, of the output head and of all but the layers; bytes of a stored parameter.

    `missing` are bytes that must be downloaded, `origin` says how all this is known.
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
        return self.rest + layers * self.layer


def shape(graph: Graph, *, ask: bool = True) -> Shape:
    """The base's size: of its architecture; as it was taken in; of its folder, the hub's cache, the hub (if it may `ask`); where none can be
    had, as it is published, else of its name.

    Raises:
        AdaptbenchError: nothing says how large it is.
    """
    base = graph.preset.base
    if base.model is None:
        return _of_architecture(graph.preset)
    (node,) = (node.id for node in graph.nodes.values() if node.kind == "imported_base")
    taken_in = hub.local(str(graph.directory(node)), "main")
    if found := taken_in or hub.local(base.model, base.revision):
        try:
            return _of_config(found)
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {base.model}: {error}") from None
    why = "not in the hub's cache"
    if ask:
        try:
            return _of_config(hub.ask(base.model, base.revision))
        except (
            AdaptbenchError
        ) as error:  # what the start would refuse (adaptbench/graph/preflight.py) can still be estimated
            why = str(error)
    if base.model in published.MODELS:
        return _of_published(published.MODELS[base.model], f"its published config.json: {why}")
    return _of_name(base.model, why)


def _of_architecture(preset: Preset) -> Shape:
    """Qwen3 as it is pre-trained here, in float32."""
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


def _of_published(size: published.Model, origin: str) -> Shape:
    """In 16 bits, as all of them are stored."""
    missing = 2 * (size.rest + size.layers * size.layer)
    return Shape(size.layers, size.layer, size.head, size.rest, size.hidden, 2.0, origin, missing)


def _of_config(found: hub.Found) -> Shape:
    """What the model's config.json and its weights say.

    Raises:
        AdaptbenchError: there are no weights, or its sizes are no whole numbers above zero.
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


def _of_name(model: str, why: str) -> Shape:
    """By the rule that n layers of width h have 12 n h^2 parameters."""
    said = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", model.casefold())
    if said is None:
        raise AdaptbenchError(f"base.model: {why}; and its name does not say how large it is")
    layer = round(float(said[1]) * 1e9 / ASSUMED_LAYERS)
    origin = f"its name alone, {ASSUMED_LAYERS} layers assumed: {why}"
    return Shape(ASSUMED_LAYERS, layer, 0, 0, math.isqrt(layer // 12), 2.0, origin, 2 * ASSUMED_LAYERS * layer)
