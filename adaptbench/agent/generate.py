"""Greedy generation for agents, with a memory of earlier prompts."""

from collections.abc import Collection, Hashable, Sequence
from itertools import takewhile
from typing import Any

from adaptbench.agent.memory import Kept, Memory, layers_of
from adaptbench.data.padding import padded_left
from adaptbench.model.scoring import end_ids, greedily

PART = 16  # new tokens after which a batch is looked at for rows that have ended


class Member:
    """A role's model; `use` makes it ready where roles share one model. What it has read is in `memory`, if it can be kept."""

    def __init__(self, model: Any, tokenizer: Any, use: Any, memory: Memory | None = None) -> None:
        self.model, self.tokenizer, self.use = model, tokenizer, use
        self.memory = memory if has_separable_cache(model, windows=False) else None


def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    memory: Memory | None = None,
    dialogues: Sequence[Hashable] = (),
    *,
    cached: bool = True,
) -> list[list[int]]:
    """The likeliest token again and again until the end of text, for all prompts at once, with a cache of keys and values.

    Every PART tokens the rows that have ended leave the batch, if the model keeps nothing but keys and values. What `memory`
    holds of a prompt's dialogue is not computed again, and what was computed here is kept in it.
    Returns each prompt's new tokens, the end of text left out.
    """
    import torch

    longest = max(map(len, prompts))
    ids, seen = (one.to(model.device) for one in padded_left(prompts, tokenizer.pad_token_id))
    made: list[list[int]] = [[] for _ in prompts]
    rows, cache = list(range(len(prompts))), None
    if memory is not None:
        left = max(len(one) - memory.known(key, one) for key, one in zip(dialogues, prompts, strict=True))
        cache = memory.cache(dialogues, [max(0, len(one) - left) for one in prompts])
    part = PART if cached and has_separable_cache(model) else max_new_tokens
    ends = end_ids(model, tokenizer)
    with torch.inference_mode(), greedily(model, tokenizer, cached=cached):
        while rows:
            out = model.generate(
                input_ids=ids,
                attention_mask=seen,
                past_key_values=cache,
                max_new_tokens=min(part, max_new_tokens - len(made[rows[0]])),
                return_dict_in_generate=True,
            )
            new = out.sequences[:, ids.shape[1] :]
            for row, tokens in zip(rows, new.tolist(), strict=True):
                made[row] += tokens
            going = [
                i for i, row in enumerate(rows) if len(before_end(made[row], ends)) == len(made[row]) < max_new_tokens
            ]
            if memory is not None:
                for i in sorted(set(range(len(rows))).difference(going)):
                    row = rows[i]
                    # The last token that was written has not been read.
                    known = [*prompts[row], *before_end(made[row][:-1], ends)]
                    begin = longest - len(prompts[row])
                    of_row = layers_of(out.past_key_values, i, begin, begin + len(known))
                    memory.keep(dialogues[row], Kept(known, of_row))
            rows = [rows[i] for i in going]
            if rows:
                cache = out.past_key_values
                cache.batch_select_indices(torch.tensor(going, device=model.device))
                ids, seen = out.sequences[going], torch.cat([seen, torch.ones_like(new)], dim=1)[going]
    return [before_end(one, ends) for one in made]


def before_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens before the first of `ends`, all where there is none."""
    return list(takewhile(lambda token: token not in ends, ids))


def has_separable_cache(model: Any, *, windows: bool = True) -> bool:
    """Whether rows can be taken out of the model's cache: keys and values of every layer, no recurrent state.

    Without `windows` the cache must also hold every token that was read.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    kinds = (DynamicLayer, DynamicSlidingWindowLayer) if windows else (DynamicLayer,)
    return bool(layers) and all(type(layer) in kinds for layer in layers)
