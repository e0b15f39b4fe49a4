"""A latent token of hidden state and prediction: softmax, nucleus or top-k, mean embedding, mix (LT-Tuning, arXiv 2602.10229, section 3.3).

The likeliest tokens' probabilities, made to sum to one, are a softmax over their logits alone. So nothing as wide as the
vocabulary is needed but the sum that says how much of the probability they hold: the largest logits are ranked, few rows of the
embedding are read, and gradients reach those few. The plain way sorts, writes several matrices (rows, vocabulary) and multiplies
one with the whole embedding. With small vocabularies the product is cheap, and only the sorting is saved.
"""

from typing import Any, Literal

import torch

from adaptbench.kernels.implementations import Implementation, chosen, ran, triton_there

RANKED = 64  # tokens that are ranked first; a trained model hardly ever needs more
DENSE = 8192  # up to so many tokens one product with the whole embedding is faster than picking rows of it, on a CPU
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Nucleus = Literal["released", "standard", "top_k"]


def latent_fusion(
    hidden: torch.Tensor,
    logits: torch.Tensor,
    embeddings: torch.Tensor,
    *,
    alpha: float,
    excluded: int,
    nucleus: Nucleus = "released",
    top_p: float = 0.9,
    top_k: int = 3,
    temperature: float = 1.0,
    factor: float = 1.0,
    implementation: Implementation | None = None,
) -> torch.Tensor:
    """alpha * hidden + (1 - alpha) * factor * mean embedding of the likeliest tokens.

    Args:
        hidden: (..., width).
        logits: (..., vocabulary).
        embeddings: (vocabulary, width).
        excluded: a token that no prediction counts.
        nucleus: `released`, tokens whose summed probability stays within `top_p` (at least one); `standard`, with the one
            that crosses it; `top_k`, the `top_k` likeliest. Of tokens that are as likely, the first ones.
        factor: the number by which a model multiplies its embeddings.

    Returns:
        (..., width), in the dtype of `hidden`; differentiable in hidden, logits and embeddings.

    Raises:
        ValueError: shapes or devices that do not fit, numbers that are not floating point, or options that mean nothing.
    """
    if (
        hidden.shape[:-1] != logits.shape[:-1]
        or logits.shape[-1:] != embeddings.shape[:1]
        or hidden.shape[-1:] != embeddings.shape[1:]
    ):
        raise ValueError(
            f"latent_fusion: hidden {tuple(hidden.shape)}, logits {tuple(logits.shape)} and embeddings"
            f" {tuple(embeddings.shape)} do not fit; they are (..., width), (..., vocabulary) and (vocabulary, width)"
        )
    tensors = (hidden, logits, embeddings)
    if len({one.device for one in tensors}) > 1 or not all(one.dtype.is_floating_point for one in tensors):
        said = ", ".join(f"{one.dtype} on {one.device}" for one in tensors)
        raise ValueError(f"latent_fusion: {said}; all three must be floating point and on one device")
    if not 0 <= alpha <= 1 or not 0 < top_p <= 1 or top_k < 1 or not temperature > 0:
        raise ValueError(
            f"latent_fusion: alpha {alpha}, top_p {top_p}, top_k {top_k}, temperature {temperature}: out of range"
        )
    if nucleus not in ("released", "standard", "top_k"):
        raise ValueError(f"latent_fusion: no nucleus {nucleus!r}")
    if not 0 <= excluded < len(embeddings):
        raise ValueError(f"latent_fusion: token {excluded} is not one of {len(embeddings)}")
    way = chosen("latent_fusion", hidden, implementation, dtypes=DTYPES)
    options = (alpha, excluded, nucleus, top_p, top_k, temperature)
    if way == "reference":
        ran("latent_fusion", way)
        return reference(hidden, logits, embeddings, *options, factor)
    by_triton = way == "triton" and embeddings.dtype in DTYPES
    ranked = None
    if by_triton or len(embeddings) > DENSE:
        ranked = _ranked(logits.detach(), options)
    ran("latent_fusion", "triton" if by_triton and ranked is not None else "torch")
    if ranked is None:
        mixed = _over_all(logits, options).to(embeddings.dtype) @ embeddings
    else:
        mixed = _mixed(logits, embeddings, ranked, options, by_triton)
    return alpha * hidden + (1 - alpha) * factor * mixed.to(hidden.dtype)


