"""Wraps an objective in a module. Not in distributed.py, which must not import torch before a stage needs it."""

from typing import Any

import torch

from adaptbench.train.objectives import Objective


class ObjectiveModule(torch.nn.Module):
    """Run the objective inside forward() so that DDP and FSDP hooks cover it, whatever parts of the model it calls."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Objective, batch: Any) -> torch.Tensor:
        return objective(self.model, batch)
