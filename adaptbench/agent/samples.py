"""Make training samples of trajectories: one for each step and role, with labels on its target only.

The tokens of the target and the end of text have labels. Tools, instruction, history, observations and this step's
thought (if the role reads it) have none. A prompt that does not fit loses its oldest history first, never its tools or
instruction; training, static and live evaluation use the same function for that. A sample that still does not fit is an
error. In an "optional" trajectory (published data of any length) it is left out and counted.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adaptbench.agent import dialogue
from adaptbench.agent.trajectory import check
from adaptbench.contracts import Record, StageContext
from adaptbench.data.packing import IGNORED, Example
from adaptbench.data.prefixes import share
from adaptbench.data.tokenizer import encode_prompts
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Literal["all", "first_half", "second_half"]


def examples(context: StageContext, roles: Sequence[str], part: Part = "all") -> list[Example]:
    """Return the samples of `roles` from the training trajectories of the context's first benchmark.

    If the base can read shared prefixes, the samples of a trajectory that begin alike are joined.

    Raises:
        AdaptbenchError: a record is not a trajectory, or a sample does not fit even without history.
    """
    assert context.tokenizer is not None
    path = next(iter(context.data.values())) / "splits" / "train.jsonl"
    together = context.can("packing") and context.can("sharing")
    made: list[Example] = []
    count, too_long = 0, list[str]()
    for trajectory in read(path, part):
        left_out = too_long if trajectory.get("optional") else None
        samples = role_examples([trajectory], roles, context.tokenizer, context.sequence_length, left_out)
        count += len(samples)
        made += share(samples, context.sequence_length) if together else samples
    if too_long:
        print(f"{len(too_long)} of {count + len(too_long)} samples left out, such as: {too_long[0]}", file=sys.stderr)
    return made


def read(path: Path, part: Part = "all") -> list[Record]:
    """Return the trajectories of a file: all, or every second one from the first or the second on."""
    records = read_jsonl(path, require=("instruction",))
    for number, record in enumerate(records, 1):
        check(record, f"{path}:{number}")
    return {"all": records, "first_half": records[::2], "second_half": records[1::2]}[part]


def role_examples(
    trajectories: Iterable[Record],
    roles: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    length: int,
    too_long: list[str] | None = None,
) -> list[Example]:
    """Return a sample for every step of every trajectory and each of `roles` that the step needs.

    Messages about samples that do not fit are added to `too_long`.

    Raises:
        AdaptbenchError: a sample does not fit, and `too_long` is None.
    """
    made = []
    for trajectory in trajectories:
        for number, one in enumerate(trajectory["steps"]):
            asked = {"instruction": trajectory["instruction"], "tools": trajectory["tools"]}
            asked |= {"history": trajectory["steps"][:number], "thought": one["thought"]}
            for role in roles:
                text = dialogue.target(role, one)
                if text is None:
                    continue
                try:
                    made.append(_example(tokenizer, role, asked, text, length))
                except AdaptbenchError as error:
                    if too_long is None:
                        raise
                    too_long.append(str(error))
    return made


def _example(
    tokenizer: "PreTrainedTokenizerBase", role: str, asked: Mapping[str, Any], text: str, length: int
) -> Example:
    target = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    prompt = prompt_ids(tokenizer, role, asked, length - len(target))
    if prompt is None:
        needed = len(prompt_ids(tokenizer, role, {**asked, "history": []}, None) or ()) + len(target)
        raise AdaptbenchError(
            f"training.sequence_length: must be >= {needed} for the {role}'s prompt {asked['instruction'][:50]!r}"
        )
    return Example([*prompt, *target], [*[IGNORED] * len(prompt), *target])


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", role: str, asked: Mapping[str, Any], room: int | None
) -> list[int] | None:
    """Return the prompt of `role` in at most `room` tokens (None: any number); None if it does not fit.

    `asked` holds dialogue.prompt's arguments. As many of the oldest steps of the history are left out as necessary.
    """
    for first in range(len(asked["history"]) + 1):
        text = dialogue.prompt(role, **{**asked, "history": asked["history"][first:]})
        (ids,) = encode_prompts(tokenizer, [text])
        if room is None or len(ids) <= room:
            return ids
    return None
