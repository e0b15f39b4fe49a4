"""The nucleus of a prediction: the same as by a stable sort of the whole vocabulary.

Run: python -m pytest tests/kernels/test_nucleus.py
"""

import pytest
import torch

from adaptbench.kernels import latent_fusion
from adaptbench.latent.fusion import Fusion


def predicted(options, logits, excluded):
    mixture = latent_fusion.Mixture(
        options.alpha, excluded, options.nucleus, options.top_p, options.top_k, options.temperature
    )
    return latent_fusion.weights_of_all(logits, mixture)


def _by_sorting(options, logits, excluded):
    """One row, token by token, in the order of a stable sort."""
    scores = (logits / options.temperature).tolist()
    scores[excluded] = float("-inf")
    weights = torch.tensor(scores, dtype=torch.float64).softmax(-1).tolist()
    kept, mass = [], 0.0
    for rank, token in enumerate(sorted(range(len(weights)), key=lambda token: (-weights[token], token))):
        taken = {
            "top_k": rank < options.top_k,
            "standard": mass < options.top_p,
            "released": mass + weights[token] <= options.top_p,
        }[options.nucleus]
        mass += weights[token]
        if taken or rank == 0:
            kept.append(token)
    total = sum(weights[token] for token in kept)
    return torch.tensor([weights[token] / total if token in kept else 0.0 for token in range(len(weights))])


@pytest.mark.parametrize("nucleus", ["released", "standard", "top_k"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0], ids=["flat", "middling", "sure"])
@pytest.mark.parametrize("vocabulary", [3, 64, 65, 1000])
def test_the_nucleus_is_that_of_a_sort(nucleus, spread, vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(2, 3, vocabulary, generator=generator, dtype=torch.float64) * spread
    options = Fusion(nucleus=nucleus, top_p=0.81)
    found = predicted(options, logits, 1)
    for row, weights in zip(logits.flatten(0, 1), found.flatten(0, 1), strict=True):
        torch.testing.assert_close(weights.float(), _by_sorting(options, row, 1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("nucleus", ["released", "standard", "top_k"])
def test_of_tokens_that_are_as_likely_the_first_ones_are_taken(nucleus):
    logits = torch.zeros(200)
    logits[[7, 90, 150]] = 3.0
    options = Fusion(nucleus=nucleus, top_p=0.5, top_k=20)
    torch.testing.assert_close(predicted(options, logits, 0), _by_sorting(options, logits, 0), rtol=0, atol=1e-7)
    assert predicted(options, logits, 0)[[7, 90, 150]].min() > 0


@pytest.mark.parametrize("nucleus", ["released", "standard"])
def test_all_of_the_probability_is_all_tokens(nucleus):
    logits = torch.randn(500, 1024, generator=torch.Generator().manual_seed(0))
    logits[:, :2] += 12
    found = predicted(Fusion(nucleus=nucleus, top_p=1.0), logits, 5)
    assert (found[:, :2] > 0.01).all()
    assert (found[:, 5] == 0).all()


def test_a_sure_model_is_not_sorted(monkeypatch):
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)) * 9
    wanted = predicted(Fusion(), logits, 0)
    monkeypatch.setattr(torch.Tensor, "sort", None)
    assert torch.equal(predicted(Fusion(), logits, 0), wanted)
    monkeypatch.setattr(latent_fusion, "RANKED", 2)
    with pytest.raises(TypeError):
        predicted(Fusion(), logits, 0)
