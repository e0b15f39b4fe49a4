"""Trains the byte-level BPE tokenizer, and encodes documents and prompts with the special tokens of any tokenizer.

The trained one can encode any text, has a token for each digit, and one token that begins and ends a document.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text
from adaptbench.io.jsonl import read_json

END_OF_TEXT = "<|endoftext|>"


def train(texts: Iterable[str], vocabulary: int, out: Path) -> None:
    """Write a fast Hugging Face tokenizer with at most `vocabulary` tokens.

    Every encoded text begins with the end-of-text token, as documents do in training and as lm-eval's scoring does, so
    that the model sees the same first token everywhere.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )
    fast.save_pretrained(out)


def encode_prompts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return prompts' tokens, with the special tokens that the tokenizer puts before a text and none that it appends.

    Some tokenizers append the end of text or a separator: a model's answer would come after the end.
    """
    closing = list(closers(tokenizer))
    count = len(closing)
    encoded = map(list, tokenizer(list(texts)).input_ids)
    return [ids[:-count] if 0 < count < len(ids) and ids[-count:] == closing else ids for ids in encoded]


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return documents' tokens as they are trained on: those of `encode_prompts`, then end of text."""
    end = tokenizer.eos_token_id
    encoded = encode_prompts(tokenizer, texts)
    return [ids if len(ids) > 1 and ids[-1] == end else [*ids, end] for ids in encoded]


@lru_cache(maxsize=16)
def closers(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that the tokenizer appends to every text, usually none."""
    bare, whole = (tokenizer("a", add_special_tokens=added).input_ids for added in (False, True))
    start = next((start for start in range(len(whole)) if whole[start : start + len(bare)] == bare), len(whole))
    return tuple(whole[start + len(bare) :])


def check_ids(tokenizer: Any, rows: int) -> list[str]:
    """Check that a model with `rows` rows of embeddings can read the tokens that it will be given.

    Returns:
        Added tokens without a row that only occur if a text has their name, such as an image's.

    Raises:
        AdaptbenchError: another token has no row.
    """
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    used = {*named, *tokenizer("a").input_ids}
    beyond = {number: token for token, number in sorted(tokenizer.get_vocab().items()) if number >= rows}
    for number in sorted(beyond):
        if number in used or number not in tokenizer.added_tokens_decoder:
            raise AdaptbenchError(
                f"its tokenizer's {beyond[number]!r} is token {number}, but the model has embeddings for {rows}; "
                "resize its embeddings (resize_token_embeddings), or remove the token"
            )
    return list(beyond.values())


def forget(folder: Path, tokens: Collection[str]) -> None:
    """Remove added tokens from a saved tokenizer, which then reads their names as any other text.

    Raises:
        AdaptbenchError: the tokenizer has no tokenizer.json.
    """
    if not tokens:
        return
    whole, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not whole.exists():
        raise AdaptbenchError(f"its tokenizer's {min(tokens)!r} has no row in the model's embeddings; remove the token")
    content = read_json(whole)
    content["added_tokens"] = _without(content["added_tokens"], tokens)
    write_text(whole, json.dumps(content, ensure_ascii=False) + "\n")
    write_text(config, json.dumps(_without(read_json(config), tokens), ensure_ascii=False, indent=1) + "\n")


def _without(content: Any, tokens: Collection[str]) -> Any:
    """Return JSON without the values that are these tokens, as text or as an object with options."""

    def kept(value: Any) -> bool:
        return (value.get("content") if isinstance(value, dict) else value) not in tokens

    if isinstance(content, dict):
        return {name: _without(value, tokens) for name, value in content.items() if kept(value)}
    return [_without(value, tokens) for value in content if kept(value)] if isinstance(content, list) else content
