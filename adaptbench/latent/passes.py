"""Forward passes through inputs with latent tokens, each computed from the model's output just before it.

Three ways to the same hidden states:

- `naive`: exact, the reference. One row at a time; each latent comes from a pass over everything before it. Nothing is
  cached between passes.
- `wavefront`: exact. A row is cut before each of its latents. Pass j runs the j-th piece of every row, of any length
  and at any place, on the keys and values of the earlier pieces. It takes one pass more than the most latents of a row.
- `jacobi`: fixed-point iteration over all positions. Each pass computes all latents from the pass before. After k
  passes the first k latents of every row are exact. So it is exact with as many `iterations` as the most latents of a
  row, the default.

Rows are (rows, length) of tokens, padded on the right; a position that holds `latent_id` is a latent. The ways agree
only without dropout; see `without_dropout`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.latent.attention import Rows, wavefront_attention
from adaptbench.latent.embeddings import embedding_table, run_decoder
from adaptbench.latent.fusion import Fusion, fuse
from adaptbench.latent.pieces import cut

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PassResult:
    """The states `hidden` (rows, length, width) after the final norm, zero at padding, and the forward passes taken."""

    hidden: "torch.Tensor"
    passes: int


Way = Callable[..., PassResult]


def logits_of(model: Any, hidden: "torch.Tensor") -> "torch.Tensor":
    """Return the model's logits (..., vocabulary) of states after the final norm.

    They are scaled as in Cohere and Granite, and capped as in Gemma.
    """
    import torch

    logits = model.get_output_embeddings()(hidden)
    config = model.config.get_text_config()
    if factor := getattr(config, "logit_scale", None):
        logits = logits * factor
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def latents_after(model: Any, hidden: "torch.Tensor", latent_id: int, fusion: Fusion) -> "torch.Tensor":
    """Return the latents (..., width) that follow the positions with these hidden states."""
    if fusion.alpha == 1:
        return fuse(fusion, hidden, None, None, latent_id)
    matrix, factor = embedding_table(model)
    return fuse(fusion, hidden, logits_of(model, hidden), matrix, latent_id, factor=factor)


def without_dropout(model: Any) -> None:
    """Put the model in evaluation mode, while layers under gradient checkpointing still recompute their activations.

    With dropout, the passes through latents would not agree. Evaluation mode turns off all randomness of a model:
    dropout in attention, embeddings and adapters, skipped layers, noise in routers. It must last until the end of the
    backward pass, which recomputes layers.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.eval()
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
            layer.training = True  # a layer recomputes only in training mode
            # A private name: transformers has no public one for a layer's checkpoint function.
            if not isinstance(layer._gradient_checkpointing_func, _Evaluating):
                layer._gradient_checkpointing_func = _Evaluating(layer, layer._gradient_checkpointing_func)


class _Evaluating:
    """A layer's checkpoint function that runs the layer in evaluation mode."""

    def __init__(self, layer: Any, checkpoint: Callable[..., Any]) -> None:
        self.layer, self.checkpoint = layer, checkpoint

    def __call__(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        return self.checkpoint(partial(self._run, forward), *inputs)

    def _run(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        self.layer.training = False
        try:
            return forward(*inputs)
        finally:
            self.layer.training = True


def naive(model: Any, input_ids: "torch.Tensor", lengths: "torch.Tensor", latent_id: int, fusion: Fusion) -> PassResult:
    """Run row by row and latent by latent, from the beginning each time."""
    import torch

    longest, rows, passes = input_ids.shape[1], [], 0
    for ids, length in zip(input_ids, lengths.tolist(), strict=True):
        vectors = model.get_input_embeddings()(ids[None, :length])
        for place in (ids[:length] == latent_id).nonzero()[:, 0].tolist():
            before = run_decoder(model, vectors[:, :place], use_cache=False).last_hidden_state[:, -1]
            latent = latents_after(model, before, latent_id, fusion).to(vectors.dtype)
            vectors = torch.cat([vectors[:, :place], latent[:, None], vectors[:, place + 1 :]], 1)
            passes += 1
        hidden = run_decoder(model, vectors, use_cache=False).last_hidden_state[0]
        rows.append(torch.nn.functional.pad(hidden, (0, 0, 0, longest - length)))
        passes += 1
    return PassResult(torch.stack(rows), passes)


def wavefront(
    model: Any, input_ids: "torch.Tensor", lengths: "torch.Tensor", latent_id: int, fusion: Fusion
) -> PassResult:
    """Run the j-th pieces of all rows in pass j; a piece ends before a latent.

    Raises:
        AdaptbenchError: gradient checkpointing is on, which would write keys and values a second time.
    """
    import torch

    if any(one.training and getattr(one, "gradient_checkpointing", False) for one in model.modules()):
        raise AdaptbenchError("forward.way: must be jacobi under gradient_checkpointing")
    order, passes = cut(input_ids == latent_id, lengths)
    rows = Rows((len(order), input_ids.shape[1]))
    numbers = torch.tensor(order, device=input_ids.device)
    where = torch.cat([numbers[now.rows] for now in passes]), torch.cat([now.places for now in passes])
    words = model.get_input_embeddings()(input_ids[where]).split([len(now.rows) for now in passes])
    states: list[torch.Tensor] = []  # (tokens, width) of every pass
    ends = None  # the states of every row's last token in the pass before
    with wavefront_attention(model):
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
    return PassResult(joined.new_zeros(*input_ids.shape, joined.shape[-1]).index_put(where, joined), len(passes))


def jacobi(
    model: Any,
    input_ids: "torch.Tensor",
    lengths: "torch.Tensor",
    latent_id: int,
    fusion: Fusion,
    *,
    iterations: int | None = None,
) -> PassResult:
    """Run a pass with zeros for latents, then `iterations` passes, each with the latents of the pass before.

    The default is the most latents of a row over all processes, since sharded weights need as many passes in each.

    Raises:
        ValueError: a row begins with a latent.
    """
    import torch

    latent = input_ids == latent_id
    if latent[:, 0].any():
        raise ValueError("a row begins with a latent, which nothing makes")
    if iterations is None:
        most = latent.sum(1).max()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        iterations = int(most)
    before = latent.roll(-1, 1)
    words = model.get_input_embeddings()(input_ids).masked_fill(latent[..., None], 0.0)
    vectors = words
    for number in range(iterations + 1):
        hidden = run_decoder(model, vectors, use_cache=False).last_hidden_state
        if number == iterations:
            break
        made = latents_after(model, hidden[before], latent_id, fusion)
        vectors = words.masked_scatter(latent[..., None], made.to(words.dtype))
    real = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
    return PassResult(hidden * real[..., None], iterations + 1)
