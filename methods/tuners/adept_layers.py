"""ADEPT's stage 1: which layers general ability needs least, measured by bypassing one layer after another.

Paper: arXiv 2510.10071, general-competence guided selective expansion. A layer's importance is the rise of the mean
next-token loss on general text when the layer is bypassed.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch


def probe_batches(config: Any, context: StageContext) -> "list[Mapping[str, torch.Tensor]]":
    """Return the probe corpus as packed batches on the context's device.

    Documents do not see each other, and padding has no label. `config` is ADEPT's, as in all functions here.

    Raises:
        AdaptbenchError: the general benchmark has no probe corpus, or fewer documents than the config asks for.
    """
    from adaptbench.data.packing import Packed, document
    from adaptbench.data.tokenizer import encode_documents
    from adaptbench.io.jsonl import read_jsonl

    path = context.data["general"] / "splits" / "probe.jsonl"
    if not path.exists():
        raise AdaptbenchError("data.general: this benchmark has no probe corpus, which adept measures importance on")
    texts = [record["text"] for record in read_jsonl(path, require=("text",))]
    if config.probe_documents is not None and config.probe_documents > len(texts):
        raise AdaptbenchError(f"tuner.probe_documents: must be <= {len(texts)}, the documents of the probe corpus")
    texts = texts[: config.probe_documents]
    assert context.tokenizer is not None
    examples = [document(ids) for ids in encode_documents(context.tokenizer, texts)]
    packed = Packed(examples, config.probe_length, seed=0, together=context.can("packing"))
    rows = packed.epoch(0)
    size, pad = config.probe_batch_size, context.tokenizer.pad_token_id
    batches = [packed.collate(rows[i : i + size], pad) for i in range(0, len(rows), size)]
    return [{name: tensor.to(context.device) for name, tensor in batch.items()} for batch in batches]


def layer_importance(model, batches: "Sequence[Mapping[str, torch.Tensor]]") -> tuple[float, list[float]]:
    """Return the probe loss L0 (nats a token), and for every layer l the rise L(l) - L0 when l returns its input.

    The hidden states that enter the bypassed layer are the base's own. They are kept from the base's forward pass,
    which halves the cost of bypassing all layers in turn.
    """
    import torch

    from adaptbench.model.expansion import decoder_layers
    from adaptbench.train.objectives import causal_lm

    layers = decoder_layers(model)
    totals = torch.zeros(len(layers) + 1, dtype=torch.float64)
    tokens = 0
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            labelled = int((batch["labels"][:, 1:] >= 0).sum())
            bypassed: list[Any] = []
            hooks = [layer.register_forward_hook(_keep_input(bypassed), with_kwargs=True) for layer in layers]
            try:
                losses = [causal_lm(model, batch)]
            finally:
                for hook in hooks:
                    hook.remove()
            for index in range(len(layers)):
                with _Bypass(layers, index, bypassed[index]):
                    losses.append(causal_lm(model, batch))
            totals += torch.stack(losses).double().cpu() * labelled
            tokens += labelled
    base, *bypassed = (totals / tokens).tolist()
    return base, [loss - base for loss in bypassed]


def _keep_input(bypassed: list[Any]):
    """Return a forward hook that appends the output of a layer that does nothing.

    That is the layer's input, beside whatever else the layer returns (attention weights, say).
    """
    import torch

    def hook(layer, given, named, output) -> None:
        hidden_states = given[0] if given else named["hidden_states"]
        bypassed.append(hidden_states if isinstance(output, torch.Tensor) else (hidden_states, *output[1:]))

    return hook


class _Bypass:
    """A context in which layer `index` returns `bypassed`, its own input, and the layers below it compute nothing."""

    def __init__(self, layers, index: int, bypassed: Any) -> None:
        self.layers, self.bypassed = layers[: index + 1], bypassed

    def __enter__(self) -> None:
        for layer in self.layers:
            layer.forward = lambda *_, **__: self.bypassed

    def __exit__(self, *_: object) -> None:
        for layer in self.layers:
            del layer.forward


def choose_layers(config: Any, layers: int, importance: Sequence[float] | None, seed: int) -> list[int]:
    """Return the indices of the chosen layers of a base of `layers` layers, in ascending order.

    Args:
        importance: of every layer; needed where the placement is the lowest or the highest.

    Raises:
        AdaptbenchError: the base lacks a chosen layer, or an importance is not a number.
    """
    from adaptbench.model.expansion import evenly_spread

    if missing := config.missing_layers(layers):
        raise AdaptbenchError(f"tuner.{missing}")
    if isinstance(config.placement, tuple):
        return list(config.placement)
    if config.placement == "uniform":
        return evenly_spread(layers, config.layers)
    if config.placement == "suffix":
        return list(range(layers - config.layers, layers))
    if config.placement == "random":
        return sorted(random.Random(f"{seed}/adept").sample(range(layers), config.layers))
    assert importance is not None
    for layer, value in enumerate(importance):
        if not value > -math.inf:
            raise AdaptbenchError(f"layer {layer} of the base: its importance is {value}, which has no order")
    ordered = sorted(range(layers), key=lambda layer: importance[layer], reverse=config.placement == "highest")
    return sorted(ordered[: config.layers])
