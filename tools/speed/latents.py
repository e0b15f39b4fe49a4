"""Time passes through latents: the column-union schedule of the released code, the wavefront and Jacobi.

    python -m tools latent-speed results/reference/bench

The released code of LT-Tuning (arXiv 2602.10229) and Coconut cuts the batch at every column in which any row has a
latent, and makes a pass for each such column. All ways train the same model on the same batch in one process, in turn.
The tables have the median seconds of a forward and a backward pass, and the largest difference of a gradient from that
of the released schedule.
"""

import random
import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.jobs import gpus
from adaptbench.latent import passes
from adaptbench.latent.decode import Thinking, respond
from adaptbench.latent.fusion import Fusion
from tools.speed import tables

REPEATS = 5
BATCHES = (8, 32)
LENGTH, LATENTS = 256, 16
ITERATIONS = (1, 2, 3, 4, 8, 16)
MODELS = {
    "0.4 M": {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "vocab_size": 1024,
    },
    "1.4 M": {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 4096,
    },
}
LOGIT_SD = 6.0  # of logits: as confident as a trained model, whose nucleus has few words
PROBLEMS, WRITTEN = 32, 64
RELEASED = "column union (released)"
FUSION = Fusion(alpha=0.6)


def column_union(model: Any, input_ids: Any, lengths: Any, latent_id: int, fusion: Fusion) -> passes.PassResult:
    """Run the released schedule: a pass for every span between columns in which any row has a latent."""
    import torch
    from transformers import DynamicCache

    decoder, embed = model.get_decoder(), model.get_input_embeddings()
    latent = input_ids == latent_id
    columns = [0, *latent.any(0).nonzero()[:, 0].tolist(), input_ids.shape[1]]
    cache = DynamicCache()
    states: list[torch.Tensor] = []
    for first, end in pairwise(columns):
        vectors = embed(input_ids[:, first:end])
        if states:
            rows = latent[:, first].nonzero()[:, 0]
            made = passes.latents_after(model, states[-1][rows, -1], latent_id, fusion)
            start = vectors[:, 0].index_copy(0, rows, made.to(vectors.dtype))
            vectors = torch.cat([start[:, None], vectors[:, 1:]], 1)
        out = decoder(inputs_embeds=vectors, past_key_values=cache, use_cache=True)
        states.append(out.last_hidden_state)
    real = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
    return passes.PassResult(torch.cat(states, 1) * real[..., None], len(states))


def measure(out: Path) -> None:
    """Write latents.csv (training), latent_decoding.csv and latent_residual.csv with their Markdown to `out`."""
    made = {name: _model(architecture) for name, architecture in MODELS.items()}
    training = [row for name, model in made.items() for row in _training(name, model)]
    shown = {"model": "model", "way": "way", "batch_size": "batch", "passes": "passes", "median_seconds": "seconds"}
    shown |= {"times_faster": "times faster", "gradient_difference": "largest difference of a gradient"}
    caption = (
        f"A forward and a backward pass in float32, {LENGTH} tokens and {LATENTS} latents a row; medians of {REPEATS}"
        " repeats in one process. Differences in units of each parameter's largest gradient."
    )
    tables.keep(training, out / "latents.csv", shown, caption)
    decoding = [row for name, model in made.items() for row in _decoding(name, model.eval())]
    shown = {"model": "model", "batch_size": "in a batch", "median_seconds": "seconds", "times_faster": "times faster"}
    caption = (
        f"{PROBLEMS} problems, {decoding[0]['tokens']} tokens written, {decoding[0]['latent_tokens']} of them latent,"
        f" the same either way; medians of {REPEATS} repeats in one process."
    )
    tables.keep(decoding, out / "latent_decoding.csv", shown, caption)

    residual = [row for name, model in made.items() for row in _residuals(name, model)]
    shown = {
        "model": "model",
        "iterations": "iterations",
        "passes": "passes",
        "state_difference": "largest difference of a state",
    }
    shown |= {"gradient_difference": "largest difference of a gradient"}
    caption = f"Jacobi against the wavefront, {LATENTS} latents a row, in units of the largest entry."
    tables.keep(residual, out / "latent_residual.csv", shown, caption)


def _model(architecture: dict[str, int]) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = architecture["num_attention_heads"]
    config = Qwen3Config(**architecture, num_key_value_heads=heads, head_dim=32, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config).to(gpus.device())
    with torch.no_grad():
        model.model.norm.weight *= LOGIT_SD / (config.initializer_range * architecture["hidden_size"] ** 0.5)
    return model


def _latent_id(model: Any) -> int:
    return model.config.vocab_size - 1