def reference(
    hidden: torch.Tensor, logits: torch.Tensor, embeddings: torch.Tensor,
    alpha: float, excluded: int, nucleus: Nucleus, top_p: float, top_k: int, temperature: float, factor: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Every step over the whole vocabulary, as the equations say it."""
    probabilities = _probabilities(logits, excluded, temperature)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    if nucleus == "top_k":
        inside = torch.arange(ordered.shape[-1], device=ordered.device).expand_as(ordered) < top_k
    elif top_p == 1:  # sums of probabilities may pass one
        inside = torch.ones_like(ordered, dtype=torch.bool)
    else:
        inside = ordered.cumsum(-1) <= top_p if nucleus == "released" else before < top_p
    first = torch.zeros_like(inside)
    first[..., 0] = True
    kept = torch.zeros_like(inside).scatter(-1, order, inside | first)
    weights = probabilities * kept
    weights = (weights / weights.sum(-1, keepdim=True)).to(embeddings.dtype)
    return alpha * hidden + (1 - alpha) * factor * (weights @ embeddings).to(hidden.dtype)


def _probabilities(logits: torch.Tensor, excluded: int, temperature: float) -> torch.Tensor:
    """Of all tokens but the excluded one, in float32 or more."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    barred = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    barred[excluded] = True
    return scores.masked_fill(barred, -torch.inf).softmax(-1)


def _over_all(logits: torch.Tensor, options: tuple) -> torch.Tensor:
    """The weights (..., vocabulary) of the tokens that a prediction mixes; they sum to one. Only the likeliest are sorted."""
    _, excluded, nucleus, top_p, top_k, temperature = options
    probabilities = _probabilities(logits, excluded, temperature)
    kept = probabilities * _likeliest(probabilities, nucleus, top_p, top_k)
    return kept / kept.sum(-1, keepdim=True)


def _likeliest(probabilities: torch.Tensor, nucleus: Nucleus, top_p: float, top_k: int) -> torch.Tensor:
    """Which tokens the nucleus holds (..., vocabulary); of tokens that are as likely, the first ones."""
    if nucleus != "top_k" and top_p == 1:  # sums of probabilities may pass one
        return torch.ones_like(probabilities, dtype=torch.bool)
    many = top_k if nucleus == "top_k" else RANKED
    ranked = probabilities.topk(min(many, probabilities.shape[-1]), dim=-1).values
    if nucleus == "top_k":
        count = torch.full_like(ranked[..., :1], ranked.shape[-1], dtype=torch.long)
    else:
        if (ranked.sum(-1) <= top_p).any():  # the nucleus is larger than most
            ranked = probabilities.sort(dim=-1, descending=True).values
        total = ranked.cumsum(-1)
        inside = total <= top_p if nucleus == "released" else total - ranked < top_p
        count = inside.sum(-1, keepdim=True).clamp(min=1)
    least = ranked.gather(-1, count - 1)
    above, equal = probabilities > least, probabilities == least
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def _ranked(logits: torch.Tensor, options: tuple) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The likeliest tokens (..., n), likeliest first, and which of them are mixed; None where more than these would be."""
    _, excluded, nucleus, top_p, top_k, temperature = options
    vocabulary = logits.shape[-1]
    many = min(vocabulary, (top_k if nucleus == "top_k" else RANKED) + 1)  # the excluded token may be among them
    if (nucleus != "top_k" and top_p == 1) or not logits.numel():
        return None
    scores = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).index_fill(
        -1, torch.tensor([excluded], device=logits.device), -torch.inf
    )
    most = min(vocabulary, many + 1)  # one more, to see whether a tie goes on
    ranked, tokens = scores.topk(most, dim=-1)
    tokens, by_token = tokens.sort(dim=-1)  # of equal scores the first token first, which topk does not promise
    ranked, by_score = ranked.gather(-1, by_token).sort(dim=-1, descending=True, stable=True)
    tokens = tokens.gather(-1, by_score)
    if nucleus == "top_k":
        inside = torch.arange(most, device=logits.device).expand_as(ranked) < top_k
    else:
        probabilities = (ranked - scores.logsumexp(-1, keepdim=True)).exp()
        total = probabilities.cumsum(-1)
        inside = total <= top_p if nucleus == "released" else total - probabilities < top_p
    inside = inside.clone()
    inside[..., 0] = True
    inside &= (ranked > -torch.inf) | ranked.isnan()  # a row without any number is nan, not nothing
    least = torch.where(inside, ranked, torch.inf).amin(-1)
    if most < vocabulary and bool(
        (ranked[..., -1] >= least).any()
    ):  # larger than what was ranked, or a tie that goes on
        return None
    return tokens, inside


def _mixed(
    logits: torch.Tensor,
    embeddings: torch.Tensor,
    ranked: tuple[torch.Tensor, torch.Tensor],
    options: tuple,
    by_triton: bool,
) -> torch.Tensor:
    """The mean embedding (..., width) of the ranked tokens that are inside."""
    tokens, inside = ranked
    most = max(1, int(inside.sum(-1).max()))
    tokens, inside = tokens[..., :most], inside[..., :most]
    scores = logits.gather(-1, tokens)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / options[-1]
    weights = scores.masked_fill(~inside, -torch.inf).softmax(-1).to(embeddings.dtype).reshape(-1, most)
    flat = tokens.reshape(-1, most)
    if by_triton:
        mixed = _WeightedRows.apply(flat.contiguous(), weights.contiguous(), embeddings)
    else:
        mixed = torch.nn.functional.embedding_bag(flat, embeddings, per_sample_weights=weights, mode="sum")
    return mixed.reshape(*logits.shape[:-1], embeddings.shape[1])


class _WeightedRows(torch.autograd.Function):
    """Sums of rows of a matrix, times weights: (rows, k) tokens and weights and (vocabulary, width) to (rows, width)."""

    @staticmethod
    def forward(ctx: Any, tokens: Any, weights: Any, embeddings: Any) -> torch.Tensor:
        ctx.save_for_backward(tokens, weights, embeddings)
        embeddings = embeddings.contiguous()
        rows, k = tokens.shape
        width = embeddings.shape[1]
        found = embeddings.new_empty(rows, width)
        if found.numel():
            grid = (rows, -(-width // BLOCK))
            _KERNELS["sum"][grid](tokens, weights, embeddings, found, k, width, BLOCK=BLOCK)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        tokens, weights, embeddings = ctx.saved_tensors
        gradient = gradient.contiguous()
        rows, k = tokens.shape
        width = embeddings.shape[1]
        to_weights = torch.zeros_like(weights, dtype=torch.float32)
        to_embeddings = torch.zeros_like(embeddings, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        if gradient.numel() and k:
            _KERNELS["back"][(rows, k)](
                tokens, weights, embeddings.contiguous(), gradient, to_weights,
                to_weights if to_embeddings is None else to_embeddings, k, width, SCATTER=to_embeddings is not None, BLOCK=BLOCK,
            )  # fmt: skip
        return None, to_weights.to(weights.dtype), None if to_embeddings is None else to_embeddings.to(embeddings.dtype)


BLOCK = 256
_KERNELS: dict[str, Any] = {}
if triton_there():
    import triton
    import triton.language as tl

    @triton.jit
    def _sum_of_rows(tokens, weights, embeddings, found, k, width, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = place < width
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for i in range(k):
            token = tl.load(tokens + row * k + i)
            weight = tl.load(weights + row * k + i).to(tl.float32)
            total += weight * tl.load(embeddings + token * width + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(found + row * width + place, total.to(found.dtype.element_ty), mask=inside)

    @triton.jit
    def _back_to_rows(
        tokens, weights, embeddings, gradient, to_weights, to_embeddings, k, width,
        SCATTER: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        i = tl.program_id(1)
        token = tl.load(tokens + row * k + i)
        weight = tl.load(weights + row * k + i).to(tl.float32)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for start in range(0, width, BLOCK):
            place = start + tl.arange(0, BLOCK)
            inside = place < width
            g = tl.load(gradient + row * width + place, mask=inside, other=0.0).to(tl.float32)
            total += g * tl.load(embeddings + token * width + place, mask=inside, other=0.0).to(tl.float32)
            if SCATTER:
                tl.atomic_add(to_embeddings + token * width + place, weight * g, mask=inside)
        tl.store(to_weights + row * k + i, tl.sum(total, 0))

    _KERNELS |= {"sum": _sum_of_rows, "back": _back_to_rows}
