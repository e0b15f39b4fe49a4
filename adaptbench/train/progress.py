"""Counts the steps, positions, seconds and memory of a training stage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Outcome:
    """The cost of a stage.

    Attributes:
        tokens: positions that passed the decoder, padding included; an objective with several passes counts each of
            them.
        trained_tokens: positions with a label.
        train_seconds: seconds of all steps, those before an interruption included, without compiling for the first one.
        compiled: whether the decoder's layers were compiled.
        compile_seconds: seconds before the first step, mostly compiling.
        attention: transformers' name of the attention implementation of the last pass.
    """

    steps: int
    tokens: int
    trained_tokens: int
    train_seconds: float
    peak_bytes: int
    final_loss: float
    compiled: bool = False
    compile_seconds: float = 0.0
    attention: str = ""


@dataclass
class Progress:
    """The counters of a training, as a checkpoint keeps them; `loss` is that of the last step."""

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    loss: float = math.nan


class PositionCounter:
    """Counts the positions that pass the model's decoder inside a `with` block, and notes its attention."""

    def __init__(self, model: "torch.nn.Module") -> None:
        self.decoder = model.get_decoder()
        self.count = 0
        self.attention = ""

    def __enter__(self) -> None:
        self.hook = self.decoder.register_forward_pre_hook(self._count, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _count(self, _: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        inputs = named.get("inputs_embeds")
        if inputs is None:
            inputs = named["input_ids"] if "input_ids" in named else positional[0]
        self.count += inputs.shape[0] * inputs.shape[1]
        self.attention = self.decoder.config._attn_implementation

    def take(self) -> int:
        """Return the positions since the last call."""
        count, self.count = self.count, 0
        return count
