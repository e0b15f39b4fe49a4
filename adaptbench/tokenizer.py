"""Trains the byte-level BPE tokenizer: any text can be read, digits stand alone, one token begins and ends a document."""

from collections.abc import Iterable, Sequence
from pathlib import Path

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


def encode_prompts(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Prompts' tokens: special tokens before a text as the tokenizer adds them, no end of text after it, as some add."""
    end = tokenizer.eos_token_id
    encoded = tokenizer(list(texts)).input_ids
    return [list(ids[:-1]) if len(ids) > 1 and ids[-1] == end else list(ids) for ids in encoded]


def encode_documents(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Documents' tokens as they are trained on: special tokens as the tokenizer adds them, then end of text."""
    end = tokenizer.eos_token_id
    encoded = tokenizer(list(texts)).input_ids
    return [list(ids) if len(ids) > 1 and ids[-1] == end else [*ids, end] for ids in encoded]
