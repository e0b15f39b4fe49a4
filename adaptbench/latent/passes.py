"""Passes through a model whose input holds latent tokens, each made of what the model computed just before it.

Three ways to the same hidden states:

- `naive`: one token at a time, one row at a time. The reference.
- `wavefront`: exact. A row is cut before each of its latents; pass j runs the j-th piece of every row, however long it is
  and wherever it lies, on the keys and values of the earlier pieces. As many passes as the most latents of a row, and one.
- `jacobi`: all positions at once, again and again: each pass makes all latents anew from the pass before. After k passes the
  first k latents of every row are exact, so that it equals the others once it has as many `iterations` as a row has latents.

Rows are (rows, length) of tokens, padded at their ends; a position that holds `latent_id` is a latent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import AdaptbenchError
from adaptbench.latent.attention import Rows, attending, unknown_attention
from adaptbench.latent.fusion import Fusion, fuse
from adaptbench.latent.pieces import cut
from adaptbench.model.capabilities import windows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Passed:
    """`hidden` (rows, length, width) after the final norm, zero at padding; `passes` of the model it took."""

    hidden: "torch.Tensor"
    passes: int


Way = Callable[..., Passed]


def logits_of(model: Any, hidden: "torch.Tensor") -> "torch.Tensor":
    """The model's logits (..., vocabulary) of hidden states after the final norm."""
    import torch

    logits = model.get_output_embeddings()(hidden)
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def latents_after(model: Any, hidden: "torch.Tensor", latent_id: int, fusion: Fusion) -> "torch.Tensor":
    """The latents (..., width) that follow the positions with these hidden states."""
    logits = logits_of(model, hidden) if fusion.alpha < 1 else None
    return fuse(fusion, hidden, logits, model.get_input_embeddings().weight, latent_id)


def check_supported(model: Any, way: str = "wavefront") -> None:
    """Latents can pass through this model this way: its layers see everything before them, its logits and attention are known.

    Raises:
        AdaptbenchError: they cannot.
    """
    import torch

    name = type(model).__name__
    if windows(model.config.get_text_config()):
        raise AdaptbenchError(f"base.model: {name} has layers that do not see all that is before; latents need that")
    ids = torch.arange(3, device=model.device)[None] % model.config.get_text_config().vocab_size
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            vectors = model.get_input_embeddings()(ids)
            hidden = model.get_decoder()(inputs_embeds=vectors, use_cache=False).last_hidden_state
            logits = model(input_ids=ids, use_cache=False).logits
            # A wrong formula is off by far; low precision by less than a hundredth.
            if _far(logits_of(model, hidden), logits):
                raise AdaptbenchError(f"base.model: {name} makes logits in a way of its own; latents cannot use it")
            if way == "wavefront":
                plain = partial(wavefront, model, ids, torch.tensor([3], device=ids.device), -1, Fusion(alpha=1.0))
                if _far(plain().hidden, hidden):
                    raise unknown_attention(model)
                model.train()
                plain()  # refuses dropout
    finally:
        model.train(training)


def _far(ours: "torch.Tensor", theirs: "torch.Tensor") -> bool:
    return bool((ours - theirs).abs().max() > 0.02 * theirs.abs().max())


def _check_cache(model: Any) -> None:
    """transformers drops the cache under gradient checkpointing: later positions would not see earlier ones."""
    if model.training and any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise AdaptbenchError("forward.way: must be jacobi under gradient_checkpointing, which leaves no cache")


def naive(model: Any, input_ids: "torch.Tensor", lengths: "torch.Tensor", latent_id: int, fusion: Fusion) -> Passed:
    """One token after another, row by row."""
    import torch
    from transformers import DynamicCache

    _check_cache(model)
    decoder, embed = model.get_decoder(), model.get_input_embeddings()
    rows = []
    for ids, length in zip(input_ids, lengths.tolist(), strict=True):
        cache = DynamicCache()
        states: list[torch.Tensor] = []
        for place in range(length):
            vector = embed(ids[place])
            if ids[place] == latent_id:
                vector = latents_after(model, states[-1], latent_id, fusion)
            out = decoder(
                inputs_embeds=vector[None, None],
                position_ids=torch.tensor([[place]], device=ids.device),
                past_key_values=cache,
                use_cache=True,
            )
            states.append(out.last_hidden_state[0, 0])
        rows.append(torch.nn.functional.pad(torch.stack(states), (0, 0, 0, input_ids.shape[1] - length)))
    return Passed(torch.stack(rows), int(lengths.sum()))


def wavefront(model: Any, input_ids: "torch.Tensor", lengths: "torch.Tensor", latent_id: int, fusion: Fusion) -> Passed:
    """The j-th pieces of all rows in pass j; pieces end before a latent."""
    import torch

    _check_cache(model)
    order, passes = cut(input_ids == latent_id, lengths)
    rows = Rows((len(order), input_ids.shape[1]))
    numbers = torch.tensor(order, device=input_ids.device)
    where = torch.cat([numbers[now.rows] for now in passes]), torch.cat([now.places for now in passes])
    words = model.get_input_embeddings()(input_ids[where]).split([len(now.rows) for now in passes])
    states: list[torch.Tensor] = []  # of every pass: (tokens, width)
    ends = None  # of the pass before: the states of every row's last token
    with attending(model):
        for now, vectors in zip(passes, words, strict=True):
            if ends is not None:
                latents = latents_after(model, ends[: now.active], latent_id, fusion)
                vectors = vectors.index_copy(0, now.first, latents.to(vectors.dtype))
            rows.now = now
            out = model.get_decoder()(
                inputs_embeds=vectors[None], position_ids=now.places[None], use_cache=False, pieces=rows
            )
            states.append(out.last_hidden_state[0])
            ends = states[-1][now.last]
    joined = torch.cat(states)
    return Passed(joined.new_zeros(*input_ids.shape, joined.shape[-1]).index_put(where, joined), len(passes))


def jacobi(
    model: Any,
    input_ids: "torch.Tensor",
    lengths: "torch.Tensor",
    latent_id: int,
    fusion: Fusion,
    iterations: int = 2,
) -> Passed:
    """A pass with zeros for latents, then `iterations` passes with the latents that the one before gives."""
    import torch

    decoder, embed = model.get_decoder(), model.get_input_embeddings()
    latent = input_ids == latent_id
    before = latent.roll(-1, 1)  # a row never begins with a latent
    words = embed(input_ids).masked_fill(latent[..., None], 0.0)
    vectors = words
    for number in range(iterations + 1):
        hidden = decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state
        if number == iterations:
            break
        made = latents_after(model, hidden[before], latent_id, fusion)
        vectors = words.masked_scatter(latent[..., None], made.to(words.dtype))
    real = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
    return Passed(hidden * real[..., None], iterations + 1)