def _training(name: str, model: Any) -> list[dict[str, Any]]:
    """Return passes, seconds and gradient differences of every way and batch size."""
    ways: dict[str, Callable[..., passes.PassResult]] = {
        RELEASED: column_union,
        "wavefront": passes.wavefront,
        "Jacobi, 2 iterations": partial(passes.jacobi, iterations=2),
        "Jacobi, 3 iterations": partial(passes.jacobi, iterations=3),
    }
    rows = []
    for size in BATCHES:
        batch = _batch(size, _latent_id(model), model.device)
        reference = _gradients(model, column_union, batch)[1]
        found, seconds = tables.in_turn(
            {way: partial(_gradients, model, run, batch) for way, run in ways.items()}, REPEATS
        )
        released = statistics.median(seconds[RELEASED])
        for way in ways:
            count, gradients = found[way]
            rows.append(
                {
                    "model": name,
                    "way": way,
                    "batch_size": size,
                    "latents": LATENTS,
                    "length": LENGTH,
                    "passes": count,
                    **tables.spread(seconds[way]),
                    "times_faster": round(released / statistics.median(seconds[way]), 2),
                    "gradient_difference": f"{_apart(gradients, reference):.1e}",
                    **tables.surroundings(model.device),
                }
            )
    return rows


def _residuals(name: str, model: Any) -> list[dict[str, Any]]:
    """Return the differences of Jacobi from the exact result after each number of iterations."""
    ids, lengths = batch = _batch(BATCHES[0], _latent_id(model), model.device)
    exact = passes.wavefront(model, ids, lengths, _latent_id(model), FUSION).hidden.detach()
    gradients = _gradients(model, passes.wavefront, batch)[1]
    rows = []
    for iterations in ITERATIONS:
        way = partial(passes.jacobi, iterations=iterations)
        near = way(model, ids, lengths, _latent_id(model), FUSION).hidden.detach()
        rows.append(
            {
                "model": name,
                "iterations": iterations,
                "passes": iterations + 1,
                "state_difference": f"{float((near - exact).abs().max() / exact.abs().max()):.1e}",
                "gradient_difference": f"{_apart(_gradients(model, way, batch)[1], gradients):.1e}",
                **tables.surroundings(model.device),
            }
        )
    return rows


def _decoding(name: str, model: Any) -> list[dict[str, Any]]:
    """Return the seconds of decoding with latents, all rows in a batch and one at a time.

    Raises:
        AdaptbenchError: the responses differ; nothing is written.
    """
    rng = random.Random(1)
    latent_id = _latent_id(model)
    thinking = Thinking(latent_id, FUSION, trigger="random", rate=0.3, budget=LATENTS)
    prompts = [[rng.randrange(1, latent_id) for _ in range(rng.randint(20, 60))] for _ in range(PROBLEMS)]
    options: dict[str, Any] = {"max_new_tokens": WRITTEN, "end_id": -1, "pad_id": 0}
    respond(model, prompts[:2], thinking, **options)  # the first use is slower

    def written(size: int) -> list[list[int]]:
        batches = (prompts[first : first + size] for first in range(0, PROBLEMS, size))
        return [one.tokens for batch in batches for one in respond(model, batch, thinking, **options)]

    made, seconds = tables.in_turn({size: partial(written, size) for size in (PROBLEMS, 1)}, REPEATS)
    if made[1] != made[PROBLEMS]:
        raise AdaptbenchError("responses differ side by side and one at a time")
    alone = statistics.median(seconds[1])
    return [
        {
            "model": name,
            "batch_size": size,
            "problems": PROBLEMS,
            "tokens": sum(map(len, made[1])),
            "latent_tokens": sum(one.count(latent_id) for one in made[1]),
            **tables.spread(times),
            "times_faster": round(alone / statistics.median(times), 2),
            **tables.surroundings(model.device),
        }
        for size, times in seconds.items()
    ]


def _batch(size: int, latent_id: int, device: Any) -> tuple[Any, Any]:
    """Return rows of a question and a response with LATENTS latents at random positions, one in six beside another."""
    import torch

    rng = random.Random(0)
    ids = [[rng.randrange(latent_id) for _ in range(LENGTH)] for _ in range(size)]
    for row in ids:
        for place in rng.sample(range(LENGTH // 4, LENGTH), LATENTS):
            row[place] = latent_id
    return torch.tensor(ids, device=device), torch.full((size,), LENGTH, device=device)


def _gradients(model: Any, way: Callable[..., passes.PassResult], batch: tuple[Any, Any]) -> tuple[int, dict[str, Any]]:
    """Return the number of passes of one forward and backward pass, and the gradients."""
    import torch

    ids, lengths = batch
    model.zero_grad(set_to_none=True)
    passed = way(model, ids, lengths, _latent_id(model), FUSION)
    logits = passes.logits_of(model, passed.hidden[:, LENGTH // 4 : -1])
    targets = ids[:, LENGTH // 4 + 1 :]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    if ids.device.type == "cuda":
        torch.cuda.synchronize()
    return passed.passes, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _apart(gradients: dict[str, Any], reference: dict[str, Any]) -> float:
    """Return the largest difference, in units of the reference's largest entry of that parameter."""
    return max(float((gradients[n] - g).abs().max() / g.abs().max().clamp(min=1e-12)) for n, g in reference.items())
