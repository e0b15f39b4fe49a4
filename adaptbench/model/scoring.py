"""The lm-eval model for all scores and decoding: lm-eval's model for Hugging Face models, with corrections.

Differences from lm-eval 0.4.13:
- tokens that a tokenizer appends to every text are left out, as nothing could follow them;
- generation is greedy unless a task sets something else: recommendations of the model's directory are ignored;
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
"""lm-eval's names for the maximum number of tokens of an answer."""
Pair = tuple[list[int], list[int]]


class ScoringLM(HFLM):
    """An lm-eval `LM` over an opened model.

    Attributes:
        generation_batch_size: rows that generate together; one if the base `lacks` padding or caching.
        instead: the slower ways taken for capabilities that the base lacks.
        cached: whether generation uses the key-value cache.
        too_long: the documents that did not fit, by task, each with the way it was handled.
    """

    def __init__(
        self, model: Any, tokenizer: Any, batch_size: int, lacks: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        # lm-eval's cache of logits joins requests of the same tokens. If their continuations begin at different
        # positions, it reads the shorter one's log-probabilities at the longer one's first positions
        # (`_loglikelihood_tokens`).
        super().__init__(
            pretrained=model,
            backend="causal",  # although its architecture may also exist with an encoder
            tokenizer=tokenizer,
            batch_size=batch_size,
            logits_cache=False,
            max_length=longest_input(model.config.to_dict()),  # lm-eval would assume 2,048 if the config has none
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
        """Return the text's tokens, with the tokenizer's prefix unless the text already begins with its first token."""
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
        """Return tokens and mask (rows, longest), padded on the left; too long texts lose their beginnings."""
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
        """Return the tokens of a context and of its continuation, as lm-eval does where it does not fail."""
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
        """Return the pairs to score, one a pass: the pair, or windows if the continuation exceeds the model's input."""
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
        fitted = []
        for request in requests:
            prompt, options = request.args
            wanted = normalize_gen_kwargs(options, self.max_gen_toks)["max_gen_toks"]
            room = self.room(wanted)
            self.note_prompts([request], room)
            if room < wanted:
                options = {name: value for name, value in options.items() if name not in TOKEN_LIMITS}
                options["max_gen_toks"] = room
            fitted.append(SimpleNamespace(args=(prompt, options)))
        scored_by = self.batch_size
        self.batch_size_per_gpu = self.generation_batch_size
        try:
            return super().generate_until(fitted, disable_tqdm)
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
    """Return the tokens that end an answer: the end of text, and special tokens that the model's directory names."""
    named = model.generation_config.eos_token_id
    named = [named] if isinstance(named, int) else named or []
    added: Mapping[int, Any] = tokenizer.added_tokens_decoder
    others = (one for one in named if one in added and added[one].special)
    return list(dict.fromkeys((tokenizer.eos_token_id, *others)))


@contextmanager
def greedily(model: Any, tokenizer: Any, *, cached: bool = True) -> Iterator[None]:
    """Make `model.generate` greedy inside the block, whatever the model's directory recommends.

    A directory's penalties, suppressed or forced tokens, lengths, beams and sampling would change the comparison.
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
