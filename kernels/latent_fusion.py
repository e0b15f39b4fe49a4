"""Makes latent tokens: the mean embedding of the likeliest tokens, mixed with the hidden state.

Source: LT-Tuning, arXiv 2602.10229, section 3.3. The renormalised probabilities of the likeliest tokens are a softmax
    over their
logits alone. So only one sum over the vocabulary is needed, for the share of the probability that they hold: the
largest logits are ranked, few rows of the embedding are read, and gradients reach those few. The reference sorts,
writes several matrices (rows, vocabulary) and multiplies one with the whole embedding. With small vocabularies that
product is cheap, and only the sort is saved.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from adaptbench.kernels.implementations import Implementation, choose, record, triton_installed

RANKED = 64  # tokens that are ranked first; a trained model rarely needs more
DENSE = 8192  # up to so many tokens a product with the whole embedding is faster on a CPU than gathering rows
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Nucleus = Literal["released", "standard", "top_k"]


@dataclass(frozen=True)
class Mixture:
    """The weighting of a latent token.

    Attributes:
        alpha: the share of the hidden state, from 0 to 1.
        excluded: a token that is never mixed.
        nucleus: `released` mixes the tokens whose summed probability is at most `top_p` (at least one); `standard` also
            the one that crosses it; `top_k` the `top_k` likeliest. Of equally likely tokens the first are taken.
        factor: the number by which the model multiplies its embeddings.
    """

    alpha: float
    excluded: int
    nucleus: Nucleus = "released"
    top_p: float = 0.9
    top_k: int = 3
    temperature: float = 1.0
    factor: float = 1.0

    @property
    def everything(self) -> bool:
        """Return whether all tokens are mixed: sums of rounded probabilities may exceed a top_p of 1."""
        return self.nucleus != "top_k" and self.top_p == 1

    def check(self, vocabulary: int) -> None:
        """Raise ValueError if an option is out of range."""
        if not 0 <= self.alpha <= 1 or not 0 < self.top_p <= 1 or self.top_k < 1 or not self.temperature > 0:
            raise ValueError(
                f"latent_fusion: alpha {self.alpha}, top_p {self.top_p}, top_k {self.top_k},"
                f" temperature {self.temperature}: out of range"
            )
        if self.nucleus not in ("released", "standard", "top_k"):
            raise ValueError(f"latent_fusion: no nucleus {self.nucleus!r}")
        if not 0 <= self.excluded < vocabulary:
            raise ValueError(f"latent_fusion: token {self.excluded} is not one of {vocabulary}")

    def inside(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return which of these probabilities (..., n), likeliest first, are in the nucleus; it may be none."""
        if self.nucleus == "top_k":
            return (
                torch.arange(probabilities.shape[-1], device=probabilities.device).expand_as(probabilities) < self.top_k
            )
        total = probabilities.cumsum(-1)
        return total <= self.top_p if self.nucleus == "released" else total - probabilities < self.top_p


