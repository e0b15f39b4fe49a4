"""Generate greedily for agents, with a memory of earlier prompts."""

from collections.abc import Collection, Hashable, Sequence
from itertools import takewhile
from typing import Any

from adaptbench.agent.memory import Kept, Memory, layers_of
from adaptbench.data.padding import padded_left
from adaptbench.model.scoring import end_ids, greedily

PART = 16  # new tokens between two checks for rows that have ended


class Member:
    """A role's model.

    `use()` activates it where roles share one model. `memory` holds keys and values of its earlier prompts; None where
    the model's cache cannot be split by rows.
    """

    def __init__(self, model: Any, tokenizer: Any, use: Any, memory: Memory | None = None) -> None:
        self.model, self.tokenizer, self.use = model, tokenizer, use
        self.memory = memory if has_separable_cache(model, windows=False) else None


def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    memory: Memory | None = None,
    dialogues: Sequence[Hashable] = (),
    cached: bool = True,
) -> list[list[int]]:
    """Return each prompt's likeliest next tokens, up to the end of text or `max_new_tokens`.

    All prompts are one batch, padded on the left. Every PART tokens the rows that have ended leave the batch, if the
    model's cache holds nothing but keys and values.

    Args:
        memory: keys and values of earlier prompts. What it holds is not computed again, and what is computed is added.
        dialogues: the key in `memory` of each prompt.
        cached: whether the model generates with a cache.
    """
    import torch

    longest = max(map(len, prompts))
    ids, seen = (one.to(model.device) for one in padded_left(prompts, tokenizer.pad_token_id))
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt of each row of the batch
    cache = None if memory is None else _cache_of_known(memory, dialogues, prompts)
    part = PART if cached and has_separable_cache(model) else max_new_tokens
    ends = end_ids(model, tokenizer)
    with torch.inference_mode(), greedily(model, tokenizer, cached=cached):
        while rows:
            out = model.generate(
                input_ids=ids,
                attention_mask=seen,
                past_key_values=cache,
                max_new_tokens=min(part, max_new_tokens - len(written[rows[0]])),
                return_dict_in_generate=True,
            )
            new = out.sequences[:, ids.shape[1] :]
            for row, tokens in zip(rows, new.tolist(), strict=True):
                written[row] += tokens
            going = []
            for i, row in enumerate(rows):
                if len(before_end(written[row], ends)) == len(written[row]) < max_new_tokens:
                    going.append(i)
                elif memory is not None:
                    known = [*prompts[row], *before_end(written[row][:-1], ends)]  # the last token has not been read
                    padding = longest - len(prompts[row])
                    layers = layers_of(out.past_key_values, i, padding, padding + len(known))
                    memory.keep(dialogues[row], Kept(known, layers))
            rows = [rows[i] for i in going]
            if rows:
                cache = out.past_key_values
                cache.batch_select_indices(torch.tensor(going, device=model.device))
                ids, seen = out.sequences[going], torch.cat([seen, torch.ones_like(new)], dim=1)[going]
    return [before_end(one, ends) for one in written]


def _cache_of_known(memory: Memory, dialogues: Sequence[Hashable], prompts: Sequence[Sequence[int]]) -> Any:
    """Return a cache of what the memory holds, such that all prompts go on from the same column of the padded batch."""
    unknown = max(len(one) - memory.known(key, one) for key, one in zip(dialogues, prompts, strict=True))
    return memory.cache(dialogues, [max(0, len(one) - unknown) for one in prompts])


def before_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens before the first of `ends`, or all if there is none."""
    return list(takewhile(lambda token: token not in ends, ids))


def has_separable_cache(model: Any, *, windows: bool = True) -> bool:
    """Return whether rows can be taken out of the model's cache: it has keys and values only, no recurrent state.

    Without `windows`, sliding windows do not count: the cache must hold every token that was read.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    kinds = (DynamicLayer, DynamicSlidingWindowLayer) if windows else (DynamicLayer,)
    return bool(layers) and all(type(layer) in kinds for layer in layers)
