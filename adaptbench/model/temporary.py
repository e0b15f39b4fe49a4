"""What is changed in a model for the length of a block alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluated(model: "nn.Module") -> Iterator[None]:
    """Switch dropout off inside the block; each module is in its own mode again afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def generating(model: Any, config: Any) -> Iterator[None]:
    """Let `model.generate` follow this configuration inside the block, in place of what the model's directory recommends."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before
