"""Reads facts about a model's architecture before it is opened: layers, longest input, missing capabilities."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

NAMES = {
    "causal": "a token's logits do not depend on what follows it",
    "packing": "documents that share a row do not see each other",
    "sharing": "examples with a common beginning can share its computation",
    "padding": "a row padded on the left computes what it computes alone",
    "caching": "generation with the model's cache writes what it writes without",
    "head": "logits are the product of the last hidden states and the output head's matrix, and nothing else",
    "expansion": "copies of layers can be inserted as identities",
    "embeddings": "it decodes from embeddings, in batches, with the model's own cache",
    "latents": "a latent vector can take the place of a token's embedding",
    "wavefront": "passes through latents can run in pieces",
}
"""Capabilities of a base model and their meaning."""

FALLBACKS = {
    "packing": "each document has a row for itself",
    "sharing": "the steps of a trajectory are separate samples",
    "padding": "answers are written one at a time",
    "caching": "answers are written without a cache",
    "wavefront": "passes through latents are made by Jacobi, exact too",
}
"""Capabilities with a slower and equally correct replacement, which is described."""

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
"""Names of the number of layers in config.json."""

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names of the longest input (tokens) in config.json."""

TABLE = Path(__file__).with_name("architectures.json")


@cache
def known() -> dict[str, dict[str, str]]:
    """Return the table of architectures: `model_type` -> missing capability -> reason."""
    return json.loads(TABLE.read_text(encoding="utf-8"))["architectures"]


def layers(config: Mapping[str, Any]) -> int | None:
    """Return the number of layers in a config.json; None if it is not there."""
    text = _text_config(config)
    return next((text[name] for name in LAYERS if isinstance(text.get(name), int)), None)


def longest_input(config: Mapping[str, Any]) -> int | None:
    """Return the longest input in a config.json, in tokens; None if it is not there.

    For LongRoPE this is the original length. Beyond it, the longest row decides how all tokens of a batch are rotated.
    """
    text = _text_config(config)
    rope = _mapping(text.get("rope_parameters")) or _mapping(text.get("rope_scaling"))
    found = [text.get(name) for name in POSITIONS]
    for one in (rope, *map(_mapping, rope.values())):
        if (one.get("rope_type") or one.get("type")) in ("longrope", "su"):
            name = "original_max_position_embeddings"
            found.append(text.get(name) or one.get(name))
    return min((one for one in found if isinstance(one, int)), default=None)


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(config.get("text_config")) or config


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def missing_capability(lacks: Mapping[str, str], needs: Iterable[Sequence[str]]) -> str:
    """Return why a base that lacks these capabilities cannot serve all runs; empty if it can.

    `needs` are triples as `validate.needs` returns them.
    """
    for run, key, capability in needs:
        if reason := lacks.get(capability):
            return f"cannot be the base of the run {run!r}, whose {key} needs that {NAMES[capability]}: {reason}"
    return ""


def log_fallbacks(lacking: Mapping[str, str]) -> dict[str, str]:
    """Log what replaces these capabilities, and why; return the same sentences by capability."""
    sentences = {name: f"{FALLBACKS[name]}: {reason}" for name, reason in lacking.items()}
    for sentence in sentences.values():
        print(sentence, file=sys.stderr)
    return sentences
