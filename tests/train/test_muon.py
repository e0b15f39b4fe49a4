"""Muon over stacks of matrices against torch's own, matrix by matrix, and against a plain reference in float64.

Run: pytest tests/train/test_muon.py
"""

import math

import pytest
import torch

from adaptbench.train import muon
from adaptbench.train.muon import Muon, orthogonal

SHAPES = [(5, 7), (7, 5), (5, 7), (6, 6), (1, 9), (9, 1), (1, 1), (33, 17), (7, 5)]
OPTIONS = {
    "as trained": {"lr": 0.02, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"},
    "decay, torch's rates": {"lr": 0.3, "weight_decay": 0.1},
    "no nesterov, three steps": {
        "lr": 0.1,
        "weight_decay": 0.0,
        "nesterov": False,
        "ns_steps": 3,
        "momentum": 0.5,
        "adjust_lr_fn": "original",
    },
}


def _parameters(dtype):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]


def _steps(optimizer, params, count=4):
    torch.manual_seed(1)
    for _ in range(count):
        for i, param in enumerate(params):
            param.grad = torch.randn(param.shape, dtype=param.dtype) * 10.0 ** (i % 3 - 1)
        params[3].grad = None  # as of a part that took no part
        params[4].grad = torch.zeros_like(params[4])
        optimizer.step()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_in_bfloat16_it_is_torchs(options):
    ours, torchs = _parameters(torch.float32), _parameters(torch.float32)
    _steps(Muon(ours, dtype=torch.bfloat16, **options), ours)
    _steps(torch.optim.Muon(torchs, **options), torchs)
    for one, other, begun in zip(ours, torchs, _parameters(torch.float32), strict=True):
        # A product of a stack may add in another order than one of a matrix.
        torch.testing.assert_close(one, other, rtol=0, atol=2e-2 * options["lr"])
        assert torch.equal(one, begun) == (other.grad is None or not (other.grad.any() or options["weight_decay"]))


def _plain(param, grads, *, lr, weight_decay, momentum=0.95, nesterov=True, ns_steps=5, adjust_lr_fn=None):
    """By singular values: the iteration is an odd polynomial of them."""
    buffer = torch.zeros_like(param)
    for grad in grads:
        buffer = momentum * buffer + (1 - momentum) * grad
        update = momentum * buffer + (1 - momentum) * grad if nesterov else buffer
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        values = values / max(float(values.norm()), 1e-7)
        for _ in range(ns_steps):
            values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
        rows, columns = param.shape
        ratio = (
            0.2 * math.sqrt(max(rows, columns))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns))
        )
        param = (1 - lr * weight_decay) * param - lr * ratio * left @ values.diag() @ right
    return param


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_in_float64_it_is_the_published_rule(options):
    ours = _parameters(torch.float64)
    seen = [[] for _ in ours]

    def note(*_):
        for kept, param in zip(seen, ours, strict=True):
            if param.grad is not None:
                kept.append(param.grad.clone())

    optimizer = Muon(ours, **options)
    optimizer.register_step_pre_hook(note)
    _steps(optimizer, ours)
    assert [len(kept) for kept in seen] == [0 if i == 3 else 4 for i in range(len(SHAPES))]
    for one, begun, grads in zip(ours, _parameters(torch.float64), seen, strict=True):
        torch.testing.assert_close(one.detach(), _plain(begun.detach(), grads, **options), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("together", [1, 80])
def test_large_matrices_go_in_smaller_stacks(together, monkeypatch):
    whole, parts = _parameters(torch.float64), _parameters(torch.float64)
    _steps(Muon(whole, lr=0.1), whole)
    sizes = []
    plain = muon.orthogonal
    monkeypatch.setattr(muon, "orthogonal", lambda stack, *options: sizes.append(len(stack)) or plain(stack, *options))
    monkeypatch.setattr(muon, "TOGETHER", together)
    _steps(Muon(parts, lr=0.1), parts)
    assert max(sizes) == (1 if together == 1 else 2)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_its_state_is_torchs():
    """A checkpoint of either goes on in the other."""
    ours, torchs = _parameters(torch.float32), _parameters(torch.float32)
    optimizer, other = Muon(ours, dtype=torch.bfloat16, lr=0.02), torch.optim.Muon(torchs, lr=0.02)
    _steps(optimizer, ours)
    _steps(other, torchs)
    state = optimizer.state_dict()
    assert state["state"].keys() == other.state_dict()["state"].keys()
    assert state["param_groups"] == other.state_dict()["param_groups"]
    other.load_state_dict(state)
    torch.testing.assert_close(
        [one["momentum_buffer"] for one in other.state_dict()["state"].values()],
        [one["momentum_buffer"] for one in state["state"].values()],
        rtol=0,
        atol=0,
    )


def test_nothing_with_a_gradient_is_nothing_to_do():
    params = _parameters(torch.float32)
    assert Muon(params, lr=0.1).step(lambda: 3.0) == 3.0
    assert all(torch.equal(one, begun) for one, begun in zip(params, _parameters(torch.float32), strict=True))


def test_zero_stays_zero_and_not_a_number_stays_in_its_matrix():
    stack = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    stack[1] = 0
    stack[2, 0, 0] = math.nan
    made = orthogonal(stack, (3.4445, -4.775, 2.0315), 5, 1e-7)
    assert torch.equal(made[1], torch.zeros(4, 6))
    assert made[0].isfinite().all()
    assert not made[2].isfinite().any()