def latent_fusion(
    hidden: torch.Tensor,
    logits: torch.Tensor,
    embeddings: torch.Tensor,
    *,
    implementation: Implementation | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return alpha * hidden + (1 - alpha) * factor * mean embedding of the likeliest tokens.

    Args:
        hidden: (..., width).
        logits: (..., vocabulary).
        embeddings: (vocabulary, width).
        options: the fields of `Mixture`.

    Returns:
        (..., width), in the dtype of `hidden`; differentiable in hidden, logits and embeddings.

    Raises:
        ValueError: shapes or devices that do not fit, integer tensors, or options out of range.
    """
    mixture = Mixture(**options)
    _check(hidden, logits, embeddings)
    mixture.check(len(embeddings))
    chosen = choose("latent_fusion", hidden, implementation, dtypes=DTYPES)
    if chosen == "reference":
        record("latent_fusion", chosen)
        return reference(hidden, logits, embeddings, mixture)
    by_triton = chosen == "triton" and embeddings.dtype in DTYPES
    ranked = None
    if by_triton or len(embeddings) > DENSE:
        ranked = _ranked(logits.detach(), mixture)
    record("latent_fusion", "triton" if by_triton and ranked is not None else "torch")
    if ranked is None:
        mixed = weights_of_all(logits, mixture).to(embeddings.dtype) @ embeddings
    else:
        mixed = _mixed(logits, embeddings, ranked, mixture.temperature, by_triton)
    return mixture.alpha * hidden + (1 - mixture.alpha) * mixture.factor * mixed.to(hidden.dtype)


def _check(hidden: torch.Tensor, logits: torch.Tensor, embeddings: torch.Tensor) -> None:
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


def reference(hidden: torch.Tensor, logits: torch.Tensor, embeddings: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Compute every step over the whole vocabulary, as the equations are written."""
    probabilities = _probabilities(logits, mixture)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    inside = torch.ones_like(ordered, dtype=torch.bool) if mixture.everything else mixture.inside(ordered)
    first = torch.zeros_like(inside)
    first[..., 0] = True
    kept = torch.zeros_like(inside).scatter(-1, order, inside | first)
    weights = probabilities * kept
    weights = (weights / weights.sum(-1, keepdim=True)).to(embeddings.dtype)
    return mixture.alpha * hidden + (1 - mixture.alpha) * mixture.factor * (weights @ embeddings).to(hidden.dtype)


def _probabilities(logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Return the probabilities of all tokens but the excluded one, in float32 or more."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / mixture.temperature
    barred = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    barred[mixture.excluded] = True
    return scores.masked_fill(barred, -torch.inf).softmax(-1)


def weights_of_all(logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Return the weights (..., vocabulary) of the tokens in a mixture, which sum to one. Sort only the likeliest."""
    probabilities = _probabilities(logits, mixture)
    kept = probabilities * _likeliest(probabilities, mixture)
    return kept / kept.sum(-1, keepdim=True)


def _likeliest(probabilities: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Return which tokens are in the nucleus (..., vocabulary); of equally likely ones, the first."""
    if mixture.everything:
        return torch.ones_like(probabilities, dtype=torch.bool)
    by_count = mixture.nucleus == "top_k"
    count_ranked = min(mixture.top_k if by_count else RANKED, probabilities.shape[-1])
    ranked = probabilities.topk(count_ranked, dim=-1).values
    if by_count:
        count = torch.full_like(ranked[..., :1], ranked.shape[-1], dtype=torch.long)
    else:
        if (ranked.sum(-1) <= mixture.top_p).any():  # the nucleus is larger than what was ranked
            ranked = probabilities.sort(dim=-1, descending=True).values
        count = mixture.inside(ranked).sum(-1, keepdim=True).clamp(min=1)
    least = ranked.gather(-1, count - 1)
    above, equal = probabilities > least, probabilities == least
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def _ranked(logits: torch.Tensor, mixture: Mixture) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the likeliest tokens (..., n), in order, and which of them are mixed; None if more may be."""
    vocabulary = logits.shape[-1]
    many = min(vocabulary, (mixture.top_k if mixture.nucleus == "top_k" else RANKED) + 1)  # the excluded one may be in
    if mixture.everything or not logits.numel():
        return None
    scores = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / mixture.temperature).index_fill(
        -1, torch.tensor([mixture.excluded], device=logits.device), -torch.inf
    )
    most = min(vocabulary, many + 1)  # one more, to see whether a tie goes on
    ranked, tokens = scores.topk(most, dim=-1)
    tokens, by_token = tokens.sort(dim=-1)  # of equal scores the first token first, which topk does not promise
    ranked, by_score = ranked.gather(-1, by_token).sort(dim=-1, descending=True, stable=True)
    tokens = tokens.gather(-1, by_score)
    if mixture.nucleus == "top_k":
        inside = mixture.inside(ranked).clone()
    else:
        inside = mixture.inside((ranked - scores.logsumexp(-1, keepdim=True)).exp())
    inside[..., 0] = True
    inside &= (ranked > -torch.inf) | ranked.isnan()  # a row without any number is nan, not empty
    least = torch.where(inside, ranked, torch.inf).amin(-1)
    if most < vocabulary and bool((ranked[..., -1] >= least).any()):  # a larger nucleus, or a tie that goes on
        return None
    return tokens, inside


def _mixed(
    logits: torch.Tensor,
    embeddings: torch.Tensor,
    ranked: tuple[torch.Tensor, torch.Tensor],
    temperature: float,
    by_triton: bool,
) -> torch.Tensor:
    """Return the mean embedding (..., width) of the ranked tokens that are inside."""
    tokens, inside = ranked
    most = max(1, int(inside.sum(-1).max()))
    tokens, inside = tokens[..., :most], inside[..., :most]
    scores = logits.gather(-1, tokens)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / temperature
    weights = scores.masked_fill(~inside, -torch.inf).softmax(-1).to(embeddings.dtype).reshape(-1, most)
    flat = tokens.reshape(-1, most)
    if by_triton:
        mixed = _WeightedRows.apply(flat.contiguous(), weights.contiguous(), embeddings)
    else:
        mixed = torch.nn.functional.embedding_bag(flat, embeddings, per_sample_weights=weights, mode="sum")
    return mixed.reshape(*logits.shape[:-1], embeddings.shape[1])


class _WeightedRows(torch.autograd.Function):
    """Weighted sums of rows of a matrix: (rows, k) tokens and weights, and (vocabulary, width), to (rows, width)."""

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
                to_weights if to_embeddings is None else to_embeddings, k, width,
                SCATTER=to_embeddings is not None, BLOCK=BLOCK,
            )  # fmt: skip
        return None, to_weights.to(weights.dtype), None if to_embeddings is None else to_embeddings.to(embeddings.dtype)


BLOCK = 256
_KERNELS: dict[str, Any] = {}
if triton_installed():
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
