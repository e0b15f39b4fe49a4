"""Measures the capabilities of a base model, once, for every method.

A capability maps to the reason why the base lacks it, or to "". They are measured on the real model when it is
imported, and kept in its adaptbench.json. Before any job they are known by `model_type` from architectures.json, which
tools/capabilities_table.py makes from a small random model of each architecture.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.data.padding import padded, padded_left
from adaptbench.model.temporary import evaluated, generating

if TYPE_CHECKING:
    import torch


WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""Options of configurations that limit layers to a window or chunk."""


TOLERANCE, ROUNDING = 1e-4, 1e-5
"""Allowed relative differences of float32 logits: between two ways to compute them, and between two runs of one."""


def measure_general(model: Any) -> dict[str, str]:
    """Return the reasons for the capabilities that any run may need, whatever its method."""
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
            return {name: reason_of(check, model) for name, check in checks.items()}
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)


def reason_of(check: Callable[[Any], str], model: Any) -> str:
    """Return the reason that `check` gives; an exception of the model's code is a reason, too."""
    try:
        return check(model)
    except Exception as error:  # a model's code may raise anything
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
    """Check that later documents of a row do not change with the first, nor differ from separate rows.

    Both attention implementations of training are tried.
    """
    from adaptbench.data.packing import collate, document

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
    from adaptbench.data.packing import IGNORED, Example, collate, document
    from adaptbench.data.prefixes import share

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
    """Return which option limits layers to a window or chunk, which short passes would not show; "" if none."""
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
    """Return whether a batch of prompts of these sizes generates with other logits than each row without cache."""
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
    """Return ordinary tokens: special ones (ends, images) have the lowest and highest numbers."""
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
