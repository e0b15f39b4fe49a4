"""Measures what a base model can do, once; every method asks here for what it needs of its base.

A capability maps to the reason why the base lacks it, empty where it has it. They are measured on the real model when it is taken
in, and kept in its adaptbench.json. Before any job they are known by `model_type` from architectures.json, which
tools/capabilities_table.py makes from a small random model of each architecture.
"""

import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.model.padding import padded, padded_left
from adaptbench.model.temporary import evaluated, generating

if TYPE_CHECKING:
    import torch

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
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""Options of configurations by which layers see a window or chunk alone."""
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names of the number of layers and of the longest input (tokens) in config.json."""
TABLE = Path(__file__).with_name("architectures.json")
TOLERANCE, ROUNDING = 1e-4, 1e-5
"""Differences of logits in float32, relative to the largest, between two ways to compute them, and between two runs of one way."""


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


def measure(model: Any) -> dict[str, str]:
    """Return, for every name in NAMES, why the model lacks that capability, "" where it has it.

    The model is in float32 and comes back as it was. It takes some forty passes over at most 72 tokens.
    """
    from adaptbench import expansion
    from adaptbench.latent import measure as latents

    return _measured(model) | {"expansion": _reason(expansion.measure, model)} | latents.measure(model)


def lacks(model: Any) -> dict[str, str]:
    """Return the reasons for the capabilities that this base lacks.

    What its architecture is known to lack counts, too: a limit of thousands of tokens does not show in short passes. Whether beginnings can be
    shared follows from the configuration alone.
    """
    of_architecture = known().get(model.config.model_type, {})
    measured = measure(model)
    found = {name: measured[name] or (of_architecture.get(name, "") if name != "sharing" else "") for name in NAMES}
    return {name: reason for name, reason in found.items() if reason}


def _measured(model: Any) -> dict[str, str]:
    """Return the reasons for what every run may need, whatever its method."""
    import torch

    checks = {
        "causal": _causal,
        "packing": _packing,
        "sharing": sharing,
        "padding": _padding,
        "caching": _caching,
        "head": _head,
    }
    attention = model.config._attn_implementation
    try:
        with evaluated(model), torch.no_grad():
            return {name: _reason(check, model) for name, check in checks.items()}
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)


def _reason(check: Callable[[Any], str], model: Any) -> str:
    """Return what `check` says; an exception of a model's own code is a reason, too."""
    try:
        return check(model)
    except Exception as error:  # what a model's code raises where it is used otherwise than planned has no common type
        said = " ".join(str(error).split())
        return f"raises {type(error).__name__}: {said}"[:160].rstrip()


def _causal(model: Any) -> str:
    first, second = _tokens(model, 20, 1), _tokens(model, 20, 2)
    whole = _alone(model, first)
    if _far(_alone(model, first[:12] + second[12:])[:12], whole[:12]):
        return "a token sees what follows it"
    rows = [first, first[:7]]
    ids, mask = padded(rows, _pad(model)), padded([[1] * len(row) for row in rows], 0)
    for more in ({"attention_mask": mask}, {}):
        logits = model(input_ids=ids.to(model.device), use_cache=False, **_placed(more, model)).logits
        if _far(logits[0, :20], whole) or _far(logits[1, :7], whole[:7]):
            return "a row filled up at its end computes something else"
    return ""


def _packing(model: Any) -> str:
    """Attend in both ways that training may choose: a row's later documents neither change with the first nor differ from alone."""
    from adaptbench.packing import collate, document

    ways = dict.fromkeys((model.config._attn_implementation, "eager"))
    documents = [_tokens(model, size, size) for size in (9, 37, 22)]
    others = [_tokens(model, 9, 99), *documents[1:]]
    for way in ways:
        if way is not None and way != model.config._attn_implementation:
            model.set_attn_implementation(way)
        logits = []
        for row in (documents, others):
            rows = [[document(ids) for ids in row], [document(ids) for ids in (row[2], row[0], row[1])]]
            batch = collate(rows, 72, _pad(model))
            inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
            logits.append(model(**_placed(inputs, model), use_cache=False).logits)
        before, after = (_joined(one[0, 9:68], one[1, :22], one[1, 31:68]) for one in logits)
        if _far(after, before, ROUNDING):
            return f"documents that share a row see each other ({way} attention)"
        alone = _joined(*(_alone(model, ids) for ids in (*documents, documents[2], documents[0], documents[1])))
        if _far(_joined(logits[0][0, :68], logits[0][1, :68]), alone):
            return f"a document in a shared row is not computed as alone ({way} attention)"
    return ""


