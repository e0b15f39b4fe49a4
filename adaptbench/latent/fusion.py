"""What a latent token is: the last hidden state, mixed with the embedding of what the model would say next.

LT-Tuning, arXiv 2602.10229, section 3.3 (context-prediction fusion); with alpha 1 it is Coconut's latent (arXiv 2412.06769),
with alpha 0 Soft Thinking's (arXiv 2505.15778).
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from adaptbench.contracts import Real, StrictModel

if TYPE_CHECKING:
    import torch


RANKED = 64  # tokens that are ranked first; a trained model hardly ever needs more


class Fusion(StrictModel):
    """How a latent is made. `alpha` weighs the hidden state, the rest the likeliest tokens' mean embedding.

    `nucleus` says which tokens: `released`, whose summed probability stays within `top_p` (the token that crosses it is
    left out, but the likeliest never); `standard`, with the token that crosses it; `top_k`, the `top_k` likeliest.
    """

    alpha: Real = Field(0.6, ge=0, le=1, description="weight of the hidden state; the rest goes to the prediction")
    nucleus: Literal["released", "standard", "top_k"] = Field("released", description="tokens that a prediction mixes")
    top_p: Real = Field(0.9, gt=0, le=1, description="probability that the mixed tokens have together")
    top_k: int = Field(3, ge=1, description="number of the mixed tokens, where the nucleus is top_k")
    temperature: Real = Field(1.0, gt=0, description="of the predicted distribution")
    detach: bool = False


def fuse(
    fusion: Fusion, hidden: "torch.Tensor", logits: "torch.Tensor | None", embeddings: "torch.Tensor", excluded: int
) -> "torch.Tensor":
    """The latents at positions t, of the hidden states and logits at t - 1.

    Args:
        hidden: (..., width), after the final norm.
        logits: (..., vocabulary); needed where alpha is below 1.
        embeddings: (vocabulary, width), the input embedding matrix.
        excluded: the latent token's own id, which no prediction counts.

    Returns:
        (..., width), in the dtype of `hidden`; differentiable in all three unless `fusion.detach`.
    """
    latent = hidden
    if fusion.alpha < 1:
        assert logits is not None
        weights = predicted(fusion, logits, excluded).to(embeddings.dtype)
        latent = fusion.alpha * hidden + (1 - fusion.alpha) * (weights @ embeddings).to(hidden.dtype)
    return latent.detach() if fusion.detach else latent


def predicted(fusion: Fusion, logits: "torch.Tensor", excluded: int) -> "torch.Tensor":
    """The weights (..., vocabulary) of the tokens that a prediction mixes; they sum to one."""
    import torch

    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / fusion.temperature
    barred = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    barred[excluded] = True
    probabilities = scores.masked_fill(barred, -torch.inf).softmax(-1)
    kept = probabilities * _likeliest(fusion, probabilities)
    return kept / kept.sum(-1, keepdim=True)


def _likeliest(fusion: Fusion, probabilities: "torch.Tensor") -> "torch.Tensor":
    """Which tokens the nucleus holds (..., vocabulary); of tokens that are as likely, the first ones."""
    import torch

    if fusion.nucleus != "top_k" and fusion.top_p == 1:  # sums of probabilities may pass one
        return torch.ones_like(probabilities, dtype=torch.bool)
    many = fusion.top_k if fusion.nucleus == "top_k" else RANKED
    ranked = probabilities.topk(min(many, probabilities.shape[-1]), dim=-1).values
    if fusion.nucleus == "top_k":
        count = torch.full_like(ranked[..., :1], ranked.shape[-1], dtype=torch.long)
    else:
        if (ranked.sum(-1) <= fusion.top_p).any():  # the nucleus is larger than most
            ranked = probabilities.sort(dim=-1, descending=True).values
        total = ranked.cumsum(-1)
        inside = total <= fusion.top_p if fusion.nucleus == "released" else total - ranked < fusion.top_p
        count = inside.sum(-1, keepdim=True).clamp(min=1)
    least = ranked.gather(-1, count - 1)
    above, equal = probabilities > least, probabilities == least
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))
