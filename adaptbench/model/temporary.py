"""Changes a model inside a `with` block and restores it afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluated(model: "nn.Module") -> Iterator[None]:
    """Put the model in evaluation mode inside the block; restore each module's mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def generating(model: Any, config: Any) -> Iterator[None]:
    """Let `model.generate` use this configuration inside the block, not the one of the model's directory."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before
