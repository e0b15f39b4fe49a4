"""Forward passes whose output head sees selected positions only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from adaptbench.config import architectures

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@contextmanager
def attention_implementation(models: "Sequence[PreTrainedModel]", name: str) -> Iterator[None]:
    """Switch the models to this attention implementation inside the block."""
    with ExitStack() as undo:
        for model in models:
            if (before := model.config._attn_implementation) != name:
                undo.callback(model.set_attn_implementation, before)
                model.set_attn_implementation(name)
        yield


def logits_at(model: Any, kept: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    """Return logits (positions, vocabulary), in float32 or more, of the positions that `kept` (rows, length) marks.

    The output head sees no other position: unused logits would take most of a step's memory.
    """
    import torch

    logits = _forward(model, inputs, lambda hidden: hidden[kept]).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def before_head_at(model: Any, kept: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    """Return the output head's input (positions, width) where `kept` (rows, length) marks; compute no logits."""
    found = []

    def take(hidden: "torch.Tensor") -> "torch.Tensor":
        found.append(hidden[kept])
        return hidden[:0]

    _forward(model, inputs, take)
    return found[0]


def _forward(model: Any, inputs: "Mapping[str, torch.Tensor]", before_head: Callable[[Any], Any]) -> Any:
    """Run a forward pass whose output head sees `before_head(hidden states)`."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (before_head(given[0]),))
    try:
        return model(**inputs, use_cache=False)
    finally:
        hook.remove()


def has_plain_head(model: Any) -> bool:
    """Return whether logits are only the product with the head's whole matrix, without bias, cap or scale.

    The architecture is known to have such a head, the base was not measured to have another, and the configuration's
    options that scale or cap logits are not set.
    """
    import torch

    head, config = model.get_output_embeddings(), model.config.get_text_config()
    changed = "head" in architectures.known().get(model.config.model_type, {"head": "not measured"})
    changed |= "head" in getattr(model, "base_lacks", {})
    changed |= any(getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))
    return (
        type(head) is torch.nn.Linear and head.bias is None and not changed and type(head.weight.data) is torch.Tensor
    )
