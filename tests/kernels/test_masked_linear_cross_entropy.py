"""masked_linear_cross_entropy: value and gradients against all logits in float64, on odd shapes, chunks and masks.

Run: python -m pytest tests/kernels/test_masked_linear_cross_entropy.py
"""

import pytest
import torch

from adaptbench.kernels.masked_linear_cross_entropy import IGNORED, masked_linear_cross_entropy

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def _drawn(rows, length, width, vocabulary, share, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, length, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64) / width**0.5
    labels = torch.randint(vocabulary, (rows, length), generator=generator)
    labels[torch.rand(rows, length, generator=generator) < share] = IGNORED
    return hidden.to(dtype), weight.to(dtype), labels


def _plain(hidden, weight, labels):
    """Each labelled position's loss written out, in float64."""
    losses = []
    for vector, label in zip(hidden.double().flatten(0, -2), labels.flatten().tolist(), strict=True):
        if label != IGNORED:
            logits = weight.double() @ vector
            losses.append(logits.exp().sum().log() - logits[label])
    return torch.stack(losses).mean()


def _gradients(function, hidden, weight, labels, **options):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = function(hidden, weight, labels, **options)
    (3 * loss).backward()
    return loss.detach().double(), hidden.grad.double(), weight.grad.double()


@pytest.mark.parametrize("way", ["reference", "torch"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("sizes", "chunk_bytes"),
    [((3, 7, 5, 11), 1), ((3, 7, 5, 11), 4 * 11 * 4), ((1, 1, 3, 2), 1 << 20), ((2, 33, 8, 130), 4 * 130 * 7)],
)
def test_value_and_gradients_are_those_of_all_logits(sizes, chunk_bytes, dtype, way):
    hidden, weight, labels = _drawn(*sizes, share=0.0 if sizes[1] == 1 else 0.7, dtype=dtype)
    expected = _gradients(_plain, hidden, weight, labels)
    found = _gradients(masked_linear_cross_entropy, hidden, weight, labels, implementation=way, chunk_bytes=chunk_bytes)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert (found[1][labels == IGNORED] == 0).all()


def test_gradcheck():
    hidden, weight, labels = _drawn(2, 5, 3, 7, 0.4)

    def loss(hidden, weight):
        return masked_linear_cross_entropy(hidden, weight, labels, chunk_bytes=60)

    assert torch.autograd.gradcheck(loss, (hidden.requires_grad_(), weight.requires_grad_()))


def test_only_what_trains_gets_a_gradient():
    hidden, weight, labels = _drawn(2, 5, 3, 7, 0.4)
    both = _gradients(masked_linear_cross_entropy, hidden, weight, labels)
    alone = hidden.clone().requires_grad_()
    (3 * masked_linear_cross_entropy(alone, weight, labels)).backward()
    torch.testing.assert_close(alone.grad, both[1])
    frozen = masked_linear_cross_entropy(hidden, weight, labels)
    assert not frozen.requires_grad
    torch.testing.assert_close(frozen, both[0])


@pytest.mark.parametrize("way", ["reference", "torch"])
def test_nothing_labelled_is_nan_and_gives_no_gradient(way):
    hidden, weight, labels = _drawn(2, 4, 3, 7, 1.1)
    hidden.requires_grad_()
    loss = masked_linear_cross_entropy(hidden, weight, labels, implementation=way)
    assert loss.isnan()


@pytest.mark.parametrize("way", ["reference", "torch"])
@pytest.mark.parametrize("shape", [(0, 4, 3, 7), (2, 0, 3, 7)])
def test_no_positions_are_nan_too(shape, way):
    loss, to_hidden, to_weight = _gradients(masked_linear_cross_entropy, *_drawn(*shape, 0.0), implementation=way)
    assert loss.isnan()
    assert to_hidden.shape == shape[:3]
    assert to_weight.shape == (7, 3)
    assert not to_weight.any()


@pytest.mark.parametrize("way", ["reference", "torch"])
def test_one_position_needs_no_dimension_of_its_own(way):
    hidden, weight, labels = _drawn(1, 1, 3, 7, 0.0)
    expected = _gradients(_plain, hidden, weight, labels)
    found = _gradients(masked_linear_cross_entropy, hidden[0, 0], weight, labels[0, 0], implementation=way)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.reshape(ours.shape))


