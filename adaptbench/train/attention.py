"""Chooses the precision and the attention implementation of a training stage."""

from typing import TYPE_CHECKING

from adaptbench.config.training import Training

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


MANY_SCORES = 1 << 30  # bytes kept for eager attention's backward pass: 6 a score, in float32 and again in bfloat16


def precision(training: Training) -> str:
    """Return the precision of the forward pass, float32 or bfloat16.

    `auto` is bfloat16 on devices with instructions for it: emulated, it takes up to twice the time of float32
    (docs/log.md).
    """
    import torch

    if training.precision != "auto":
        return training.precision
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def choose_attention(model: "PreTrainedModel", training: Training, rows: int, device: "torch.device") -> str:
    """Choose eager on bfloat16 CPUs if the scores fit in MANY_SCORES bytes, else what transformers chose for the model.

    On such a CPU fused attention is slower (docs/performance.md). The scores are those that a pass of `rows` rows keeps
    for the backward pass. An implementation that the training options name stays.
    """
    now: str = model.config._attn_implementation
    if training.attention != "auto" or now != "sdpa" or precision(training) != "bfloat16" or device.type != "cpu":
        return now
    config = model.config.get_text_config()
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if not layers or not heads:
        return now
    kept = 1 if training.gradient_checkpointing else layers
    return "eager" if 6 * kept * heads * rows * training.sequence_length**2 <= MANY_SCORES else now
