"""unit_importance: every implementation against a float64 sum written out, on odd shapes.

Run: python -m pytest tests/kernels/test_unit_importance.py
"""

import pytest
import torch

from adaptbench.kernels import implementations
from adaptbench.kernels.unit_importance import unit_importance

WAYS = ("reference", "torch", "triton")
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 1e-5,
    torch.float16: 1e-5,
}  # sums are in float32
SHAPES = {
    "tensor": ((7, 11), (1, 1, 77)),
    "one number": ((1,), (1, 1, 1)),
    "rows": ((9, 5), (1, 9, 5)),
    "entries": ((13,), (1, 13, 1)),
    "heads in rows": ((6, 7), (1, 3, 14)),
    "heads in columns": ((5, 12), (5, 3, 4)),
    "more than a block": ((67, 130), (1, 1, 8710)),
    "long heads": ((129, 96), (129, 3, 32)),
    "three dimensions": ((2, 3, 5), (1, 1, 30)),
    "empty": ((0, 4), (1, 1, 0)),
    "no units": ((0, 4), (1, 0, 4)),
}


def _drawn(shape, dtype, device):
    generator = torch.Generator().manual_seed(sum(shape))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(device) for _ in range(2)]


def _written_out(weight, gradient, units):
    outer, count, inner = units
    w, g = weight.double().reshape(units).tolist(), gradient.double().reshape(units).tolist()
    sums = [sum(abs(w[o][u][i] * g[o][u][i]) for o in range(outer) for i in range(inner)) for u in range(count)]
    return torch.tensor(sums, dtype=torch.float64)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SHAPES)
def test_sums_are_those_written_out(name, dtype, way, device):
    shape, units = SHAPES[name]
    weight, gradient = _drawn(shape, dtype, device)
    found = unit_importance(weight, gradient, units, implementation=way)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(
        found.double().cpu(), _written_out(weight, gradient, units), rtol=TOLERANCE[dtype], atol=1e-30
    )


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_contiguous_is_summed_as_it_is_seen(way, device):
    weight, gradient = _drawn((12, 10), torch.float64, device)
    for cut in ((slice(None, None, 2), slice(1, 7)), (slice(None), slice(0, 5))):
        w, g = weight[cut], gradient.T.contiguous().T[cut]
        found = unit_importance(w, g, (1, *w.shape), implementation=way)
        torch.testing.assert_close(found.cpu(), _written_out(w, g, (1, *w.shape)), rtol=1e-12, atol=0)
    found = unit_importance(weight.T, gradient.T, (1, 1, 120), implementation=way)
    torch.testing.assert_close(found.cpu(), _written_out(weight, gradient, (1, 1, 120)), rtol=1e-12, atol=0)


def test_what_ran_is_what_is_told(device):
    weight, gradient = _drawn((12, 10), torch.float32, device)
    for w, units, way, told in (
        (weight.T, (1, 1, 120), "triton", "triton"),
        (weight[:0], (1, 1, 0), "triton", "reference"),
        (weight, (1, 1, 120), "torch", "reference"),
    ):
        with implementations.used() as ran:
            unit_importance(
                w, gradient.T if w is not weight and len(w) == 10 else gradient[: len(w)], units, implementation=way
            )
        assert ran == {"unit_importance": [told]}


@pytest.mark.parametrize("way", WAYS)
def test_nan_and_infinity_are_not_hidden(way, device):
    weight, gradient = _drawn((3, 4), torch.float32, device)
    weight[0, 0], weight[1, 1] = torch.nan, torch.inf
    found = unit_importance(weight, gradient, (1, 3, 4), implementation=way)
    assert found[0].isnan()
    assert found[1] == torch.inf
    assert found[2].isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, g: (w, g[:2], (1, 1, 12)), "must be alike"),
        (lambda w, g: (w, g.double(), (1, 1, 12)), "must be alike"),
        (lambda w, g: (w.long(), g.long(), (1, 1, 12)), "has no gradient"),
        (lambda w, g: (w, g, (1, 5, 2)), r"units \(1, 5, 2\) are not the 12 numbers"),
        (lambda w, g: (w, g, (-1, -12, 1)), "are not the 12 numbers"),
        (lambda w, g: (w, g, (3, 4)), "must be three"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    weight, gradient, units = change(*_drawn((3, 4), torch.float32, "cpu"))
    with pytest.raises(ValueError, match=message):
        unit_importance(weight, gradient, units)
