"""Measure the geometry of latents: whether they collapse to one direction, and how many directions they use."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def collect(directory: Path, prompts: Sequence[str], *, most: int = 96) -> "torch.Tensor":
    """Return the latents (n, width) of a model's responses to prompts, decoded as its directory says."""
    import torch

    from adaptbench.data.tokenizer import encode_prompts
    from adaptbench.io import model_folder
    from adaptbench.latent.language_model import language_model

    answering = language_model(directory, batch_size=len(prompts), tasks={}, **model_folder.decode_options(directory))
    written = answering.respond(encode_prompts(answering.tokenizer, prompts), most, keep=True)
    found = [latent for one in written for latent in one.latents]
    return torch.stack(found).double() if found else torch.empty(0, answering.model.config.hidden_size).double()


def mean_cosine(vectors: "torch.Tensor") -> float:
    """Return the mean cosine over all pairs of different vectors (n, width), n >= 2; 1 if all have one direction."""
    units = vectors / vectors.norm(dim=1, keepdim=True)
    count = len(units)
    return float((units.sum(0).square().sum() - count) / (count * (count - 1)))


def effective_rank(vectors: "torch.Tensor") -> float:
    """Return exp of the entropy of the normalised singular values of vectors (n, width).

    Source: Roy and Vetterli, EUSIPCO 2007.
    """
    import torch

    values = torch.linalg.svdvals(vectors)
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def principal_axes(vectors: "torch.Tensor") -> tuple["torch.Tensor", list[float]]:
    """Return the vectors' coordinates (n, 2) on their first two principal axes, and the axes' shares of variance."""
    import torch

    centred = vectors - vectors.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    shares = values.square() / values.square().sum()
    return left[:, :2] * values[:2], shares[:2].tolist()
