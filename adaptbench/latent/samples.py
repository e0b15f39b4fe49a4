"""Make training samples of the reasoning track, with labels on the response only."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED, Example
from adaptbench.data.padding import padded
from adaptbench.data.tokenizer import encode_prompts
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl
from adaptbench.latent import text

if TYPE_CHECKING:
    import torch


def examples(
    context: StageContext, *, worked: bool = True, skipped: int = 0, lead: Sequence[int] = ()
) -> list[Example]:
    """Return the track's training problems: the prompt as context; steps, answer and end of text as targets.

    Prompt and response are tokenized apart, as when the model writes after a prompt.

    Args:
        worked: whether the response has steps; without, it is the answer alone.
        skipped: number of first steps that are left out.
        lead: tokens before the response, without labels.

    Raises:
        AdaptbenchError: a problem lacks its steps or holds the latent token, or a sample does not fit.
    """
    tokenizer = context.tokenizer
    assert tokenizer is not None
    path = next(iter(context.data.values())) / "splits" / "train.jsonl"
    problems = read_jsonl(path, require=("prompt", "target"))
    for number, one in enumerate(problems, 1):
        _check(one, f"{path}:{number}")
    prompts = [one["prompt"] for one in problems]
    responses = [text.response(one["steps"][skipped:] if worked else [], one["target"]) for one in problems]
    read = encode_prompts(tokenizer, prompts)
    written = tokenizer(responses, add_special_tokens=False).input_ids
    made = []
    for number, (before, after) in enumerate(zip(read, written, strict=True), 1):
        ids = [*before, *lead, *after, tokenizer.eos_token_id]
        if len(ids) > context.sequence_length:
            raise AdaptbenchError(
                f"{path}:{number}: takes {len(ids)} tokens, more than training.sequence_length "
                f"({context.sequence_length}); raise that, or leave the problem out"
            )
        context_size = len(before) + len(lead)
        made.append(Example(ids, [IGNORED] * context_size + ids[context_size:]))
    return made


def _check(problem: Mapping[str, Any], where: str) -> None:
    steps = problem.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise AdaptbenchError(f"{where}: field 'steps' must be a list of text")
    if any(text.LATENT in part for part in (problem["prompt"], problem["target"], *steps)):
        raise AdaptbenchError(f"{where}: holds {text.LATENT!r}, which is the latent token")


def one_sample_per_row(rows: Sequence[Sequence[Example]], pad_id: int) -> "dict[str, torch.Tensor]":
    """Return the samples of packed rows, one in a row: input_ids and labels (samples, longest), lengths (samples,).

    So a batch with latents has the same samples as a packed batch of the same size.
    """
    import torch

    samples = [example for row in rows for example in row]
    return {
        "input_ids": padded([one.input_ids for one in samples], pad_id),
        "labels": padded([one.labels for one in samples], IGNORED),
        "lengths": torch.tensor([len(one.input_ids) for one in samples]),
    }