@pytest.mark.parametrize("way", ["reference", "torch"])
def test_a_loss_scale_that_float16_cannot_hold_reaches_its_gradients(way):
    """65,536, with which torch's scaler of float16 begins."""
    hidden, weight, labels = _drawn(3, 40, 16, 50, 0.5)
    expected = _gradients(_plain, hidden, weight, labels)
    hidden, weight = hidden.half().requires_grad_(), weight.half().requires_grad_()
    (2.0**16 * masked_linear_cross_entropy(hidden, weight, labels, implementation=way)).backward()
    for ours, theirs in zip((hidden.grad, weight.grad), expected[1:], strict=True):
        true = 2.0**16 * theirs / 3
        assert (ours.double() - true).norm() <= 2e-3 * true.norm()


@pytest.mark.parametrize("way", ["reference", "torch"])
def test_autocast_leaves_float64_alone(way):
    hidden, weight, labels = _drawn(3, 40, 16, 50, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = masked_linear_cross_entropy(hidden, weight, labels, implementation=way)
    torch.testing.assert_close(loss, _plain(hidden, weight, labels), rtol=1e-12, atol=0)


def test_what_is_not_contiguous_is_the_same():
    hidden, weight, labels = _drawn(4, 6, 5, 11, 0.5)
    plain = masked_linear_cross_entropy(hidden, weight, labels)
    turned = masked_linear_cross_entropy(hidden.transpose(0, 1), weight.T.contiguous().T, labels.T)
    torch.testing.assert_close(turned, plain)


def test_under_autocast_it_is_as_exact_as_logits_in_bfloat16():
    hidden, weight, labels = _drawn(3, 40, 16, 50, 0.5, dtype=torch.float32)
    exact = _gradients(_plain, hidden, weight, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = _gradients(masked_linear_cross_entropy, hidden, weight, labels, implementation="torch")
        theirs = _gradients(masked_linear_cross_entropy, hidden, weight, labels, implementation="reference")
    for mine, plain, true in zip(ours, theirs, exact, strict=True):
        assert (mine - true).norm() <= 2 * (plain - true).norm() + 1e-3 * true.norm()


def test_all_logits_are_never_there():
    """Of 2,000 labelled positions and 5,000 tokens, 40 MB of logits in float32, chunks of 1 MB."""
    hidden, weight, labels = _drawn(1, 2000, 4, 5000, 0.0, dtype=torch.float32)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            sizes.extend(
                one.numel() * one.element_size()
                for one in (made if isinstance(made, tuple | list) else [made])
                if isinstance(one, torch.Tensor)
            )
            return made

    with Watch():
        _gradients(masked_linear_cross_entropy, hidden, weight, labels, chunk_bytes=1 << 20)
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, w, y: (h, w, y[:1]), "do not fit"),
        (lambda h, w, y: (h, w.T, y), "do not fit"),
        (lambda h, w, y: (h, w, y.float()), "must be int64"),
        (lambda h, w, y: (h.long(), w, y), "must be floating point"),
        (lambda h, w, y: (h.float(), w, y), r"hidden is torch\.float32 and weight torch\.float64"),
        (lambda h, w, y: (h, w.to("meta"), y), r"tensors on \['cpu', 'meta'\]"),
        (lambda h, w, y: (h, w, y.clamp(min=0) + 100), "the vocabulary has 7"),
        (lambda h, w, y: (h, w, torch.full_like(y, -1)), "labels from -1 to -1"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        masked_linear_cross_entropy(*change(*_drawn(2, 4, 3, 7, 0.3)))
