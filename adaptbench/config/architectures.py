"""What is known of a model's architecture before it is opened: layers, longest input, missing capabilities."""

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


INSTEAD = {
    "packing": "each document has a row for itself",
    "sharing": "the steps of a trajectory are separate samples",
    "padding": "answers are written one at a time",
    "caching": "answers are written without a cache",
    "wavefront": "passes through latents are made by Jacobi, exact too",
}
"""What is done where a capability is lacking, which is slower and as right."""


LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")


POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names of the number of layers and of the longest input (tokens) in config.json."""


TABLE = Path(__file__).with_name("architectures.json")


@cache
def known() -> dict[str, dict[str, str]]:
    """Return the reasons by capability of every architecture in the table, by `model_type`."""
    return json.loads(TABLE.read_text(encoding="utf-8"))["architectures"]


def layers(config: Mapping[str, Any]) -> int | None:
    """Return how many layers a model with this config.json has, None where that does not say."""
    text = _of_text(config)
    return next((text[name] for name in LAYERS if isinstance(text.get(name), int)), None)


def longest_input(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model with this config.json reads, None where that does not say.

    Of LongRoPE it is the original length: beyond, the longest row decides how all rows of a batch are rotated, from their first token on.
    """
    text = _of_text(config)
    rope = _mapping(text.get("rope_parameters")) or _mapping(text.get("rope_scaling"))
    found = [text.get(name) for name in POSITIONS]
    for one in (rope, *map(_mapping, rope.values())):
        if (one.get("rope_type") or one.get("type")) in ("longrope", "su"):
            name = "original_max_position_embeddings"
            found.append(text.get(name) or one.get(name))
    return min((one for one in found if isinstance(one, int)), default=None)


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(config.get("text_config")) or config


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def problem(lacks: Mapping[str, str], needs: Iterable[Sequence[str]]) -> str:
    """Return why a base that lacks these capabilities cannot serve all runs, "" if it can; `needs` as checks.needs returns them."""
    for run, key, capability in needs:
        if reason := lacks.get(capability):
            return f"cannot be the base of the run {run!r}, whose {key} needs that {NAMES[capability]}: {reason}"
    return ""


def instead(lacking: Mapping[str, str]) -> dict[str, str]:
    """Say in the log what is done in place of these capabilities, and why; return the same sentences by capability."""
    said = {name: f"{INSTEAD[name]}: {reason}" for name, reason in lacking.items()}
    for sentence in said.values():
        print(sentence, file=sys.stderr)
    return said
