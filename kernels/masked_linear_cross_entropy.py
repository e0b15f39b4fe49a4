"""Computes cross-entropy after an output head, only for labelled positions and a chunk of their logits at a time.

Most of a training row is prompt, padding or observation, whose logits would be computed and kept for the backward pass
for nothing. Here only labelled rows reach the head, in chunks: each chunk's logits become its loss and its gradients at
once (the idea of cut cross-entropy, arXiv 2411.09009, in plain torch). There is no Triton kernel: the time is that of
two matrix products, which torch's libraries compute on any device.
"""

from typing import Any

import torch

from adaptbench.kernels.implementations import Implementation, choose, record

IGNORED = -100
CHUNK_BYTES = 1 << 26  # of float32 logits at once


def masked_linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    implementation: Implementation | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> torch.Tensor:
    """Return the mean cross-entropy (nats) over the labelled positions; nan if there is none, as torch does.

    Args:
        hidden: (..., width), the head's input.
        weight: (vocabulary, width), the head without bias.
        labels: (...), the token to predict at each position, or IGNORED.

    Returns:
        A scalar in float32, or in float64 where `hidden` is; differentiable once in `hidden` and `weight`.

    Raises:
        ValueError: shapes, devices or dtypes that do not fit, or labels that are not int64 or not in the vocabulary.
    """
    _check(hidden, weight, labels)
    way = choose("masked_linear_cross_entropy", hidden, implementation, dtypes=())
    kept = labels != IGNORED
    targets = labels[kept]
    if targets.numel() and (targets.min() < 0 or targets.max() >= len(weight)):
        raise ValueError(
            f"masked_linear_cross_entropy: labels from {int(targets.min())} to {int(targets.max())};"
            f" the vocabulary has {len(weight)}"
        )
    record("masked_linear_cross_entropy", way)
    if way == "reference":
        return reference(hidden, weight, labels)
    rows = max(1, chunk_bytes // (4 * max(len(weight), 1)))
    return _Chunked.apply(hidden[kept], weight, targets, rows)


def _check(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> None:
    if hidden.shape[:-1] != labels.shape or hidden.shape[-1:] != weight.shape[1:] or weight.ndim != 2:
        raise ValueError(
            f"masked_linear_cross_entropy: hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)} and labels"
            f" {tuple(labels.shape)} do not fit; they are (..., width), (vocabulary, width) and (...)"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"masked_linear_cross_entropy: labels are {labels.dtype}; they must be int64")
    if not hidden.dtype.is_floating_point or not weight.dtype.is_floating_point:
        raise ValueError(f"masked_linear_cross_entropy: {hidden.dtype} and {weight.dtype}; both must be floating point")
    devices = {one.device for one in (hidden, weight, labels)}
    if len(devices) > 1:
        raise ValueError(
            f"masked_linear_cross_entropy: tensors on {sorted(map(str, devices))}; they must be on one device"
        )
    if hidden.dtype != weight.dtype and _lowered(hidden) != _lowered(weight):
        raise ValueError(
            f"masked_linear_cross_entropy: hidden is {hidden.dtype} and weight {weight.dtype}; both must be alike"
        )


def reference(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute all logits, then torch's cross-entropy."""
    logits = torch.nn.functional.linear(hidden, weight).reshape(-1, len(weight))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED)


def _lowered(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype in which a matrix product computes; autocast does not change float64."""
    if tensor.dtype == torch.float64 or not torch.is_autocast_enabled(tensor.device.type):
        return tensor.dtype
    return torch.get_autocast_dtype(tensor.device.type)


class _Chunked(torch.autograd.Function):
    """Computes the gradients in the forward pass, while a chunk's logits exist."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, rows: int) -> torch.Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        count = len(hidden)
        loss = hidden.new_zeros((), dtype=wide)
        ctx.count, ctx.dtypes = max(count, 1), (hidden.dtype, weight.dtype)
        if not count:
            ctx.save_for_backward(torch.zeros_like(hidden), torch.zeros_like(weight))
            return loss / 0
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        low = _lowered(hidden)
        head = weight.to(low)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, count, rows):
                part = hidden[start : start + rows].to(low)
                target = targets[start : start + rows, None]
                logits = (part @ head.T).to(wide)
                total = logits.logsumexp(1, keepdim=True)
                loss += (total - logits.gather(1, target)).sum()
                if to_hidden is None and to_weight is None:
                    continue
                change = logits.sub_(total).exp_()  # softmax
                change.scatter_add_(1, target, torch.full_like(total, -1.0))
                change = change.to(low)
                if to_hidden is not None:
                    to_hidden[start : start + rows] = change @ head
                if to_weight is not None:
                    to_weight += change.T @ part
        if to_weight is not None and weight.dtype != torch.float16:  # whose range a sum over all positions may exceed
            to_weight = to_weight.to(weight.dtype)
        ctx.save_for_backward(to_hidden, to_weight)
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Multiply the sums over positions by gradient / count, in float32 or more as it may hold a loss scale."""
        found = []
        for sums, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True):
            wide = torch.promote_types(dtype, torch.float32)
            found.append(None if sums is None else (sums.to(wide) * (gradient / ctx.count).to(wide)).to(dtype))
        return *found, None, None
