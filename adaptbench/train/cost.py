"""What training costs: floating-point operations and memory."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def estimated_flops(model: "torch.nn.Module", tokens: int, trained_tokens: int) -> int:
    """Matrix-multiplication FLOPs of training on `tokens` positions, attention scores left out.

    2 per weight and token forward; 2 more backward through every layer from the lowest trained one up; 2 more for each
    trained weight's gradient. The embedding is a look-up and costs nothing unless it is the output head as well, which sees
    the `trained_tokens` only.
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
    """The same without training: 2 per weight and token, the embedding left out unless it is the head as well."""
    head = model.get_output_embeddings().weight
    matrices = [
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and p is not head and "embed" not in name
    ]
    return 2 * tokens * (sum(matrices) + head.numel())


def forget_peak() -> None:
    """`peak_bytes` counts from here on, where the system can do that for resident memory (Linux)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the most memory in bytes that this process has held: the accelerator's where there is one, else resident memory."""
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
