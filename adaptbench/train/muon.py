"""torch's Muon with matrices of one shape stacked, in the dtype in which the model computes.

torch.optim.Muon steps one matrix after another, in bfloat16 on any machine. A small model has dozens of small matrices,
whose steps then cost up to a third of its backward pass. State, options and, except for rounding, results are torch's
(tests/train/test_muon.py). Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.
Rates: arXiv 2502.16982.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim._muon import _adjust_lr

TOGETHER = 1 << 24  # numbers in a stack; larger matrices are stepped one by one, as torch does, without extra memory


class Muon(torch.optim.Muon):
    """torch.optim.Muon; `dtype` is that of the Newton-Schulz iteration, None for the parameters' dtype."""

    def __init__(self, params: Any, *, dtype: torch.dtype | None = None, **options: Any) -> None:
        super().__init__(params, **options)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[torch.Tensor] = []
            grads: list[torch.Tensor] = []
            buffers: list[torch.Tensor] = []
            self._init_group(group, params, grads, buffers)
            if params:
                self._update(group, params, grads, buffers)
        return loss

    def _update(
        self,
        group: dict[str, Any],
        params: list[torch.Tensor],
        grads: list[torch.Tensor],
        buffers: list[torch.Tensor],
    ) -> None:
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        alike: dict[torch.Size, list[int]] = {}
        for i, param in enumerate(params):
            alike.setdefault(param.shape, []).append(i)
        for shape, places in alike.items():
            rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape)
            count = max(1, TOGETHER // max(1, shape.numel()))
            for first in range(0, len(places), count):
                some = places[first : first + count]
                update = torch.stack([buffers[i] for i in some])
                if group["nesterov"]:
                    update = torch.stack([grads[i] for i in some]).lerp_(update, group["momentum"])
                dtype = self.dtype or update.dtype
                made = orthogonal(update.to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"])
                torch._foreach_add_([params[i] for i in some], list(made.to(update.dtype)), alpha=-rate)


def orthogonal(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Move singular values of `matrices` (count, rows, columns) close to 1 by the quintic Newton-Schulz iteration."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
