"""AdamW with a multiplier of the learning rate for every unit: a tensor, its rows, its attention heads.

torch's AdamW has one rate a parameter group; a group for each unit costs several times the step. But AdamW's step is the
rate times something that does not depend on the rate, weight decay included, so that multiplying the step of one plain
AdamW gives what a group of its own would: w <- w + m * (step of the plain one).
"""

from collections.abc import Mapping
from typing import Any

import torch


class UnitwiseAdamW(torch.optim.AdamW):
    """torch's AdamW whose steps are multiplied, parameter by parameter.

    `multipliers` maps parameters to tensors that broadcast over them; a parameter that is not in it moves as it would
    under AdamW. The multipliers are not part of the optimizer's state: who sets them keeps them.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.multipliers: Mapping[torch.nn.Parameter, torch.Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        before = {p: p.detach().clone() for p in self.multipliers}
        loss = super().step(closure)
        for p, start in before.items():
            p.copy_(torch.lerp(start, p, self.multipliers[p].to(p)))  # exact where the multiplier is 0 or 1
        return loss