def sharing(model: Any) -> str:
    """Return why examples with a common beginning cannot share its computation; empty if they can."""
    from adaptbench.packing import IGNORED, Example, collate, document
    from adaptbench.prefixes import share

    if reason := windows(model.config.get_text_config()):
        return reason
    begin = _tokens(model, 20, 3)
    ends = [_tokens(model, size, size) for size in (14, 6, 9)]
    (joined,) = share([Example([*begin, *end], [*[IGNORED] * len(begin), *end]) for end in ends], 64)
    separate = document(_tokens(model, 11, 4))
    batch = collate([[joined, separate]], 64, _pad(model))
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask")}
    logits = model(**_placed(inputs, model), use_cache=False).logits[0]
    parts = [(0, joined), *joined.branches, (0, separate)]
    place = 0
    for start, part in parts:
        whole = [*joined.input_ids[:start], *part.input_ids]
        if _far(logits[place : place + len(part.input_ids)], _alone(model, whole)[start:]):
            return "a branch of a shared beginning is not computed as alone"
        place += len(part.input_ids)
    return ""


def windows(config: Any) -> str:
    """Return which option makes layers see a window or chunk alone; short passes would not show it."""
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"its layers are of other kinds than full attention ({', '.join(sorted(kinds))})"
    found = next((name for name in WINDOWS if getattr(config, name, None) is not None), "")
    return f"its layers see a window alone ({found})" if found else ""


def _padding(model: Any) -> str:
    return "a row padded on the left computes something else" if _generation(model, (34, 21, 5)) else ""


def _caching(model: Any) -> str:
    return "generation with the cache writes something else" if _generation(model, (34,)) else ""


def _head(model: Any) -> str:
    import torch

    given: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        logits = _alone(model, _tokens(model, 9, 5))
    finally:
        hook.remove()
    plain = len(given) == 1 and not _far(torch.nn.functional.linear(given[0][0], head.weight), logits)
    return "" if plain else "its logits are more than the product with the head's matrix"


def _generation(model: Any, sizes: Sequence[int]) -> bool:
    """Return whether greedy generation after prompts of these sizes, side by side, has other logits than each row alone without cache."""
    from transformers import GenerationConfig

    prompts = [_tokens(model, size, 10 + size) for size in sizes]
    ids, mask = padded_left(prompts, _pad(model))
    options = GenerationConfig(
        max_new_tokens=12, do_sample=False, return_dict_in_generate=True, output_logits=True, pad_token_id=_pad(model)
    )
    with generating(model, options):
        made = model.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    written = made.sequences[:, ids.shape[1] :]
    for row, prompt in enumerate(prompts):
        alone = _alone(model, [*prompt, *written[row].tolist()])[len(prompt) - 1 : -1]
        if _far(_joined(*(step[row][None] for step in made.logits)), alone):
            return True
    return False


def _alone(model: Any, ids: Sequence[int]) -> "torch.Tensor":
    """Return the logits (tokens, vocabulary) of one row, without cache, mask or positions."""
    import torch

    return model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0]


def _joined(*parts: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.cat(parts)


def _tokens(model: Any, count: int, seed: int) -> list[int]:
    """Return ordinary tokens: those with a meaning (ends, pictures) have the lowest and highest numbers."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return random.Random(f"capabilities/{seed}").choices(range(vocabulary // 8, vocabulary * 3 // 4), k=count)


def _pad(model: Any) -> int:
    pad = getattr(model.config.get_text_config(), "pad_token_id", None) or 0
    return pad if 0 <= pad < len(model.get_input_embeddings().weight) else 0  # some configurations say -1 for none


def _placed(inputs: "Mapping[str, torch.Tensor]", model: Any) -> "dict[str, torch.Tensor]":
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def _far(ours: "torch.Tensor", theirs: "torch.Tensor", tolerance: float = TOLERANCE) -> bool:
    """Return whether two tensors differ by more than the tolerance; what is no number is far from everything."""
    return not bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())
