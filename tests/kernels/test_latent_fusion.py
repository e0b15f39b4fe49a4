"""latent_fusion: value and gradients against the equation written token by token, in float64.

Run: python -m pytest tests/kernels/test_latent_fusion.py
"""

import pytest
import torch

from adaptbench.kernels import implementations
from adaptbench.kernels import latent_fusion as module
from adaptbench.kernels.latent_fusion import RANKED, latent_fusion

WAYS = ("reference", "dense", "sparse", "triton")
EXACT = ("reference", "dense", "sparse")
OPTIONS = [
    {"nucleus": "released", "top_p": 0.9},
    {"nucleus": "released", "top_p": 1e-6},
    {"nucleus": "released", "top_p": 1.0},
    {"nucleus": "standard", "top_p": 0.5},
    {"nucleus": "standard", "top_p": 0.999999},
    {"nucleus": "top_k", "top_k": 1},
    {"nucleus": "top_k", "top_k": 3},
    {"nucleus": "top_k", "top_k": 1000},
    {"nucleus": "standard", "top_p": 0.9, "temperature": 0.3},
]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """The implementation's name, for `torch` with the product over the whole vocabulary, or with the likeliest rows
    picked.
    """
    if request.param in ("reference", "triton"):
        return request.param
    monkeypatch.setattr(module, "DENSE", 10**9 if request.param == "dense" else 0)
    return "torch"


def _drawn(lead, width, vocabulary, dtype=torch.float64, sharp=3.0):
    generator = torch.Generator().manual_seed(width + vocabulary)
    hidden = torch.randn(*lead, width, generator=generator, dtype=torch.float64)
    logits = sharp * torch.randn(*lead, vocabulary, generator=generator, dtype=torch.float64)
    embeddings = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    return [one.to(dtype) for one in (hidden, logits, embeddings)]


def _for(way, tensors, device):
    """As the way takes them: Triton's kernel knows no float64."""
    return [one.float().to(device) for one in tensors] if way == "triton" else tensors


def _close(ours, theirs, way):
    tolerance = 1e-5 if way == "triton" else 1e-10
    torch.testing.assert_close(ours.double().cpu(), theirs, rtol=tolerance, atol=tolerance)


def _written_out(hidden, logits, embeddings, *, alpha, excluded, nucleus, top_p=0.9, top_k=3, temperature=1.0):
    rows = []
    for state, scores in zip(hidden.flatten(0, -2), logits.flatten(0, -2), strict=True):
        powers = [0 if i == excluded else (one / temperature).exp() for i, one in enumerate(scores)]
        whole = sum(powers)
        order = sorted(range(len(powers)), key=lambda i: (-float(powers[i]), i))
        kept, total = [], 0.0
        for place, token in enumerate(order):
            p = float(powers[token] / whole)
            inside = {
                "top_k": place < top_k,
                "released": total + p <= top_p or top_p == 1,
                "standard": total < top_p,
            }[nucleus]
            if (inside or place == 0) and token != excluded:
                kept.append(token)
            total += p
        share = sum(powers[token] for token in kept)
        mixed = sum(powers[token] / share * embeddings[token] for token in kept)
        rows.append(alpha * state + (1 - alpha) * mixed)
    return torch.stack(rows).reshape(hidden.shape)


def _gradients(function, tensors, **options):
    tensors = [one.clone().requires_grad_() for one in tensors]
    found = function(*tensors, **options)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (found * weights.to(found)).sum().backward()
    return [found.detach(), *(one.grad for one in tensors)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [((4,), 5, 13), ((2, 3), 4, 7), ((3,), 3, 2 * RANKED + 5)], ids=str)
def test_value_and_gradients_are_those_written_out(shape, options, way, device):
    tensors = _drawn(*shape)
    given = {"alpha": 0.6, "excluded": 2} | options
    for ours, theirs in zip(
        _gradients(latent_fusion, _for(way, tensors, device), implementation=way, **given),
        _gradients(_written_out, tensors, **given),
        strict=True,
    ):
        _close(ours, theirs, way)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS[:1] + OPTIONS[6:7], ids=str)
def test_triton_is_the_reference(options, dtype, device):
    tensors = [one.to(device) for one in _drawn((5,), 300, 97, dtype)]
    given = {"alpha": 0.6, "excluded": 2} | options
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for ours, theirs in zip(
        _gradients(latent_fusion, tensors, implementation="triton", **given),
        _gradients(latent_fusion, tensors, implementation="reference", **given),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [{"nucleus": "standard", "top_p": 0.5}, {"nucleus": "top_k", "top_k": 3}, {"nucleus": "released", "top_p": 0.6}],
    ids=str,
)
def test_of_tokens_as_likely_the_first_are_taken(options, way, device):
    hidden, logits, embeddings = _drawn((3,), 4, 3 * RANKED)
    logits[0] = 1.0  # all alike
    logits[1, [5, 9, 80, 120]] = 9.0  # four alike
    logits[2, [7, 150]] = 12.0
    given = {"alpha": 0.25, "excluded": 5} | options
    found = latent_fusion(*_for(way, (hidden, logits, embeddings), device), implementation=way, **given)
    _close(found, _written_out(hidden, logits, embeddings, **given), way)


