"""Counts the cost of training: floating-point operations and memory."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def estimated_flops(model: "torch.nn.Module", tokens: int, trained_tokens: int) -> int:
    """Return the matrix-multiplication FLOPs of training on `tokens` positions, without attention scores.

    2 per weight and token in the forward pass; 2 more in the backward pass, except in frozen layers below the first
    trained one; 2 more for each trained weight's gradient. The embedding is a look-up and costs nothing unless it is
    also the output head, which sees only the `trained_tokens`.
    """
    head = model.get_output_embeddings().weight
    parameters = [(name, p) for name, p in model.named_parameters() if p is not head]
    weights = [p.numel() if p.ndim == 2 and "embed" not in name else 0 for name, p in parameters]
    trains = [p.requires_grad for _, p in parameters] + [head.requires_grad]
    lowest = 0 if model.get_input_embeddings().weight.requires_grad else trains.index(True)
    trained = sum(weight for weight, moves in zip(weights, trains, strict=False) if moves)
    body = tokens * (sum(weights) + sum(weights[lowest:]) + trained)
    return 2 * (body + trained_tokens * head.numel() * (3 if head.requires_grad else 2))


def forward_flops(model: "torch.nn.Module", tokens: int) -> int:
    """Return the FLOPs of a forward pass: 2 per weight and token, without the embedding unless it is also the head."""
    head = model.get_output_embeddings().weight
    matrices = [
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and p is not head and "embed" not in name
    ]
    return 2 * tokens * (sum(matrices) + head.numel())


def forget_peak() -> None:
    """Reset the peak that `peak_bytes` returns, where the system can do that for resident memory (Linux)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return this process's peak memory in bytes: the accelerator's if there is one, else resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kB
