"""Opens and writes model directories: Hugging Face ones plus adaptbench.json, which says how they were made."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.model_folder import check_weights, lacks, unreadable, write_manifest
from adaptbench.model.tied import separate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


CONSTANTS = re.compile(r"(inv_freq|masked_bias|causal_mask|(^|\.)(attn|attention)\.bias)$")
"""Tensors that earlier versions of transformers stored: rotary frequencies and masks, which every model computes."""


def load_model(path: Path, *, dtype: "torch.dtype | str" = "auto", attention: str = "auto") -> "PreTrainedModel":
    """Open a model directory; never runs code from it, never reads pickles.

    Raises:
        AdaptbenchError: it cannot be opened, or its weights are not those that its configuration asks for, in one line.
    """
    from transformers import AutoModelForCausalLM

    check_weights(path)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=None if attention == "auto" else attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below; transformers alone shows a table on several lines
        )
    except Exception as error:  # a configuration can make transformers raise anything
        raise unreadable(path, error) from None
    if other := sorted(found["mismatched_keys"]):
        name, stored, asked = other[0]
        shapes = " where config.json asks for ".join("x".join(map(str, shape)) for shape in (stored, asked))
        raise AdaptbenchError(f"{path}: {name} is {shapes}, one of {len(other)} tensors of another shape")
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would go on with random values.
        raise AdaptbenchError(f"{path}: no weights for {missing[0]}, one of {len(missing)} that are missing")
    unexpected = sorted(name for name in found["unexpected_keys"] if not CONSTANTS.search(name))
    if unexpected:
        named = ", ".join(unexpected[:3]) + (", ..." if len(unexpected) > 3 else "")
        raise AdaptbenchError(
            f"{path}: the model of config.json has no place for {len(unexpected)} of its tensors: {named}"
        )
    _train_padding(model)
    separate(model)
    model.base_lacks = lacks(path)
    return model


def _train_padding(model: Any) -> None:
    """Let the padding token's embedding train as an input, as that token may also begin every document.

    transformers makes pad_token_id the `padding_idx` of the embeddings, a row without a gradient in PyTorch. Tied to
    the head it trains through the head. A row of zeros stays as it is: the norms after it would make its gradient so
    large that nothing else trained.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    pad = getattr(embeddings, "padding_idx", None)
    if pad is not None and head is not None and embeddings.weight is not head.weight and embeddings.weight[pad].any():
        embeddings.padding_idx = None


def load_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """Open a model directory's tokenizer; never runs code from it.

    Raises:
        AdaptbenchError: it cannot be opened, in one line.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise unreadable(path, error) from None


def save_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    manifest: dict[str, Any] | None = None,
) -> None:
    """Write a model directory that plain `from_pretrained` opens."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_manifest(out, manifest or {})