def test_what_is_excluded_counts_nowhere_however_likely(way, device):
    hidden, logits, embeddings = _drawn((4,), 5, 30)
    logits[:, 11] = 50.0
    given = {"alpha": 0.0, "excluded": 11, "nucleus": "standard", "top_p": 0.9}
    found = _gradients(latent_fusion, _for(way, (hidden, logits, embeddings), device), implementation=way, **given)
    _close(found[0], _written_out(hidden, logits, embeddings, **given), way)
    assert (found[2][:, 11] == 0).all()
    assert (found[3][11] == 0).all()


@pytest.mark.parametrize("way", EXACT, indirect=True)
def test_gradcheck(way):
    tensors = [one.requires_grad_() for one in _drawn((3,), 4, 9)]

    def fused(hidden, logits, embeddings):
        return latent_fusion(
            hidden, logits, embeddings, alpha=0.3, excluded=0, nucleus="top_k", top_k=3, implementation=way
        )

    assert torch.autograd.gradcheck(fused, tensors)


def test_no_rows_are_no_latents(way, device):
    hidden, logits, embeddings = _for(way, _drawn((0,), 4, 9), device)
    assert latent_fusion(hidden, logits, embeddings, alpha=0.5, excluded=0, implementation=way).shape == (0, 4)


def test_one_row_needs_no_dimension_of_its_own(way, device):
    hidden, logits, embeddings = _drawn((), 4, 3 * RANKED)
    given = {"alpha": 0.6, "excluded": 2, "nucleus": "top_k", "top_k": 3}
    found = latent_fusion(*_for(way, (hidden, logits, embeddings), device), implementation=way, **given)
    assert found.shape == (4,)
    _close(found, _written_out(hidden[None], logits[None], embeddings, **given)[0], way)


@pytest.mark.parametrize("nucleus", ["released", "standard", "top_k"])
def test_rows_of_which_nothing_can_be_said_are_nan_and_the_others_as_ever(nucleus, way, device):
    hidden, logits, embeddings = _drawn((4,), 4, 2 * RANKED + 5)
    logits[0, 7] = torch.nan
    logits[1] = torch.nan
    logits[2] = -torch.inf
    given = {"alpha": 0.6, "excluded": 2, "nucleus": nucleus}
    found = latent_fusion(*_for(way, (hidden, logits, embeddings), device), implementation=way, **given)
    assert found[:3].isnan().all()
    _close(found[3:], _written_out(hidden[3:], logits[3:], embeddings, **given), way)


def test_a_vocabulary_of_the_excluded_token_alone_is_nan(way, device):
    tensors = _for(way, _drawn((2,), 4, 1), device)
    assert latent_fusion(*tensors, alpha=0.5, excluded=0, implementation=way).isnan().all()


def test_what_ran_is_what_is_told(device):
    tensors = _for("triton", _drawn((3,), 4, 3 * RANKED), device)
    alike = [tensors[0], torch.zeros_like(tensors[1]), tensors[2]]  # a tie that goes on beyond what is ranked
    for given, way in ((tensors, "triton"), (alike, "torch")):
        with implementations.recording() as ran:
            latent_fusion(*given, alpha=0.5, excluded=0, implementation="triton")
        assert ran == {"latent_fusion": [way]}


def test_what_is_not_contiguous_is_the_same(way, device):
    hidden, logits, embeddings = _for(way, _drawn((6,), 4, 11), device)
    given = {"alpha": 0.5, "excluded": 0, "implementation": way}
    plain = latent_fusion(hidden[::2], logits[::2], embeddings, **given)
    turned = latent_fusion(
        hidden.T.contiguous().T[::2], logits.T.contiguous().T[::2], embeddings.T.contiguous().T, **given
    )
    torch.testing.assert_close(turned, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "out of range"),
        ({"top_p": 0.0}, "out of range"),
        ({"temperature": 0.0}, "out of range"),
        ({"nucleus": "all"}, "no nucleus 'all'"),
        ({"excluded": 9}, "token 9 is not one of 9"),
    ],
)
def test_options_that_mean_nothing_are_said(change, message):
    with pytest.raises(ValueError, match=message):
        latent_fusion(*_drawn((2,), 4, 9), **{"alpha": 0.5, "excluded": 0} | change)


@pytest.mark.parametrize("which", range(3))
def test_whole_numbers_and_other_devices_are_refused(which):
    for wrong, said in ((torch.Tensor.long, r"torch\.int64"), (lambda one: one.to("meta"), "on meta")):
        tensors = _drawn((2,), 4, 9)
        tensors[which] = wrong(tensors[which])
        with pytest.raises(ValueError, match=f"{said}.*must be floating point and on one device"):
            latent_fusion(*tensors, alpha=0.5, excluded=0)


def test_shapes_that_do_not_fit_are_said():
    hidden, logits, embeddings = _drawn((2,), 4, 9)
    for wrong in (
        (hidden[:1], logits, embeddings),
        (hidden, logits[:, :5], embeddings),
        (hidden[:, :3], logits, embeddings),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            latent_fusion(*wrong, alpha=0.5, excluded=0)


def test_a_factor_is_that_of_the_embeddings(way, device):
    hidden, logits, embeddings = _drawn((5,), 8, 40)
    given = {"alpha": 0.3, "excluded": 2, "implementation": way}
    tensors = _for(way, (hidden, logits, embeddings), device)
    scaled = _for(way, (hidden, logits, 2.5 * embeddings), device)
    torch.testing.assert_close(latent_fusion(*tensors, factor=2.5, **given), latent_fusion(*scaled, **given))
