"""Compute a latent: the last hidden state, mixed with the embedding of the model's next-token prediction.

LT-Tuning, arXiv 2602.10229, section 3.3 (context-prediction fusion). With alpha 1 it is Coconut's latent (arXiv
2412.06769), with alpha 0 Soft Thinking's (arXiv 2505.15778).
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from adaptbench.contracts import Real, StrictModel

if TYPE_CHECKING:
    import torch


class Fusion(StrictModel):
    """Options of a latent: `alpha` weighs the hidden state, 1 - alpha the mean embedding of the likeliest tokens.

    `nucleus` chooses these tokens. `released`: the likeliest tokens whose summed probability is at most `top_p` (the
    token that crosses it is left out, but never the likeliest). `standard`: with the token that crosses it. `top_k`:
    the `top_k` likeliest.
    """

    alpha: Real = Field(0.6, ge=0, le=1, description="weight of the hidden state; the rest goes to the prediction")
    nucleus: Literal["released", "standard", "top_k"] = Field("released", description="tokens that a prediction mixes")
    top_p: Real = Field(0.9, gt=0, le=1, description="probability that the mixed tokens have together")
    top_k: int = Field(3, ge=1, description="number of the mixed tokens, where the nucleus is top_k")
    temperature: Real = Field(1.0, gt=0, description="of the predicted distribution")
    detach: bool = False


def fuse(
    fusion: Fusion,
    hidden: "torch.Tensor",
    logits: "torch.Tensor | None",
    embeddings: "torch.Tensor | None",
    excluded: int,
    *,
    factor: float = 1.0,
) -> "torch.Tensor":
    """Return the latents at positions t, computed from the hidden states and logits at t - 1.

    Args:
        hidden: (..., width), after the final norm.
        logits: (..., vocabulary).
        embeddings: (vocabulary, width); times `factor`, the model's embedding of each token. If alpha is 1, logits and
            embeddings may be None.
        excluded: the latent token's id, which predictions leave out.

    Returns:
        (..., width), in the dtype of `hidden`; differentiable in all three unless `fusion.detach`.
    """
    latent = hidden
    if fusion.alpha < 1:
        from adaptbench.kernels.latent_fusion import latent_fusion

        assert logits is not None
        assert embeddings is not None
        latent = latent_fusion(
            hidden, logits, embeddings, alpha=fusion.alpha, excluded=excluded, nucleus=fusion.nucleus,
            top_p=fusion.top_p, top_k=fusion.top_k, temperature=fusion.temperature, factor=factor,
        )  # fmt: skip
    return latent.detach() if fusion.detach else latent
