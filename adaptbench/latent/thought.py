"""Metrics of answers with latent tokens: of some models most answers have none, and say nothing about latents."""

from collections.abc import Sequence
from typing import Any

from adaptbench.tasks import Derived


def _counts(latents: Any) -> Sequence[Any]:
    return [(latents > 0).astype(float), (latents >= 0).astype(float)]


def _right_counts(right: Any, latents: Any) -> Sequence[Any]:
    return [right * (latents > 0), (latents > 0).astype(float)]


def _share(some: Any, of: Any) -> Any:
    import numpy as np

    return np.divide(some, of, out=np.full(np.shape(of), np.nan), where=np.asarray(of) > 0)


THOUGHT = Derived("thought", ("latent_tokens",), _counts, _share)
"""The share of answers with a latent token."""

RIGHT_OF_THOUGHT = Derived("exact_match_of_thought", ("exact_match", "latent_tokens"), _right_counts, _share)
"""The share of right answers among those with a latent token.

A probe that replaces latents does not change which documents these are: an answer is the same up to its first latent.
"""
