"""The lm-eval model that every way of decoding scores by: lm-eval's own for Hugging Face models, where that is right.

Differences from lm-eval 0.4.13:
- what a tokenizer appends to every text is left out, as nothing could follow it;
- generation is greedy unless a task asks for something else: what the model's directory recommends is not used;
- a text longer than the model's input is scored in windows, where lm-eval fails;
- an answer gets half of the model's input at most, where lm-eval fails or cuts the prompt to a few tokens;
- each item that does not fit is counted (`too_long`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from adaptbench.config.architectures import log_fallbacks, longest_input
from adaptbench.data.padding import padded_left
from adaptbench.data.tokenizer import encode_prompts
from adaptbench.model.temporary import generating

TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm-eval's names for how many tokens an answer may have."""
Pair = tuple[list[int], list[int]]


class ScoringLM(HFLM):
    """An lm-eval `LM` over an opened model.

    Attributes:
        generation_batch_size: rows that generate side by side; one where padding or caching is among what the base `lacks`.
        instead: what is done in place of what the base lacks.
        cached: whether generation keeps what the model has computed of earlier tokens.
        too_long: the documents that did not fit, by task, each with what was done.
    """

    def __init__(
        self, model: Any, tokenizer: Any, batch_size: int, lacks: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        # lm-eval's cache of logits joins requests of the same tokens. Where they differ in where the continuation begins, it
        # reads the shorter one's log-probabilities at the longer one's first positions (`_loglikelihood_tokens`).
        super().__init__(
            pretrained=model,
            backend="causal",  # what was opened is a causal model, though its kind may exist with an encoder, too
            tokenizer=tokenizer,
            batch_size=batch_size,
            logits_cache=False,
            max_length=longest_input(model.config.to_dict()),  # of a model that says nothing lm-eval takes 2,048
        )
        self.cached = not lacks.get("caching")
        self.generation_batch_size = batch_size if self.cached and not lacks.get("padding") else 1
        self.instead = log_fallbacks({name: lacks[name] for name in ("padding", "caching") if lacks.get(name)})
        self.too_long: dict[str, dict[int, str]] = {}

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Return the text's tokens, after those that the tokenizer puts before a text, unless it begins with the first of them."""
        if add_special_tokens is None:
            add_special_tokens = not has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
        if add_special_tokens:
            (ids,) = encode_prompts(self.tokenizer, [string])
        else:
            ids = self.tokenizer.encode(string, add_special_tokens=False)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and mask (rows, longest), padded on the left, without the beginning of what is too long."""
        rows = [self.tok_encode(one, left_truncate_len=left_truncate_len) or [self.prefix_token_id] for one in strings]
        return padded_left(rows, self.tokenizer.pad_token_id)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return for each request the log-probability of its continuation (nats), and whether it is the greedy one."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            context, continuation = self._pair(*request.args)
            if len(context) + len(continuation) > self.max_length + 1:
                parts = len(continuation) > self.max_length
                self.note(request, "read in windows" if parts else "cut at the prompt's beginning")
            for window in self._windows(context, continuation):
                windows.append((None, *window))
                owners.append(number)
        scores, greedy = [0.0] * len(requests), [True] * len(requests)
        for number, (score, likeliest) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            scores[number] += score
            greedy[number] &= likeliest
        return list(zip(scores, greedy, strict=True))

    def _pair(self, context: str, continuation: str) -> Pair:
        """Return the tokens of a context and those of what follows it, as lm-eval does where it does not fail."""
        start = [self.prefix_token_id]
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            return (ids[:1], ids[1:]) if ids[:1] == start else (start, ids)
        before, after = self._encode_pair(context, continuation)
        if not after:  # the continuation has joined the context's last token
            whole = self.tok_encode(context + continuation)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, before, strict=False)))
            before, after = whole[:same], whole[same:]
        return before or start, after

    def _windows(self, context: list[int], continuation: list[int]) -> list[Pair]:
        """Return what is scored in one pass each: all at once, or windows of a continuation that is longer than the input."""
        if len(continuation) <= self.max_length:
            return [(context, continuation)] if continuation else []
        rolling = get_rolling_token_windows(continuation, context[-1], self.max_length, context_len=1)
        return [make_disjoint_window(window) for window in rolling]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability (nats) of each request's whole text."""
        for request in requests:
            if len(self.tok_encode(*request.args)) > self.max_length:
                self.note(request, "read in windows")
        return super().loglikelihood_rolling(list(requests), disable_tqdm)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the answers in order; a prompt that leaves no room for an answer loses its beginning."""
        asked = []
        for request in requests:
            prompt, options = request.args
            wanted = normalize_gen_kwargs(options, self.max_gen_toks)["max_gen_toks"]
            room = self.room(wanted)
            self.note_prompts([request], room)
            if room < wanted:
                options = {name: value for name, value in options.items() if name not in TOKEN_LIMITS}
                options["max_gen_toks"] = room
            asked.append(SimpleNamespace(args=(prompt, options)))
        scored_by = self.batch_size
        self.batch_size_per_gpu = self.generation_batch_size
        try:
            return super().generate_until(asked, disable_tqdm)
        finally:
            self.batch_size_per_gpu = scored_by

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        with greedily(self.model, self.tokenizer, cached=self.cached):
            return super()._model_generate(context, max_length, stop, **options)

    def room(self, wanted: int) -> int:
        """Return how many tokens of the model's input an answer gets."""
        return min(wanted, self.max_length // 2)

    def note_prompts(self, requests: Sequence[Any], room: int) -> None:
        """Note the requests whose prompts leave less than `room` tokens for their answers."""
        for request in requests:
            if len(self.tok_encode(request.args[0])) + room > self.max_length:
                self.note(request, "cut at the prompt's beginning")

    def note(self, request: Any, done: str) -> None:
        """Note a request that does not fit into the model's input, and what is done instead."""
        self.too_long.setdefault(request.task_name, {})[request.doc_id] = done


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's end of text, and special tokens that the model's directory names as ends."""
    named = model.generation_config.eos_token_id
    named = [named] if isinstance(named, int) else named or []
    added: Mapping[int, Any] = tokenizer.added_tokens_decoder
    others = (one for one in named if one in added and added[one].special)
    return list(dict.fromkeys((tokenizer.eos_token_id, *others)))


@contextmanager
def greedily(model: Any, tokenizer: Any, *, cached: bool = True) -> Iterator[None]:
    """Inside the block `model.generate` takes the likeliest token until the text ends, whatever the model's directory recommends.

    Penalties, suppressed or forced tokens, lengths, beams and sampling that a directory brings would change what is compared.
    """
    from transformers import GenerationConfig

    config = GenerationConfig(eos_token_id=end_ids(model, tokenizer), pad_token_id=tokenizer.pad_token_id)
    if not cached:  # lm-eval asks for a cache by name
        generate = model.generate
        model.generate = lambda **options: generate(**{**options, "use_cache": False, "past_key_values": None})
    try:
        with generating(model, config):
            yield
    finally:
        if not cached:
            del model.generate
