"""Separates output heads from embeddings that share their matrix, for adapters of only one of them."""

from typing import Any


def untie(model: Any) -> None:
    """Give the output head a separate matrix if it shares the embeddings', and say so in the config.

    `model` may hold adapters. Saved and opened again, it then keeps both matrices.
    """
    import torch

    embeddings, head = (
        getattr(module, "base_layer", module)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    if head.weight is not embeddings.weight:
        return
    shared = embeddings.weight
    head.weight = torch.nn.Parameter(shared.detach().clone(), shared.requires_grad)
    separate(model)


def separate(model: Any) -> None:
    """Let the config say that the output head has a separate matrix, if it has one.

    transformers keeps the two apart if a file has both and they differ, whatever the config says. A model that is made
    from the config, such as an expanded one, would tie them.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or getattr(head, "base_layer", head).weight is getattr(embeddings, "base_layer", embeddings).weight:
        return
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
