"""Trajectories as what each role is trained on: one sample a step and role, only its target trained.

Labels are exact: the tokens of the target and the end of text train; tools, instruction, history, observations and this
step's thought (where the role reads it) do not. A prompt that is too long loses its oldest history first, never its tools
or instruction; training, static and live evaluation cut it by the same function. One that is too long even so is an error, but where
its trajectory is "optional" (published data of any length), it is left out and counted.
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
    """The samples of `roles` from the track's training trajectories (those of the context's first benchmark), those of a
    trajectory joined where they begin alike, if the base can read them so.

    Raises:
        AdaptbenchError: a record is no trajectory, or a sample cannot fit whatever history it loses.
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
    """The trajectories of a file, or every second one of them from the first or the second on."""
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
    """A sample for every step of every trajectory and each of `roles` that the step needs.

    What is said of those that cannot fit goes into `too_long`.

    Raises:
        AdaptbenchError: one cannot fit, and there is no such list.
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
    """The tokens of what `role` is asked, in at most `room` tokens (None: any number).

    `asked` holds dialogue.prompt's arguments. The oldest steps of the history are left out as far as need be; None where
    even that does not suffice.
    """
    for first in range(len(asked["history"]) + 1):
        text = dialogue.prompt(role, **{**asked, "history": asked["history"][first:]})
        (ids,) = encode_prompts(tokenizer, [text])
        if room is None or len(ids) <= room:
            return ids
    return None
